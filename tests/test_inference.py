"""panns_inference's interface, beside that package where it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import recipe
from pth_writer import write_checkpoint
from small_models import SMALL
from weights import arbitrary

from panns_jax import InputError, inference, load_model
from panns_jax.inference import AudioTagging, SoundEventDetection, labels
from panns_jax.pretrained.rules import filled_model


def test_the_labels_are_audiosets_in_the_published_order():
    assert isinstance(labels, list) and labels[0] == "Speech" and len(labels) == inference.classes_num == 527
    assert inference.ids[0] == "/m/09x0r" and inference.lb_to_ix["Speech"] == 0 and inference.ix_to_lb[0] == "Speech"
    assert inference.id_to_ix["/m/09x0r"] == 0 and inference.ix_to_id[526] == inference.ids[-1]


@pytest.mark.parametrize("device", ["cuda", "cpu", "cuda:0", "gpu"])
def test_tagging_gives_clipwise_and_embedding_on_whatever_device_there_is(demo_checkpoint: Path, device: str):
    tagging = AudioTagging(checkpoint_path=str(demo_checkpoint), device=device, model="DemoCnn")
    assert tagging.device == "cpu" and tagging.classes_num == 527 and tagging.labels == labels
    audio = recipe.waveform(2, 16000, 32000, 1)
    clipwise, embedding = tagging.inference(audio)
    output = jax.jit(load_model(checkpoint=demo_checkpoint))(audio)
    np.testing.assert_allclose(clipwise, output.clipwise, atol=1e-6)
    np.testing.assert_allclose(embedding, output.embedding, rtol=1e-5, atol=1e-5)
    assert type(clipwise) is type(embedding) is np.ndarray


def test_a_file_of_our_own_tells_its_model_and_its_classes(demo_checkpoint: Path):
    tagging = AudioTagging(checkpoint_path=demo_checkpoint, device="cpu")
    assert tagging.model.config.name == "DemoCnn" and tagging.labels == list(tagging.model.config.labels)
    with pytest.raises(InputError, match="DemoCnn makes no framewise output: choose a decision-level model"):
        SoundEventDetection(checkpoint_path=demo_checkpoint)
    with pytest.raises(InputError, match="nowhere: there is no such file"):
        AudioTagging(checkpoint_path="nowhere")


def test_a_model_of_ours_is_taken_as_it_is():
    model = filled_model(SMALL["decision-max"], arbitrary(SMALL["decision-max"]))
    detection = SoundEventDetection(model=model)
    audio = recipe.waveform(2, 4000, 8000, 1)
    framewise = detection.inference(audio)
    assert framewise.shape == (2, 51, 5)
    np.testing.assert_allclose(framewise, jax.jit(model)(audio).framewise, atol=1e-6)
    with pytest.raises(InputError, match="makes no embedding"):
        AudioTagging(model=model).inference(audio)


def test_wrong_arguments_are_told_in_a_sentence(demo_checkpoint: Path):
    with pytest.raises(InputError, match="interpolate_mode"):
        SoundEventDetection(interpolate_mode="linear")
    with pytest.raises(InputError, match="no framewise output"):
        SoundEventDetection(model="DemoCnn", checkpoint_path=demo_checkpoint)
    with pytest.raises(InputError, match="not a dict"):
        AudioTagging(model={})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"\(batch, samples\)"):
        AudioTagging(model="DemoCnn", checkpoint_path=demo_checkpoint).inference(np.zeros(32000, np.float32))


_THEIRS = """
import sys
import numpy as np
from panns_inference import AudioTagging, SoundEventDetection, labels
audio = np.load(sys.argv[3])
clipwise, embedding = AudioTagging(checkpoint_path=sys.argv[1], device="cpu").inference(audio)
framewise = SoundEventDetection(checkpoint_path=sys.argv[2], device="cpu").inference(audio)
np.savez(sys.argv[4], clipwise=clipwise, embedding=embedding, framewise=framewise, labels=labels)
"""


@pytest.mark.long
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "panns_inference"))), reason="panns_inference is not installed"
)
def test_results_are_those_of_panns_inference(tmp_path: Path):
    files = {name: tmp_path / f"{name}.pth" for name in ("Cnn14", "Cnn14_DecisionLevelMax")}
    for name, file in files.items():
        write_checkpoint(file, recipe.checkpoint(name, seed=0))
    # That package reads the labels from the home folder, where it would otherwise download them.
    home = tmp_path / "panns_data"
    home.mkdir()
    rows = ["index,mid,display_name", *(f'{i},{id},"{labels[i]}"' for i, id in enumerate(inference.ids))]
    (home / "class_labels_indices.csv").write_text("\n".join(rows) + "\n", "utf-8")
    audio = recipe.waveform(2, 45000, 32000, 1)
    np.save(tmp_path / "audio.npy", audio)
    theirs = tmp_path / "theirs.npz"
    done = subprocess.run(
        [sys.executable, "-c", _THEIRS, *map(str, (*files.values(), tmp_path / "audio.npy", theirs))],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "PATH": ""},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    wanted = np.load(theirs)
    assert list(wanted["labels"]) == labels
    clipwise, embedding = AudioTagging(checkpoint_path=str(files["Cnn14"]), device="cuda").inference(audio)
    framewise = SoundEventDetection(checkpoint_path=str(files["Cnn14_DecisionLevelMax"])).inference(audio)
    for ours, key in ((clipwise, "clipwise"), (embedding, "embedding"), (framewise, "framewise")):
        assert ours.shape == wanted[key].shape and ours.dtype == wanted[key].dtype
        scale = max(1.0, float(np.abs(wanted[key]).max()))
        np.testing.assert_allclose(ours, wanted[key], atol=1e-5 * scale, rtol=0)
