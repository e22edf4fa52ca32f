"""`panns-jax distance` and the recipes, on folders of sounds and on files of vectors."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recipe
import soundfile
from scipy import linalg

from panns_jax import load_model
from panns_jax.audio import read_waveform
from panns_jax.infer.gaussians import Gaussian, extrapolated_distance, frechet_distance
from panns_jax.infer.recipes import RECIPES
from panns_jax.infer.sources import SoundFile

RATE = 32000
NAMES = [f"{i:02}.wav" for i in range(11)] + ["deeper/11.wav"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Stereo sounds of half a second with an offset, and others of the same names."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("set")
        (folder / "deeper").mkdir()
        for i, name in enumerate(NAMES):
            samples = 0.5 * recipe.waveform(2, RATE // 2, RATE, 100 * seed + i).T + 0.1
            soundfile.write(folder / name, samples, RATE, subtype="FLOAT")
        (folder / "notes.txt").write_text("no sound")
        made.append(folder)
    return made[0], made[1]


@pytest.fixture(scope="module")
def outputs(checkpoint: Path) -> Any:
    """Embedding and logits of a waveform."""
    model: Any = load_model(checkpoint=checkpoint)

    def run(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output = model(waveform[None], taps="logits")
        return np.asarray(output.embedding[0], np.float64), np.asarray(output.logits[0], np.float64)

    return run


def test_fad_is_that_of_the_mean_of_the_channels(main: Any, folders: Any, checkpoint: Path, outputs: Any):
    done = main("distance", *folders, "--checkpoint", checkpoint, "--format", "json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    sets = [np.stack([outputs(read_waveform(folder / name, RATE))[0] for name in NAMES]) for folder in folders]
    assert told["frechet_distance"] == pytest.approx(frechet_distance(*map(Gaussian.of, sets)), rel=1e-3)
    assert (told["recipe"], told["model"], told["dimensions"]) == ("fad", "DemoCnn", 128)
    assert told["reference"] == {"path": str(folders[0]), "clips": 12, "silent": []}
    assert told["judged"] == {"path": str(folders[1]), "clips": 12, "silent": []}
    assert "kl_softmax" not in told
    few, few_too, other = told["warnings"]
    assert few.startswith(f"{folders[0]}: 12 clips are too few for 128 dimensions")
    assert few_too.startswith(f"{folders[1]}: 12 clips are too few")
    assert other.startswith("the recipe is one for Cnn14_16k, Cnn14_8k, Cnn14: distances by DemoCnn")
    assert [f"warning: {warning}" for warning in told["warnings"]] == done.stderr.splitlines()[-3:]
    assert json.loads(main("distance", *folders[::-1], "--checkpoint", checkpoint, "--format", "json").stdout)[
        "frechet_distance"
    ] == pytest.approx(told["frechet_distance"], rel=1e-9)


def test_audioldm_eval_hears_the_first_channel_less_its_mean_padded(
    main: Any, folders: Any, checkpoint: Path, outputs: Any
):
    arguments = ("distance", *folders, "--checkpoint", checkpoint, "--recipe", "audioldm-eval")
    told = json.loads(main(*arguments, "--format", "json").stdout)
    heard = []
    for folder in folders:
        for name in NAMES:
            samples, _ = soundfile.read(folder / name, dtype="float32")
            first = samples[:, 0] - samples[:, 0].mean()
            heard.append(outputs(np.concatenate([first, np.zeros(16000, np.float32)])))
    embeddings = np.stack([embedding for embedding, _ in heard]).reshape(2, 12, -1)
    reference, judged = np.stack([logits for _, logits in heard]).reshape(2, 12, -1)
    assert told["frechet_distance"] == pytest.approx(frechet_distance(*map(Gaussian.of, embeddings)), rel=1e-3)

    def softmax(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    target, prediction = softmax(reference), softmax(judged)
    divergence = (target * np.log(target / (prediction + 1e-6))).sum() / 12
    assert told["kl_softmax"] == pytest.approx(divergence, rel=1e-3)
    assert told["kl_sigmoid"] != told["kl_softmax"]
    assert told["pairs"] == 12
    assert told["inception_score_mean"] >= 1
    lines = main(*arguments).stdout.splitlines()
    assert lines == [
        f"Fréchet distance: {told['frechet_distance']:.6g}",
        f"Kullback-Leibler divergence: softmax {told['kl_softmax']:.6g}, sigmoid {told['kl_sigmoid']:.6g} (12 pairs)",
        f"inception score: {told['inception_score_mean']:.6g} ± {told['inception_score_std']:.3g}",
        f"of {folders[1]} (12 clips) from {folders[0]} (12 clips), by DemoCnn, recipe audioldm-eval",
    ]


@pytest.mark.parametrize("rate", [16000, 44100])
def test_recipes_tell_what_is_heard_of_a_file(rate: int, tmp_path: Path):
    samples = recipe.waveform(2, rate, rate, 3).T + np.array([0.25, -0.5])
    soundfile.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    file = SoundFile(tmp_path / "x.wav")
    (fad,) = RECIPES["fad"].of([file])
    np.testing.assert_array_equal(np.concatenate(list(fad.blocks(16000))), read_waveform(file.path, 16000))
    (audioldm,) = RECIPES["audioldm-eval"].of([file])
    (waveform,) = audioldm.blocks(16000)
    assert (audioldm.name, audioldm.path) == (str(file.path), file.path)
    assert waveform.shape == (32000,)
    assert not waveform[16000:].any()
    assert abs(waveform.mean()) < 1e-6
    if rate == 16000:
        np.testing.assert_allclose(waveform[:16000], samples[:, 0] - samples[:, 0].mean(), atol=1e-6)


def test_silent_clips_are_named(main: Any, folders: Any, checkpoint: Path, tmp_path: Path):
    for name, samples in (("loud.wav", recipe.waveform(1, 9000, RATE, 1)[0]), ("b.wav", np.zeros(9000))):
        soundfile.write(tmp_path / name, samples, RATE)
    (tmp_path / "empty.wav").touch()  # is no clip, and named as what could not be heard
    done = main("distance", folders[0], tmp_path, "--checkpoint", checkpoint, "--format", "json")
    told = json.loads(done.stdout)
    assert told["judged"]["silent"] == ["b.wav"]
    assert f"warning: {tmp_path}: silent clips, which count like the others: b.wav" in done.stderr


def test_vectors_of_files_are_compared_as_those_of_folders(main: Any, folders: Any, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "b.h5"
    assert (
        main("embed", *(folders[1] / name for name in NAMES), "--checkpoint", checkpoint, "--out", out).returncode == 0
    )
    sets = [(folders[0], folders[1]), (folders[0], out), (out, out)]
    first, second, same = (
        json.loads(main("distance", *pair, "--checkpoint", checkpoint, "--format", "json").stdout) for pair in sets
    )
    assert second["frechet_distance"] == pytest.approx(first["frechet_distance"], rel=1e-5)
    assert second["judged"] == {"path": str(out), "clips": 12, "silent": None}
    assert same["frechet_distance"] < 1e-6
    refused = main("distance", folders[0], out, "--checkpoint", checkpoint, "--recipe", "audioldm-eval")
    assert refused.returncode == 2
    assert "b.h5: has no logits, which the recipe needs: embed with --tap embedding --tap logits" in refused.stderr


def vectors(path: Path, names: list[str], seed: int, **arrays: Any) -> Path:
    embedding = np.random.default_rng(seed).normal(size=(len(names), 4)).astype(np.float32)
    told = json.dumps({"model": arrays.pop("model", None)})
    np.savez(path, **{"name": np.array(names, str), "embedding": embedding, "attributes": np.array(told), **arrays})
    return path


def test_files_need_no_model(main: Any, tmp_path: Path):
    names = [f"a/{name}" for name in NAMES]
    one, other = vectors(tmp_path / "a.npz", names, 1), vectors(tmp_path / "b.npz", [f"x/{n}" for n in NAMES], 2)
    told = json.loads(main("distance", one, other, "--format", "json").stdout)
    with np.load(one) as file, np.load(other) as file_too:
        sets = [file["embedding"].astype(float), file_too["embedding"].astype(float)]
    covariances = [np.cov(v, rowvar=False) for v in sets]
    difference = sets[0].mean(axis=0) - sets[1].mean(axis=0)
    root = np.real(np.asarray(linalg.sqrtm(covariances[0] @ covariances[1])))
    expected = difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert told["frechet_distance"] == pytest.approx(expected, rel=1e-5)
    assert (told["model"], told["warnings"]) == (None, [])


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([*NAMES[:-1], "elsewhere.wav"], "only 11 names are in both sets"),
        ([*NAMES[:-1], NAMES[0]], "names occur twice"),
    ],
)
def test_clips_without_pairs_have_no_divergence(main: Any, tmp_path: Path, names: list[str], reason: str):
    logits = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    pair = vectors(tmp_path / "a.npz", NAMES, 1, logits=logits), vectors(tmp_path / "b.npz", names, 2, logits=logits)
    done = main("distance", *pair, "--recipe", "audioldm-eval")
    assert f"Kullback-Leibler divergence: not defined, as {reason}" in done.stdout
    assert "inception score: 1." in done.stdout


def test_fewer_than_ten_clips_have_no_inception_score(main: Any, tmp_path: Path):
    few = {"logits": np.zeros((9, 6), np.float32)}
    pair = vectors(tmp_path / "a.npz", NAMES[:9], 1, **few), vectors(tmp_path / "b.npz", NAMES[:9], 2, **few)
    done = main("distance", *pair, "--recipe", "audioldm-eval")
    assert "inception score: not defined for fewer than 10 clips" in done.stdout


def test_the_extrapolated_distance_is_told_where_there_are_enough_clips(main: Any, tmp_path: Path):
    names = [f"{i:03}.wav" for i in range(600)]
    pair = vectors(tmp_path / "a.npz", names, 1), vectors(tmp_path / "b.npz", names, 2)
    told = json.loads(main("distance", *pair, "--extrapolate", "--format", "json").stdout)
    with np.load(pair[0]) as file, np.load(pair[1]) as file_too:
        expected = extrapolated_distance(Gaussian.of(file["embedding"]), file_too["embedding"])
    assert told["extrapolated_frechet_distance"] == expected != told["frechet_distance"]
    assert "extrapolated to infinitely many clips: " in main("distance", *pair, "--extrapolate").stdout
    refused = main("distance", pair[0], vectors(tmp_path / "c.npz", names[:99], 3), "--extrapolate")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "from more than 500 clips, and there are 99" in refused.stderr


def test_sets_that_cannot_be_compared_are_told_in_a_sentence(main: Any, folders: Any, tmp_path: Path):
    one = vectors(tmp_path / "a.npz", NAMES, 1, model="Cnn14")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    (tmp_path / "broken.h5").write_bytes(b"no hdf5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    cases = {
        tmp_path / "nowhere": "there is no such file",
        tmp_path / "empty": "there are no sound files in the folder",
        folders[0] / NAMES[0]: r"must end in \.h5, \.hdf5, \.npz or \.parquet, or be a folder",
        tmp_path / "broken.npz": "broken.npz",
        tmp_path / "broken.h5": "broken.h5",
        tmp_path / "other.h5": "other.h5",
        vectors(
            tmp_path / "b.npz", NAMES, 1, model="Cnn6"
        ): "has vectors of Cnn14 and .* of Cnn6, which cannot be compared",
        vectors(tmp_path / "c.npz", NAMES, 1, embedding=np.zeros((12, 3), np.float32)): "embedding has .4.* and .3",
        vectors(tmp_path / "d.npz", NAMES[:1], 1): "has one clip alone",
        vectors(tmp_path / "e.npz", NAMES, 1, embedding=np.full((12, 4), np.nan)): "values that are no finite numbers",
        vectors(tmp_path / "f.npz", [], 1): "holds no vectors",
    }
    for path, words in cases.items():
        done = main("distance", one, path)
        assert (done.returncode, done.stdout) == (2, ""), path
        assert re.search(words, done.stderr), done.stderr


def test_a_model_without_embeddings_has_no_distance(main: Any, folders: Any, tmp_path: Path):
    from weights import arbitrary

    from panns_jax.models.registry import model_config
    from panns_jax.pretrained.native import Provenance, write_native

    config = model_config("Cnn14_DecisionLevelMax")
    file = tmp_path / "decisions.safetensors"
    write_native(file, config, arbitrary(config), Provenance(file="x.pth", sha256="0" * 64, licence="MIT"))
    done = main("distance", *folders, "--checkpoint", file)
    assert done.returncode == 2
    assert "Cnn14_DecisionLevelMax makes no embedding: choose a model with one, such as Cnn14_16k" in done.stderr


def test_files_that_fail_are_named_and_the_rest_compared(main: Any, folders: Any, checkpoint: Path, tmp_path: Path):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, recipe.waveform(1, 9000, RATE, len(name))[0], RATE)
    (tmp_path / "c.wav").write_bytes(b"no sound")
    done = main("distance", folders[0], tmp_path, "--checkpoint", checkpoint, "--format", "json")
    assert done.returncode == 1
    assert "left out 1 of 3 files" in done.stderr
    assert json.loads(done.stdout)["judged"]["clips"] == 2


@pytest.mark.parametrize("out", ["b.npz", "b.h5", "b"])
def test_what_was_embedded_by_a_recipe_has_the_distances_of_the_sounds(
    main: Any, folders: Any, checkpoint: Path, tmp_path: Path, out: str
):
    options = ("--checkpoint", checkpoint, "--recipe", "audioldm-eval")
    sounds = [folders[1] / name for name in NAMES]
    assert main("embed", *sounds, *options, "--out", tmp_path / out).returncode == 0
    from_sounds, from_vectors = (
        json.loads(main("distance", folders[0], judged, *options, "--format", "json").stdout)
        for judged in (folders[1], tmp_path / out)
    )
    for figure in ("frechet_distance", "kl_softmax", "kl_sigmoid", "inception_score_mean", "inception_score_std"):
        assert from_vectors[figure] == pytest.approx(from_sounds[figure], rel=1e-4)
    assert from_vectors["judged"]["silent"] is None
    assert (
        main("embed", *sounds, *options, "--out", tmp_path / out).stdout.strip() == f"{tmp_path / out} is there already"
    )


def test_a_recipe_hears_whole_files(main: Any, folders: Any, checkpoint: Path, tmp_path: Path):
    options = ("--checkpoint", checkpoint, "--recipe", "fad", "--window", 1, "--out", tmp_path / "x.h5")
    done = main("embed", folders[0] / NAMES[0], *options)
    assert done.returncode == 2
    assert "--recipe fad hears whole files: leave out --window" in done.stderr
