"""Labelled sounds from folders and tables."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from panns_jax.data.labelled.read import read_labelled
from panns_jax.errors import InputError


@pytest.fixture
def table(tmp_path, write_sounds):
    """Writes a table beside a.wav, b.wav and c.wav."""
    write_sounds("a.wav", "b.wav", "c.wav")

    def write(text: str, name: str = "clips.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def told(labelled):
    return [(clip.sound.path.name, clip.labels) for clip in labelled.clips]


def test_each_folder_is_a_class_and_what_is_below_it_belongs_to_it(tmp_path, write_sounds):
    write_sounds("dog/b.wav", "cat/deep/er/a.flac", "dog/a.ogg", ".hidden/x.wav", "dog/.y.wav")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.md").write_text("x")
    (tmp_path / "cat" / "cover.jpg").write_bytes(b"x")
    labelled = read_labelled(str(tmp_path))
    assert told(labelled) == [("a.flac", ("cat",)), ("a.ogg", ("dog",)), ("b.wav", ("dog",))]
    assert tuple(labelled.labels) == ("cat", "dog") and not labelled.multi_label
    assert {clip.split for clip in labelled.clips} == {None}
    np.testing.assert_array_equal(labelled.targets(), [[True, False], [False, True], [False, True]])


def test_folders_of_splits_above_the_classes_are_the_makers_splits(tmp_path, write_sounds):
    write_sounds("Train/dog/a.wav", "val/dog/b.wav", "test/cat/c.wav")
    labelled = read_labelled(str(tmp_path))
    assert [clip.split for clip in labelled.clips] == ["train", "test", "validation"]
    assert tuple(labelled.labels) == ("cat", "dog")


def test_a_train_may_be_a_class(tmp_path, write_sounds):
    write_sounds("train/a.wav", "ship/b.wav")
    assert tuple(read_labelled(str(tmp_path)).labels) == ("ship", "train")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["dog/a.wav", "b.wav"], r"b\.wav: is in no folder of a class"),
        (["train/dog/a.wav", "test/b.wav"], r"b\.wav: is in no folder of a class"),
        (["train/dog/a.wav", "test/dog/b.wav", "extra/c.wav"], r"holds extra beside test, train: folders are either"),
        ([], "there are no sound files"),
    ],
)
def test_a_folder_that_is_not_so_is_refused(tmp_path, write_sounds, names, sentence):
    write_sounds(*names)
    with pytest.raises(InputError, match=sentence):
        read_labelled(str(tmp_path))


def test_options_that_mean_nothing_to_the_data_are_refused(tmp_path, table):
    clips = table("path,label\na.wav,x\n")
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        (str(tmp_path), {"label_column": "x"}, "is a folder, to which --label-column means nothing; leave it out"),
        (str(tmp_path), {"allow_missing": True}, "--allow-missing means nothing"),
        (clips, {"tfds_bits": 16}, "is a table, to which --tfds-bits means nothing"),
        ("tfds:tones", {"root": tmp_path}, "is a TFDS data set, to which --root means nothing"),
        (clips, {"label_separator": "|"}, r"--label-separator '\|' is what stands between several .* --multi-label"),
        (clips, {"label_separator": "", "multi_label": True}, "--label-separator '' must not be empty"),
    )
    for data, option, said in cases:
        with pytest.raises(InputError, match=said):
            read_labelled(data, **option)


def test_what_is_no_data_is_refused(tmp_path, write_sounds):
    (sound,) = write_sounds("a.wav")
    for data in (str(tmp_path / "nothing"), str(sound), "tfds:a b"):
        with pytest.raises(InputError, match="tfds:NAME"):
            read_labelled(data)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\na.wav,dog\nb.wav,cat\n", "clips.csv"),
        ("\ufeffpath;label\r\n\r\na.wav;dog\r\n;\r\nb.wav;cat\r\n", "clips.csv"),
        ("\n\nsep=|\npath|label\na.wav|dog\n\nb.wav|cat", "clips.csv"),
        ("label\tFile\tother\ndog\ta.wav\t\ncat\tb.wav\t1\n", "clips.tsv"),
        ('filename , class\n"a.wav", "dog"\n"b.wav", cat\n', "clips.csv"),
        ("path,target,category\na,7,dog\nb,3,cat\n", "clips.csv"),  # without the ending
    ],
)
def test_tables_are_read_as_people_write_them(table, text, name):
    labelled = read_labelled(table(text, name))
    assert told(labelled) == [("a.wav", ("dog",)), ("b.wav", ("cat",))]
    assert tuple(labelled.labels) == ("cat", "dog")


def test_utf_16_is_read_too(table):
    assert told(read_labelled(table("path,label\na.wav,Käfer\n".encode("utf-16")))) == [("a.wav", ("Käfer",))]


def test_parquet_tables_hold_lists_and_numbers(tmp_path, table):
    columns = {"path": ["a.wav", "b.wav"], "labels": [["x", "y"], []], "fold": [1.0, 2.0], "start": [0.05, None]}
    parquet.write_table(pa.table(columns), tmp_path / "clips.parquet")
    labelled = read_labelled(str(tmp_path / "clips.parquet"), multi_label=True)
    assert told(labelled) == [("a.wav", ("x", "y")), ("b.wav", ())]
    assert [clip.fold for clip in labelled.clips] == [1, 2]
    assert len(labelled.clips[0].sound.waveform(8000)) == 400
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_labelled(str(tmp_path / "bad.parquet"))


def test_parquet_tables_hold_bytes_numbers_that_are_none_and_lists_of_numbers(tmp_path, write_sounds):
    write_sounds("a.wav", "b.wav")
    path = tmp_path / "clips.parquet"
    parquet.write_table(pa.table({"path": [b"a.wav", b"b.wav"], "labels": [[1.0, math.nan], [10.0]]}), path)
    assert told(read_labelled(str(path), multi_label=True)) == [("a.wav", ("1",)), ("b.wav", ("10",))]
    parquet.write_table(pa.table({"path": ["a.wav"], "label": [{"name": "x"}]}), path)
    with pytest.raises(InputError, match=r"clips\.parquet, row 1: its label must be a text or a number, not .*'name'"):
        read_labelled(str(path))
    parquet.write_table(pa.table({"path": ["a.wav"], "labels": [[["x"]]]}), path)
    with pytest.raises(InputError, match=r"row 1: a class of its labels must be a text or a number"):
        read_labelled(str(path), multi_label=True)
    parquet.write_table(pa.table({"audio": [{"bytes": b"", "path": "a.wav"}], "label": ["x"]}), path)
    with pytest.raises(InputError, match=r"row 1: its audio must be a text or a number"):
        read_labelled(str(path))


def test_cells_are_lists_and_numbers_that_are_none_as_pandas_writes_them(table):
    text = "path,labels,start,fold\na.wav,\"['x', 'y, z']\",NaN,1.0\nb.wav,[],nan,NaN\nc.wav,[x],,\n"
    labelled = read_labelled(table(text), multi_label=True)
    assert told(labelled) == [("a.wav", ("x", "y, z")), ("b.wav", ()), ("c.wav", ("[x]",))]
    assert [clip.fold for clip in labelled.clips] == [1, None, None]
    with pytest.raises(InputError, match=r"line 2: its labels must have commas between the classes"):
        read_labelled(table("path,labels\na.wav,['x' 'y']\n"), multi_label=True)


def test_a_line_break_in_a_class_is_a_space(table):
    assert told(read_labelled(table('path,label\na.wav,"small\r\n dog"\n'))) == [("a.wav", ("small dog",))]


def test_several_classes_stand_between_semicolons_or_else_commas(table):
    by_comma = table('path,labels\na.wav,"x, y"\nb.wav,\n')
    assert told(read_labelled(by_comma, multi_label=True)) == [("a.wav", ("x", "y")), ("b.wav", ())]
    with pytest.raises(InputError, match=r"line 2: has several classes \(x, y\), which --multi-label"):
        read_labelled(by_comma)
    by_semicolon = table('path,labels\na.wav,"Music, small room;x"\nb.wav,"Music, small room"\n')
    labelled = read_labelled(by_semicolon, multi_label=True)
    assert tuple(labelled.labels) == ("Music, small room", "x")
    assert tuple(read_labelled(table("path,label\na.wav,x+y\n"), multi_label=True, label_separator="+").labels) == (
        "x",
        "y",
    )


def test_rows_of_the_same_clip_are_one_clip(table):
    text = "file,label,start,end\na.wav,x,0,0.05\na.wav,y,0,0.05\na.wav,x,0.05,0.1\n"
    labelled = read_labelled(table(text), multi_label=True)
    assert told(labelled) == [("a.wav", ("x", "y")), ("a.wav", ("x",))]
    with pytest.raises(InputError, match=r"line 3: gives .*a\.wav the class 'y', and in line 2 'x'"):
        read_labelled(table(text))


def test_a_clip_is_its_part_of_the_file(tmp_path, table):
    labelled = read_labelled(table("file,label,onset,offset\na.wav,x,0.025,0.05\na.wav,x,0.05,\nb.wav,x,,0.01\n"))
    whole, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    first, second, third = (clip.sound.waveform(8000) for clip in labelled.clips)
    np.testing.assert_array_equal(first, whole[200:400])
    np.testing.assert_array_equal(second, whole[400:])
    assert len(third) == 80
    assert labelled.clips[0].sound.name.endswith("a.wav from 0.025 to 0.05 s")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\na.wav,x\nno.wav,x\n", r"line 3: there is no sound file .*no\.wav; --allow-missing"),
        ("path,label\nno.wav,x\n", r"line 2: there is no sound file .*; name the folder .* with --root"),
        ("path,label\na.wav,x\nb.wav,\n", r"line 3: has no class in its column 'label'"),
        ("path,label\na.wav,x\nb.wav,NaN\n", r"line 3: has no class in its column 'label'"),
        ("path,label\n,x\n", r"line 2: has no path in its column 'path'"),
        ("path,label,start,end\na.wav,x,2,1\n", r"line 2: its end at 1 s is not after its start at 2 s"),
        ("path,label,start,end\na.wav,x,1,1\n", r"line 2: its end at 1 s is not after its start at 1 s"),
        ("path;label;start\na.wav;x;1,5\n", r"line 2: its start must be seconds, such as 1\.5, not '1,5'"),
        ("path,label,start\na.wav,x,-1\n", r"line 2: its start must be seconds"),
        ("path,label,fold\na.wav,x,one\n", r"line 2: its fold must be a whole number, not 'one'"),
        ("path,label,split\na.wav,x,mine\n", r"line 2: its split must be train, validation or test, not 'mine'"),
        ("path,label\na.wav,x,y\n", r"line 2: has 3 cells, and the first line 2"),
        ('path,label\na.wav,"x\n', r"line \d: a quote is not closed"),
        ("name,label\na.wav,x\n", r"no column is called path, .*--path-column"),
        ("path,what\na.wav,x\n", r"no column is called label, .*--label-column"),
        ("path,label\n", r"holds no rows"),
        ("", r"is empty"),
        ("path,label\0\n", r"is no table but something else"),
    ],
)
def test_a_table_that_is_not_so_is_refused_with_the_line(table, text, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        read_labelled(table(text))
    assert "clips.csv" in str(refused.value)


def test_columns_of_paths_have_any_name_and_patterns_hold_columns_alone(table):
    for column in ("audio.path", "path [wav]", "file:name", "a!r", "{x}"):
        assert told(read_labelled(table(f"{column},label\na.wav,x\n"), path_column=column)) == [("a.wav", ("x",))]
    names = table("Take,label\na,x\n")
    assert told(read_labelled(names, path_column="{take}.wav")) == [("a.wav", ("x",))]
    for pattern, sentence in (("{take:d}", "has no column 'take:d'"), ("{take", "--path-column {take: is no pattern")):
        with pytest.raises(InputError, match=sentence):
            read_labelled(names, path_column=pattern)


def test_missing_files_may_be_allowed_and_are_unreadable_then(table):
    labelled = read_labelled(table("path,label\na.wav,x\nno.wav,x\n"), allow_missing=True)
    assert len(labelled) == 2
    with pytest.raises(InputError, match=r"no\.wav: there is no such file \(.*line 3\)"):
        labelled.clips[1].sound.waveform(8000)


def test_the_table_of_esc_50_is_read(tmp_path, write_sounds):
    write_sounds("audio/1-100032-A-0.wav", "audio/1-17367-A-10.wav")
    meta = tmp_path / "esc50.csv"
    meta.write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "1-17367-A-10.wav,2,10,rain,True,17367,A\n"
    )
    labelled = read_labelled(str(meta), root=tmp_path / "audio")
    assert tuple(labelled.labels) == ("dog", "rain") and [clip.fold for clip in labelled.clips] == [1, 2]
    assert tuple(read_labelled(str(meta), root=tmp_path / "audio", label_column="target").labels) == ("0", "10")


def test_the_table_of_urbansound8k_is_read(tmp_path, write_sounds):
    write_sounds("audio/fold5/100032-3-0-0.wav", "audio/fold1/100263-2-0-117.wav")
    meta = tmp_path / "UrbanSound8K.csv"
    meta.write_text(
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
        "100263-2-0-117.wav,100263,58.5,62.5,1,1,2,children_playing\n"
    )
    labelled = read_labelled(str(meta), root=tmp_path / "audio")
    assert tuple(labelled.labels) == ("children_playing", "dog_bark")
    # Its times are those in recordings that are not there.
    assert [len(clip.sound.waveform(8000)) for clip in labelled.clips] == [800, 800]
    pattern = "fold{fold}/{slice_file_name}"
    labelled = read_labelled(
        str(meta),
        root=tmp_path / "audio",
        path_column=pattern,
        start_column="none",
        end_column="none",
        fold_column="none",
    )
    assert labelled.clips[0].fold is None


def test_the_table_of_fsd50k_is_read(tmp_path, write_sounds):
    write_sounds("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav")
    meta = tmp_path / "dev.csv"
    meta.write_text(
        "fname,labels,mids,split\n"
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train\n'
        '16399,"Music","/m/04rlf",val\n'
    )
    labelled = read_labelled(str(meta), root=tmp_path / "FSD50K.dev_audio", multi_label=True)
    assert tuple(labelled.labels) == ("Electric_guitar", "Guitar", "Music")
    assert [clip.split for clip in labelled.clips] == ["train", "validation"]
