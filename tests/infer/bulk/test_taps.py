"""What `panns-jax embed` stores of each tap, beside what the model answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile
from small_models import SMALL
from weights import arbitrary

from panns_jax.audio import read_waveform
from panns_jax.errors import InputError
from panns_jax.infer.bulk.rows import result_of
from panns_jax.infer.files import HeardSound
from panns_jax.infer.heard import Excerpt, Heard
from panns_jax.infer.listener import load_listener
from panns_jax.infer.sources import SoundFile
from panns_jax.infer.vectors import read_vectors
from panns_jax.models.registry import REGISTRY
from panns_jax.pretrained.native import Provenance, write_native

TAPS = ("embedding", "pooled", "frames", "logits")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands load models that the registry knows."""
    for name in ("cnn", "decision-max"):
        monkeypatch.setitem(REGISTRY, name, SMALL[name])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip-level and a decision-level model."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for name in ("cnn", "decision-max"):
        made[name] = folder / f"{name}.safetensors"
        provenance = Provenance(file="x.pth", sha256="1" * 64, licence="MIT")
        write_native(made[name], SMALL[name], arbitrary(SMALL[name]), provenance)
    return made


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    files = [tmp_path / name for name in ("long.wav", "short.wav")]
    for seed, (file, samples) in enumerate(zip(files, (8000, 5000), strict=True)):
        soundfile.write(file, recipe.waveform(1, samples, 8000, seed)[0], 8000)
    return files


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["cnn", "decision-max"])
def test_every_tap_is_what_the_model_answers(
    name: str, dtype: str, main: Any, checkpoints: dict[str, Path], sounds: list[Path], tmp_path: Path
):
    taps = TAPS if name == "cnn" else TAPS[1:]
    options = [word for tap in taps for word in ("--tap", tap)]
    out = tmp_path / "v.h5"
    done = main("embed", *sounds, "--out", out, "--checkpoint", checkpoints[name], "--dtype", dtype, *options)
    assert done.returncode == 0, done.stderr
    vectors = read_vectors(out)
    assert set(vectors.arrays) == set(taps)
    assert set(vectors.offsets) == ({"frames"} if name == "cnn" else set(taps))
    listener = load_listener(None, checkpoints[name])
    heard = list(listener.hear([read_waveform(path, 8000) for path in sounds], taps=TAPS[1:]))
    for row, answer in enumerate(heard):
        assert isinstance(answer, Heard)
        for tap in taps:
            expected = getattr(answer, tap)
            offsets = vectors.offsets.get(tap)
            found = vectors.arrays[tap]
            found = found[row] if offsets is None else found[offsets[row] : offsets[row + 1]]
            assert found.dtype == dtype and found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-3 if dtype == "float16" else 1e-5)
    assert vectors.attributes["step"] == listener.step / 8000
    assert "step" not in read_vectors(_embedding_of(main, checkpoints["cnn"], sounds, tmp_path)).attributes


def _embedding_of(main: Any, checkpoint: Path, sounds: list[Path], folder: Path) -> Path:
    main("embed", *sounds, "--out", folder / "e.npz", "--checkpoint", checkpoint)
    return folder / "e.npz"


def test_windows_have_a_row_each_with_its_times(
    main: Any, checkpoints: dict[str, Path], sounds: list[Path], tmp_path: Path
):
    out = tmp_path / "v.npz"
    options = ("--window", "0.4", "--hop", "0.3", "--tap", "logits")
    assert main("embed", *sounds, "--out", out, "--checkpoint", checkpoints["cnn"], *options).returncode == 0
    vectors = read_vectors(out)
    assert vectors.start is not None and vectors.end is not None
    assert vectors.names == [str(sounds[0])] * 3 + [str(sounds[1])] * 2
    np.testing.assert_allclose(vectors.start, [0, 0.3, 0.6, 0, 0.3])
    np.testing.assert_allclose(vectors.end, [0.4, 0.7, 1.0, 0.4, 0.625])
    assert (vectors.attributes["window"], vectors.attributes["hop"]) == (0.4, 0.3)
    listener = load_listener(None, checkpoints["cnn"])
    for name, start, end, vector in zip(
        vectors.names, vectors.start, vectors.end, vectors.arrays["logits"], strict=True
    ):
        excerpt = read_waveform(Path(name), 8000)[round(start * 8000) : round(end * 8000)]
        (alone,) = listener.hear([excerpt], taps=["logits"])
        assert isinstance(alone, Heard) and alone.logits is not None
        np.testing.assert_allclose(vector, alone.logits, atol=1e-5, rtol=1e-5)


def test_a_model_without_an_embedding_needs_another_tap(
    main: Any, checkpoints: dict[str, Path], sounds: list[Path], tmp_path: Path
):
    done = main("embed", *sounds, "--out", tmp_path / "v.h5", "--checkpoint", checkpoints["decision-max"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "decision-max makes no embedding: choose a model with one, such as Cnn14, or --tap pooled" in done.stderr


def test_what_float16_cannot_hold_is_a_failure_of_its_file_alone():
    heard = Heard(np.zeros(1, np.float32), np.array([1.0, 70000.0], np.float32))
    sound = HeardSound(SoundFile(Path("loud.wav")), 1.0, [Excerpt(0.0, 1.0, heard)])
    told = result_of(sound, None, ("embedding",), "float16")
    assert told.rows is None
    assert told.failure == "loud.wav: embedding reaches 70000, beyond what float16 holds; --dtype float32 does"
    assert result_of(InputError("bad.wav: bad"), (1, 2), ("embedding",), "float16").failure == "bad.wav: bad"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--shard", "3/2"), "--shard must be a part of all, such as 3/16: from 1/16 to 16/16; not 3/2"),
        (("--shard", "3/4"), "--shard 3/4: there are only 2 files; make as many shards at most"),
        (("--hop", "2"), "--hop 2 needs --window"),
        (("--window", "1", "--hop", "2"), "a window of 1 s every 2 s cannot be"),
        (("--workers", "2"), "--workers 2 is for --engine ray"),
        (("--address", "auto"), "--address auto is for --engine ray"),
        (("--engine", "ray", "--workers", "0"), "--workers must be 1 or more, not 0"),
    ],
)
def test_an_option_that_cannot_be_is_told_before_a_model_is_loaded(
    options: tuple[str, ...], told: str, main: Any, sounds: list[Path], tmp_path: Path
):
    done = main("embed", *sounds, "--out", tmp_path / "v.h5", "--checkpoint", "nowhere.pth", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
