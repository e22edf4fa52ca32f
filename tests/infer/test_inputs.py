"""From what people type to the sounds that they mean."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile

from panns_jax.audio import SOUND_EXTENSIONS
from panns_jax.errors import InputError
from panns_jax.infer.inputs import Inputs
from panns_jax.infer.sources import SoundFile, StandardInput, Unusable, failure
from panns_jax.streams import RawFormat

needs_links = pytest.mark.skipif(os.name != "posix", reason="links take rights on Windows")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*named: str | Path, **options: Any) -> list[str]:
    return [source.name for source in Inputs(names=list(map(Path, named)), **options).sources()]


def listed(*lists: str | Path, **options: Any) -> list[str]:
    return names(lists=list(map(Path, lists)), **options)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*named: str) -> list[str]:
    return [str(Path(name)) for name in named]


def test_files_keep_their_order_and_are_heard_as_often_as_they_are_named(here: Path):
    touch(here, "b.wav", "a.wav")
    assert names("b.wav", "a.wav", "b.wav") == ["b.wav", "a.wav", "b.wav"]
    assert names("missing.wav", "a.wav") == ["missing.wav", "a.wav"]  # what is missing is found out by reading


def test_a_folder_is_all_sounds_in_it_and_below_sorted(here: Path):
    touch(here, "d/b.WAV", "d/a/z.mp3", "d/c.m4a", "d/a.flac", "d/notes.txt", "d/a/deep/er/x.ogg", "d/README", "d/wav")
    touch(here, "d/.hidden.wav", "d/.git/x.wav", "d/a/._z.mp3")
    expected = paths("d/a/deep/er/x.ogg", "d/a/z.mp3", "d/a.flac", "d/b.WAV", "d/c.m4a")
    assert names("d") == sorted(expected, key=Path)
    assert names(here / "d") == [str(here / name) for name in sorted(expected, key=Path)]


def test_a_file_that_is_named_is_taken_whatever_its_name(here: Path):
    touch(here, "sound", ".hidden.txt")
    assert names("sound", ".hidden.txt") == ["sound", ".hidden.txt"]


def test_every_extension_of_packing_is_a_sound_here_too(here: Path):
    touch(here, *(f"d/x{extension}" for extension in SOUND_EXTENSIONS))
    assert len(names("d")) == len(SOUND_EXTENSIONS)


@needs_links
def test_links_are_followed_but_not_in_circles(here: Path):
    touch(here, "real/a.wav", "elsewhere/b.wav", "d/z/c.wav")
    (here / "d/loop").symlink_to(".")
    (here / "d/up").symlink_to("..")
    (here / "d/z/back").symlink_to("../z")
    (here / "d/a_link").symlink_to("z")  # sorted before what it leads to, which keeps its own path
    (here / "d/out").symlink_to(here / "elsewhere")
    (here / "d/file.wav").symlink_to(here / "real/a.wav")
    for i in range(20):  # all of which could be gone through in any order
        touch(here, f"d/many/{i}/x.wav")
        for j in range(20):
            (here / f"d/many/{i}/to{j}").symlink_to(f"../{j}")
    found = names("d")
    assert [name for name in found if "many" in name] == sorted(paths(*(f"d/many/{i}/x.wav" for i in range(20))))
    rest = [name for name in found if "many" not in name]
    # "up" leads to all that is beside d, which holds the rest; d itself is known.
    assert rest == paths("d/file.wav", "d/out/b.wav", "d/up/real/a.wav", "d/z/c.wav")
    assert names("d/**/c.wav") == paths("d/z/c.wav")


@needs_links
def test_a_link_to_itself_is_a_file_that_cannot_be_read(here: Path):
    touch(here, "d/a.wav")
    (here / "d/self.wav").symlink_to("self.wav")
    (here / "d/gone.wav").symlink_to("nowhere.wav")
    sources = Inputs(names=[Path("d")]).sources()
    assert [bool(failure(source)) for source in sources] == [False, True, True]
    assert failure(sources[1]) == f"{Path('d/gone.wav')}: there is no such file"


def test_patterns_that_the_shell_left_are_replaced(here: Path):
    touch(here, "d/b.wav", "d/a.wav", "d/c.mp3", "d/e/f.wav", "d/e/g/h.wav", "d/notes.txt", "d/.x.wav", "e/i.wav")
    assert names("d/*.wav") == paths("d/a.wav", "d/b.wav")
    assert names("*/?.wav") == paths("d/a.wav", "d/b.wav", "e/i.wav")
    assert names("d/[bc].*") == paths("d/b.wav", "d/c.mp3")
    assert names("d/**/*.wav") == paths("d/a.wav", "d/b.wav", "d/e/f.wav", "d/e/g/h.wav")
    assert names("**/g/*.wav") == paths("d/e/g/h.wav")
    assert names("?/**/f.wav") == paths("d/e/f.wav")
    assert names(here / "d/**/h.wav") == [str(here / "d/e/g/h.wav")]
    assert names("d/n*.txt") == paths("d/notes.txt")
    # Everything means every sound; a folder that matches is read as one that is named.
    everything = paths("d/a.wav", "d/b.wav", "d/c.mp3", "d/e/f.wav", "d/e/g/h.wav")
    assert names("d/*") == names("d/**") == names("d/**/*") == everything


def test_brackets_in_the_name_of_a_file_are_no_pattern(here: Path):
    touch(here, "song [live].wav", "song l.wav")
    assert names("song [live].wav") == ["song [live].wav"]


def test_what_yields_nothing_is_told_in_its_place(here: Path):
    touch(here, "a.wav", "text/notes.txt")
    (here / "empty").mkdir()
    sources = Inputs(names=list(map(Path, ["empty", "a.wav", "text", "*.flac", "gone/**"]))).sources()
    assert [failure(source) for source in sources] == [
        "empty: no sound file is in the folder, as far as their names tell",
        None,
        "text: no sound file is in the folder, as far as their names tell",
        "*.flac: no file matches the pattern",
        f"{Path('gone/**')}: no sound file matches the pattern",
    ]
    with pytest.raises(InputError, match="empty: no sound file"):
        next(sources[0].blocks(32000))


def test_a_folder_that_may_not_be_looked_into_is_told_beside_what_is_found(here: Path, monkeypatch: Any):
    touch(here, "d/a.wav", "d/b/secret.wav", "d/c.wav")
    scandir = os.scandir

    def scan(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    sources = Inputs(names=[Path("d")]).sources()
    assert [source.name for source in sources] == paths("d/a.wav", "d/b", "d/c.wav")
    assert failure(sources[1]) == f"{Path('d/b')}: the folder cannot be listed: Permission denied"


@pytest.mark.parametrize(
    "content",
    [
        b"b.wav\na b,c.wav\n\n#1.wav\n",
        b"b.wav\r\na b,c.wav\r\n#1.wav",
        b"\xef\xbb\xbfb.wav\na b,c.wav\n#1.wav\n",
        "b.wav\r\na b,c.wav\r\n#1.wav\r\n".encode("utf-16"),
        b"b.wav\0a b,c.wav\0#1.wav\0",
    ],
)
def test_a_list_has_a_path_a_line(here: Path, content: bytes):
    touch(here, "b.wav", "a b,c.wav", "#1.wav")
    (here / "list.txt").write_bytes(content)
    assert listed("list.txt") == ["b.wav", "a b,c.wav", "#1.wav"]


def test_paths_of_a_list_begin_at_its_folder_or_else_at_the_working_folder(here: Path):
    touch(here, "lists/beside.wav", "both.wav", "lists/both.wav", "here.wav", "lists/folder/x.wav")
    (here / "lists/a.txt").write_text(f"beside.wav\nboth.wav\nhere.wav\n{here / 'here.wav'}\nnowhere.wav\nfolder\n")
    assert listed("lists/a.txt") == [
        *paths("lists/beside.wav", "lists/both.wav", "here.wav"),
        str(here / "here.wav"),
        *paths("lists/nowhere.wav", "lists/folder/x.wav"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems where names are text")
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_names_in_lists_and_folders_need_not_be_text(here: Path, name: str):
    (here / "d").mkdir()
    path = os.fsdecode(b"d/caf\xe9.wav")
    Path(path).touch()
    (here / name).write_bytes(b"path\nd/caf\xe9.wav\n" if name.endswith("csv") else b"d/caf\xe9.wav\n")
    assert listed(name) == names("d") == [path]
    assert failure(SoundFile(Path(path))) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,filename,label\n1,a.wav,dog\n2,"b,1.wav",cat\n3,a.wav,rain\n4,,none\n'),
        ("a.csv", "id;FileName;label\n1;a.wav;dog\n2;b,1.wav;cat\n"),
        ("a.tsv", "filename\tonset\toffset\tevent_label\na.wav\t0\t1\tx\na.wav\t2\t3\ty\nb,1.wav\t0\t1\tz\n"),
        ("a.tsv", "path\na.wav\nb,1.wav\n"),
        ("a.csv", '"label","audio"\r\n"dog","a.wav"\r\n"cat","b,1.wav"\r\n'),
        ("a.csv", 'file,path\nx,a.wav\ny,"b,1.wav"\n'),
    ],
)
def test_a_table_names_files_in_a_column_each_of_which_is_taken_once(here: Path, name: str, content: str):
    touch(here, "a.wav", "b,1.wav")
    (here / name).write_text(content)
    assert listed(name) == ["a.wav", "b,1.wav"]


def test_the_column_can_be_named(here: Path):
    (here / "a.csv").write_text("path,original file\na.wav,b.wav\n")
    (here / "raven.txt").write_text("Selection\tOriginal File\n1\tc.wav\n2\tc.wav\n")
    assert listed("a.csv", "raven.txt", column="Original file") == ["b.wav", "c.wav"]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        (
            "a.csv",
            "one,two\nx,y\n",
            None,
            r"no column is called path, .* \(those of its first line are 'one', 'two'\);",
        ),
        ("a.csv", "one,two\nx,y\n", "three", "has no column 'three'; those of its first line are 'one', 'two'"),
        ("a.csv", "", None, r"no column is called path, .* \(it is empty\)"),
        ("a.csv", "path\n\n", None, "names no files"),
        ("a.txt", "\n \n", None, "names no files"),
        ("a.csv", "path\na\0b\n", None, "is no table but something else than text"),
        ("a.wav", "a", None, "is no list but a sound, by its name; name it without --list"),
        ("a.csv", "path\n" + "x" * 200_000, None, "line 2: field larger than field limit"),
    ],
)
def test_a_list_that_is_none_is_refused(here: Path, name: str, content: str, column: str | None, message: str):
    (here / name).write_text(content)
    with pytest.raises(InputError, match=rf"^--list {name}[:,].*{message}"):
        listed(name, column=column)


def test_a_list_that_cannot_be_read_is_named(here: Path):
    with pytest.raises(InputError, match=r"^--list gone\.txt: cannot be read: No such file"):
        listed("gone.txt")
    with pytest.raises(InputError, match=r"^--list \.: cannot be read: Is a directory"):
        listed(".")


def test_a_list_may_come_from_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch):
    touch(here, "a.wav", "b.wav")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.wav\na.wav\n")))
    assert listed("-") == ["b.wav", "a.wav"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"name\tn\nb.wav\t1\na.wav\t2\n")))
    assert listed("-", column="name") == ["b.wav", "a.wav"]


def test_standard_input_is_read_once(here: Path):
    (here / "a.txt").write_text("-\n")
    assert names("-") == ["standard input"]
    assert listed("a.txt") == ["-"]  # in a list it is a file of that name
    for twice in (Inputs(names=[Path("-"), Path("-")]), Inputs(names=[Path("-")], lists=[Path("-")])):
        with pytest.raises(InputError, match=r"standard input \(-\) can be read once only"):
            twice.sources()


def test_options_that_mean_nothing_are_refused(here: Path):
    touch(here, "a.wav", "d/a.wav")
    with pytest.raises(InputError, match="--column tells the column of a list"):
        names("a.wav", column="path")
    with pytest.raises(
        InputError, match=r"--raw-rate is for standard input \(-\) and files that end in \.raw or \.pcm"
    ):
        names("a.wav", "d", raw=RawFormat(8000))


def test_raw_samples_are_standard_input_and_files_of_their_extensions(here: Path):
    touch(here, "d/a.raw", "d/b.wav", "c.PCM")
    raw = RawFormat(8000)
    sources = Inputs(names=list(map(Path, ["-", "d", "c.PCM"])), raw=raw).sources()
    assert sources == [
        StandardInput(raw=raw),
        SoundFile(Path("d/a.raw"), raw=raw),
        SoundFile(Path("d/b.wav")),
        SoundFile(Path("c.PCM"), raw=raw),
    ]
    assert names("d") == paths("d/b.wav")
    Path("d/a.raw").write_bytes(np.array([-32768, 16384], "<i2").tobytes())
    assert [block.tolist() for block in sources[1].blocks(8000)] == [[-1.0, 0.5]]


def test_what_cannot_be_heard_is_a_source_of_its_error():
    source = Unusable("d", "is empty")
    with pytest.raises(InputError, match=r"^d: is empty$"):
        list(source.blocks(8000))


# Through the commands


@pytest.fixture
def recordings(here: Path) -> Path:
    """A folder of two sounds that differ in their channels, and a file that is none."""
    touch(here, "d/notes.txt")
    for i, name in enumerate(("b.wav", "a.flac")):
        soundfile.write(here / "d" / name, recipe.waveform(2, 44100, 44100, i).T, 44100)
    return here / "d"


def test_a_folder_a_list_and_a_pattern_are_tagged_alike(main: Any, checkpoint: Path, recordings: Path):
    (recordings / "list.csv").write_text("file\na.flac\nb.wav\n")
    options = ("--checkpoint", checkpoint, "--format", "csv")
    done = main("tag", "d", *options)
    assert done.returncode == 0, done.stderr
    assert main("tag", "--list", "d/list.csv", *options).stdout == done.stdout
    assert main("tag", "d/*", *options).stdout == done.stdout
    assert main("tag", "--list", "d/list.csv", "d", *options).stdout.splitlines()[1:] == [
        *done.stdout.splitlines()[1:],
        *done.stdout.splitlines()[1:],
    ]


def test_one_channel_of_many_is_tagged(main: Any, checkpoint: Path, recordings: Path, here: Path):
    samples, rate = soundfile.read(recordings / "b.wav", dtype="int16")
    soundfile.write(here / "second.wav", samples[:, 1], rate)
    alone = main("tag", "second.wav", "--checkpoint", checkpoint)
    second = main("tag", recordings / "b.wav", "--channel", 2, "--checkpoint", checkpoint)
    assert second.returncode == 0 and second.stdout == alone.stdout
    assert second.stdout != main("tag", recordings / "b.wav", "--checkpoint", checkpoint).stdout
    third = main("tag", recordings / "b.wav", "second.wav", "--channel", 2, "--checkpoint", checkpoint)
    assert third.returncode == 1
    assert "second.wav: has 1 channel, and no channel 2" in third.stderr


def test_nothing_to_hear_is_told_before_a_model_is_loaded(main: Any, here: Path):
    (here / "empty").mkdir()
    (here / "list.txt").write_text("gone.wav\n")
    for arguments, message in {
        (): "name at least one sound file",
        ("empty",): "empty: no sound file is in the folder",
        ("*.wav",): "*.wav: no file matches the pattern",
        ("--list", "list.txt"): "gone.wav: there is no such file",
        ("empty", "x.wav"): "none of the 2 files could be used:",
        ("x.wav", "--channel", "0"): "channels are counted from 1, and there is no channel 0",
        ("x.wav", "--raw-format", "f32le"): "whose rate --raw-rate tells",
        ("-", "--raw-rate", "0"): "the sample rate of raw samples must be at least 1, not 0",
    }.items():
        done = main("tag", *arguments, "--checkpoint", "nowhere.safetensors")
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert message in done.stderr


def test_standard_input_is_tagged_as_the_file_is(
    main: Any, checkpoint: Path, recordings: Path, here: Path, monkeypatch: pytest.MonkeyPatch
):
    samples, _ = soundfile.read(recordings / "b.wav", dtype="int16")
    (here / "samples.raw").write_bytes(samples.tobytes())
    (here / "nothing").touch()

    def run(content: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
        with content.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            return main(*arguments, "--checkpoint", checkpoint)

    of_file = main("tag", recordings / "b.wav", "--checkpoint", checkpoint)
    assert run(recordings / "b.wav", "tag", "-").stdout == of_file.stdout
    raw = ("--raw-rate", 44100, "--raw-channels", 2)
    assert run(here / "samples.raw", "tag", "-", *raw).stdout == of_file.stdout
    assert main("tag", "samples.raw", *raw, "--checkpoint", checkpoint).stdout == of_file.stdout
    nothing = run(here / "nothing", "embed", "-", "--out", here / "x.h5")
    assert nothing.returncode == 2 and not (here / "x.h5").exists()
    assert "standard input: holds no samples, as nothing came" in nothing.stderr


@pytest.mark.slow
def test_what_is_piped_is_tagged(main: Any, checkpoint: Path, recordings: Path):
    program = [sys.executable, "-m", "panns_jax", "tag", "-", "--checkpoint", str(checkpoint)]
    done = subprocess.run(program, input=(recordings / "b.wav").read_bytes(), capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == main("tag", recordings / "b.wav", "--checkpoint", checkpoint).stdout
