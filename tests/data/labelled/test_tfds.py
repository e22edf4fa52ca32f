"""Data sets of TensorFlow Datasets, built by its own tools and read without TensorFlow."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason='TFDS is not installed: pip install "panns_jax[tfds]"')
pytest.importorskip("array_record", reason='array_record is not installed: pip install "panns_jax[tfds]"')

from panns_jax.data.labelled.card import data_card
from panns_jax.data.labelled.read import read_labelled
from panns_jax.data.labelled.sounds import Kept
from panns_jax.data.labelled.tfds import TfdsName
from panns_jax.errors import InputError

# A process of its own: TFDS starts threads, and says things on standard error.
BUILD = """
import json, sys
import numpy as np
import tensorflow_datasets as tfds

features = tfds.features

class Tones(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    name = "tones"
    pkg_dir_path = None
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in sys.argv[3].split(",")]

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict({
            "audio": features.Tensor(shape=(None,), dtype=np.int64),
            "label": features.ClassLabel(names=["low", "high", "none"]),
            "tags": features.Sequence(features.ClassLabel(names=["x", "y"])),
            "word": features.Text(),
        }))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {
                "audio": np.full(100 + number, (-1) ** number * self.level(number), np.int64),
                "label": number % 2,
                "tags": ["x", "y"][: number % 3],
                "word": f"word {number}",
            }

    def level(self, number):
        if not self.builder_config.name.startswith("bits"):
            return 8192
        bits = int(self.builder_config.name[4:])
        return 1 << (bits - 2 - number * bits // 4)  # the next is as many times quieter

for config in Tones.BUILDER_CONFIGS:
    Tones(data_dir=sys.argv[1], config=config, file_format=sys.argv[2]).download_and_prepare()
"""


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def declare(place: Path, **audio: Any) -> None:
    """Says of the tensor that it is a feature of the kind Audio, which TFDS makes with TensorFlow alone."""
    file = place / "features.json"
    tree = json.loads(file.read_text())
    plain = tree["featuresDict"]["features"]["audio"]
    tensor = plain.pop("tensor")
    plain["audio"] = {"shape": tensor["shape"], "dtype": tensor["dtype"], "encoding": "NONE"} | audio
    plain["pythonClassName"] = "tensorflow_datasets.core.features.audio_feature.Audio"
    file.write_text(json.dumps(tree))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder of TFDS with the data set tones in two configs, of which one tells no sample rate."""
    folder = tmp_path_factory.mktemp("tfds")
    done = run(BUILD, folder, "array_record", "told,silent")
    assert done.returncode == 0, done.stderr
    declare(folder / "tones" / "told" / "1.0.0", sampleRate="8000")
    return folder


def test_a_prepared_data_set_is_read_with_its_splits_and_classes(home):
    labelled = read_labelled("tfds:tones/told", tfds_dir=home)
    assert tuple(labelled.labels) == ("low", "high", "none")
    assert [clip.split for clip in labelled.clips] == ["train"] * 4 + ["test"] * 2
    assert sorted(clip.labels[0] for clip in labelled.clips) == ["high"] * 3 + ["low"] * 3
    for clip in labelled.clips:
        waveform = clip.sound.waveform(8000)
        sign = 1 if clip.labels == ("low",) else -1
        np.testing.assert_array_equal(waveform, np.full(len(waveform), sign * 0.25, np.float32))
    assert len(labelled.clips[0].sound.waveform(16000)) == 2 * len(labelled.clips[0].sound.waveform(8000))
    assert labelled.clips[5].sound.name == "tfds:tones/told:test, record 1"


def test_a_split_may_be_asked_for(home):
    assert len(read_labelled("tfds:tones/told:test", tfds_dir=home)) == 2
    part = read_labelled("tfds:tones/told:1.0.0:train[:50%]+test", tfds_dir=home)
    assert len(part) == 4 and {clip.split for clip in part.clips} == {None}


def test_other_features_may_be_the_class(home):
    tagged = read_labelled("tfds:tones/told", tfds_dir=home, label_column="tags", multi_label=True)
    assert {clip.labels for clip in tagged.clips} == {(), ("x",), ("x", "y")}
    assert len(read_labelled("tfds:tones/told:train", tfds_dir=home, label_column="word").labels) == 4
    for split in ("", ":test"):  # which is told once
        with pytest.raises(
            InputError, match=rf"^tfds:tones/told:{split[1:] or 'train'}, record \d: has (no|2) classes, which"
        ):
            read_labelled(f"tfds:tones/told{split}", tfds_dir=home, label_column="tags")


def test_a_sample_rate_that_is_not_told_is_asked_for(home):
    with pytest.raises(InputError, match="does not tell its sample rate; name it with --tfds-rate"):
        read_labelled("tfds:tones/silent", tfds_dir=home)
    sound = read_labelled("tfds:tones/silent", tfds_dir=home, tfds_rate=8000).clips[0].sound
    assert np.abs(sound.waveform(8000)).max() == 0.25
    with pytest.raises(InputError, match="tells its sample rate, 8000 Hz"):
        read_labelled("tfds:tones/told", tfds_dir=home, tfds_rate=16000)


@pytest.fixture(scope="module")
def widths(tmp_path_factory) -> Path:
    """A folder of TFDS with the data set tones in a config for each width; each clip is much quieter than the last."""
    folder = tmp_path_factory.mktemp("widths")
    done = run(BUILD, folder, "array_record", "bits8,bits16,bits24,bits32")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_whole_numbers_are_as_loud_as_their_width_has_it_in_quiet_clips_too(widths, bits):
    labelled = read_labelled(f"tfds:tones/bits{bits}", tfds_dir=widths, tfds_rate=8000)
    levels = sorted(float(np.abs(clip.sound.waveform(8000)).max()) for clip in labelled.clips)
    expected = [0.5 * 2.0 ** -(number * bits // 4) for number in (0, 0, 1, 1, 2, 3)]
    assert levels == sorted(expected)
    assert labelled.notes[0].startswith(f"samples: whole numbers, taken to be of {bits} bits by the loudest of 6 clips")
    part = read_labelled(f"tfds:tones/bits{bits}:test", tfds_dir=widths, tfds_rate=8000)
    assert part.notes == labelled.notes


def test_the_width_of_whole_numbers_may_be_told(widths):
    def read(bits: int | None, data: str = "tfds:tones/bits16"):
        return read_labelled(data, tfds_dir=widths, tfds_rate=8000, tfds_bits=bits)

    found, told = read(None).clips, read(24).clips
    for one, other in zip(found, told, strict=True):
        np.testing.assert_array_equal(one.sound.waveform(8000), 256 * other.sound.waveform(8000))
        assert isinstance(one.sound, Kept) and isinstance(other.sound, Kept)
        assert one.sound.fingerprint() != other.sound.fingerprint()
    assert read(24).notes == ("samples: whole numbers, of 24 bits as --tfds-bits tells",)
    card = data_card(read(16, "tfds:tones/bits24"), sample_rate=8000)
    assert 0 < len(card.usable) < card.clips and card.notes[0] in card.text()
    assert (
        "record" in (failure := next(iter(card.unreadable.values()))) and "24 bits, and --tfds-bits tells 16" in failure
    )
    with pytest.raises(InputError, match="--tfds-bits must be one of 8, 16, 24, 32, not 12"):
        read(12)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("tfds:tones", {}, "name one of its configs, as tfds:tones/silent: silent, told"),
        ("tfds:nothing", {}, "is not prepared in .*--prepare"),
        ("tfds:tones/told:2.0.0", {}, "is not prepared in "),
        ("tfds:tones/told:dev", {}, "its split 'dev' cannot be read .there are train, test"),
        ("tfds:tones/told", {"label_column": "genre"}, "has no feature 'genre'; .* audio, label, tags, word"),
        ("tfds:tones/told", {"path_column": "sound"}, "has no feature 'sound'"),
        ("tfds:", {}, "names no data set of TFDS"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(home, name, options, sentence):
    with pytest.raises(InputError, match=sentence):
        read_labelled(name, tfds_dir=home, **options)


def test_what_is_there_as_tfrecord_alone_is_told_with_the_command_that_converts_it(home, tmp_path):
    place = tmp_path / "tones" / "1.0.0"
    place.mkdir(parents=True)
    info = json.loads((home / "tones" / "told" / "1.0.0" / "dataset_info.json").read_text())
    (place / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(InputError) as refused:
        read_labelled("tfds:tones", tfds_dir=tmp_path)
    command = f"tfds convert_format --dataset_version_dir={place} --out_file_format=array_record"
    assert command in str(refused.value) and "\n" not in str(refused.value)


def test_a_damaged_record_file_is_told_in_a_sentence(home, tmp_path):
    shutil.copytree(home / "tones" / "told", tmp_path / "tones")
    for file in (tmp_path / "tones" / "1.0.0").glob("*.array_record-*"):
        file.unlink()
    with pytest.raises(InputError, match="tfds:tones"):
        read_labelled("tfds:tones", tfds_dir=tmp_path)


@pytest.mark.parametrize("is_blocked", [False, True])
def test_reading_imports_no_tensorflow(home, is_blocked):
    done = run(
        """
        import importlib.util
        import sys
        from pathlib import Path

        class Blocked:
            # An installed TensorFlow that cannot be imported.

            def find_spec(self, name, path=None, target=None):
                return importlib.util.spec_from_loader(name, self) if name == "tensorflow" else None

            def create_module(self, spec):
                raise ImportError("TensorFlow is imported")

            def exec_module(self, module):
                pass

        if sys.argv[2] == "True":
            sys.meta_path.insert(0, Blocked())
        from panns_jax.data.labelled.card import data_card
        from panns_jax.data.labelled.read import read_labelled

        labelled = read_labelled("tfds:tones/told", tfds_dir=Path(sys.argv[1]))
        assert data_card(labelled, sample_rate=8000).usable.tolist() == [0, 1, 2, 3, 4, 5]
        assert "tensorflow" not in sys.modules
        """,
        home,
        is_blocked,
    )
    assert done.returncode == 0, done.stderr


def test_names_are_understood():
    name = TfdsName.parse("tfds:gtzan/small:1.0.0:train[:80%]")
    assert (name.name, name.config, name.version, name.split) == ("gtzan", "small", "1.0.0", "train[:80%]")
    assert TfdsName.parse("tfds:gtzan:test").split == "test" and TfdsName.parse("tfds:gtzan").builder == "gtzan"


def test_a_packed_workspace_becomes_a_data_set(tmp_path):
    import h5py

    from panns_jax.data.index import list_clips, write_index
    from panns_jax.labels import audioset

    waveforms = tmp_path / "W" / "hdf5s" / "waveforms" / "eval.h5"
    waveforms.parent.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(-9000, 9000, (3, 640)).astype(np.int16)
    target = np.zeros((3, 527), bool)
    target[[0, 1, 1], [0, 5, 526]] = True
    with h5py.File(waveforms, "w") as file:
        file.create_dataset("audio_name", data=np.array([b"Ya.wav", b"Yb.wav", b"Yc.wav"], "S20"))
        file.create_dataset("waveform", data=rows)
        file.create_dataset("target", data=target)
        file.attrs.create("sample_rate", data=32000, dtype=np.int32)
    index = tmp_path / "W" / "hdf5s" / "indexes" / "eval.h5"
    index.parent.mkdir()
    write_index(index, list_clips(waveforms))

    command = ["-m", "panns_jax", "workspace-to-tfds", tmp_path / "W", "--out", tmp_path / "tfds"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    labelled = read_labelled("tfds:packed_audioset:eval", tfds_dir=tmp_path / "tfds", multi_label=True)
    names = audioset().names
    assert tuple(labelled.labels) == names
    assert [clip.labels for clip in labelled.clips] == [(names[0],), (names[5], names[526]), ()]
    for clip, row in zip(labelled.clips, rows, strict=True):
        np.testing.assert_array_equal(clip.sound.waveform(32000), (row / 32768).astype(np.float32))
    assert labelled.notes == ()  # 16 bits, as its type tells
    with pytest.raises(InputError, match="by their type, so leave out --tfds-bits"):
        read_labelled("tfds:packed_audioset:eval", tfds_dir=tmp_path / "tfds", multi_label=True, tfds_bits=16)
    again = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300)
    assert again.returncode == 2 and "is there already" in again.stderr
