"""Every published model of the registry against what the published implementation computes."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from extremes import extremes
from flax import nnx
from jaxtyping import Array

import panns_jax
from panns_jax.frontend import log_mel, power_spectrogram
from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features, Output
from panns_jax.models.layers import Apply, Dropout, SpecAugment
from panns_jax.models.model import Model
from panns_jax.models.registry import REGISTRY, list_models

MANIFEST = recipe.manifest()
PUBLISHED = list_models()
BUFFERS = ("spectrogram_extractor.", "logmel_extractor.")
OUR_FIELD = {"weight": "kernel", "running_mean": "mean", "running_var": "var", "bias": "bias"}
FIGURES = recipe.GOLDEN / "published"
# Models of more weights than this run at their other lengths in the long tests only.
LARGE = 20e6


def lengths(name: str) -> list[str]:
    """Seconds of the clips of the golden figures, ascending."""
    return sorted({key.split("s_")[0] for key in recipe.golden(f"published/{name}.npz")}, key=float)


def model_and_length() -> Iterator[Any]:
    for name in PUBLISHED:
        for i, seconds in enumerate(lengths(name)):
            later = i > 0 and MANIFEST[name]["params"] > LARGE
            yield pytest.param(name, seconds, marks=[pytest.mark.long] if later else [])


def leaves(name: str) -> dict[str, nnx.Variable]:
    state = nnx.state(abstract_model(REGISTRY[name]))
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def test_every_published_model_has_golden_figures():
    assert PUBLISHED
    for name in PUBLISHED:
        assert (recipe.GOLDEN / "published" / f"{name}.npz").exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str):
    parameters = [leaf for leaf in leaves(name).values() if isinstance(leaf, nnx.Param)]
    assert sum(math.prod(leaf.shape) for leaf in parameters) == MANIFEST[name]["params"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_front_end_is_the_published_one(name: str):
    published = MANIFEST[name]["frontend"]
    assert {key: getattr(REGISTRY[name].frontend, key) for key in published} == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_attribute_paths_are_the_published_names(name: str):
    expected = set()
    for key, shape, _ in MANIFEST[name]["entries"]:
        path, field = key.rsplit(".", 1)
        if key.startswith(BUFFERS) or field == "num_batches_tracked":
            continue
        expected.add(f"{path}.{'scale' if field == 'weight' and len(shape) == 1 else OUR_FIELD[field]}")
    assert set(leaves(name)) == expected


@pytest.mark.parametrize("name", list(REGISTRY))
def test_state_holds_weights_and_batch_statistics_alone(name: str):
    kinds = {type(leaf) for leaf in leaves(name).values()}
    assert kinds == {nnx.Param, nnx.BatchStat}


@contextmanager
def recorded_outputs(model: Model) -> Iterator[dict[str, Array]]:
    """Collects the output of every layer while the model runs, under the layer's path."""
    names = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(model) if path}
    kinds = {type(module) for _, module in nnx.iter_modules(model)} - {Model, nnx.Dropout, Dropout, SpecAugment}
    outputs: dict[str, Array] = {}

    def recording(call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(layer: nnx.Module, *args: object, **kwargs: object) -> Any:
            y = call(layer, *args, **kwargs)
            first = y[0] if isinstance(y, tuple) else y
            outputs[names[id(layer)]] = first.values if isinstance(first, Clips) else first
            return y

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        for kind in {next(base for base in kind.__mro__ if "__call__" in vars(base)) for kind in kinds}:
            patch.setattr(kind, "__call__", recording(kind.__call__))
        yield outputs


def in_torch_layout(name: str, shape: tuple[int, ...], *, reads_logmel: bool) -> list[int]:
    batch, *rest = shape
    if name.startswith("fc"):
        return list(shape)
    if name == "bn0" and reads_logmel:  # there, frequencies are normalised as channels
        return [batch, rest[1], rest[0], 1]
    if name in ("spectrogram_extractor", "logmel_extractor"):
        return [batch, 1, *rest]
    return [batch, rest[-1], *rest[:-1]]


def run(model: Model, waveform: np.ndarray) -> tuple[Output, dict[str, np.ndarray]]:
    """The output of a model and of every layer of it."""
    graph, state = nnx.split(model)

    @jax.jit
    def forward(state: nnx.State, waveform: Array):
        model = nnx.merge(graph, state)
        with recorded_outputs(model) as layers:
            output = model(waveform)
        if model.config.body.reads_logmel:
            frontend = model.config.frontend
            layers["spectrogram_extractor"] = power_spectrogram(waveform, frontend)
            layers["logmel_extractor"] = log_mel(waveform, frontend)
        return output, layers

    output, layers = forward(state, jnp.asarray(waveform))
    return output, {name: np.asarray(x) for name, x in layers.items()}


def check_layers(name: str, layers: dict[str, np.ndarray], golden: dict[str, list], where: str) -> None:
    reads_logmel = REGISTRY[name].body.reads_logmel
    compared = {layer: figures for layer, figures in golden.items() if ".stft." not in layer}
    # The published figures leave out ReLUs that overwrite their input.
    unseen = {
        ".".join(map(str, path))
        for path, layer in nnx.iter_modules(abstract_model(REGISTRY[name]))
        if isinstance(layer, Apply)
    }
    assert compared.keys() <= layers.keys()
    assert layers.keys() - compared.keys() <= unseen
    for layer, (shape, mean, std, largest) in compared.items():
        ours, place = layers[layer], f"{layer} of {where}"
        assert in_torch_layout(layer, ours.shape, reads_logmel=reads_logmel) == shape, place
        assert ours.std(dtype=np.float64, ddof=1) == pytest.approx(std, rel=tolerances.LAYER), place
        assert ours.mean(dtype=np.float64) == pytest.approx(mean, abs=tolerances.LAYER * std), place
        assert np.abs(ours).max() == pytest.approx(largest, rel=tolerances.LAYER), place


@pytest.mark.parametrize(("name", "seconds"), list(model_and_length()))
def test_outputs_and_every_layer_are_as_published(name: str, seconds: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    rate = model.config.sample_rate
    output, layers = run(model, recipe.waveform(2, round(float(seconds) * rate), rate, 1))
    figures = json.loads((FIGURES / f"{name}.layers.json").read_text())
    check_layers(name, layers, figures[seconds], f"{name} at {seconds} s")
    golden = recipe.golden(f"published/{name}.npz")
    check_output(output, golden, seconds, model)


PREPARED_QUICKLY = ("Cnn6", "MobileNetV1")


def prepared_and_length() -> Iterator[Any]:
    for name in PUBLISHED:
        for i, seconds in enumerate(lengths(name)):
            quick = i == 0 and name in PREPARED_QUICKLY
            yield pytest.param(name, seconds, marks=[] if quick else [pytest.mark.long])


@pytest.mark.parametrize(("name", "seconds"), list(prepared_and_length()))
def test_a_prepared_model_answers_as_published(name: str, seconds: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    rate = model.config.sample_rate
    ready = panns_jax.prepare(model)
    output = ready(recipe.waveform(2, round(float(seconds) * rate), rate, 1))
    check_output(output, recipe.golden(f"published/{name}.npz"), seconds, model)
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model)))
    assert own <= ready.nbytes <= 3 * own


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_prepared_model_answers_extreme_sounds_as_the_model_does(name: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    sounds = extremes(2 * model.config.sample_rate, model.config.sample_rate)
    expected = nnx.jit(lambda model, waveform: model(waveform).clipwise)(model, sounds)
    answer = panns_jax.prepare(model)(sounds).clipwise
    np.testing.assert_allclose(answer, expected, atol=tolerances.CLIPWISE, rtol=0)


def check_output(output: Output, golden: dict[str, np.ndarray], seconds: str, model: Model) -> None:
    clipwise = golden[f"{seconds}s_clipwise_output"]
    np.testing.assert_allclose(output.clipwise, clipwise, atol=tolerances.CLIPWISE, rtol=0)
    if f"{seconds}s_embedding" in golden:
        check_embedding(output, golden[f"{seconds}s_embedding"], model)
    else:
        shape = tuple(golden[f"{seconds}s_framewise_shape"])
        check_frames(output, golden[f"{seconds}s_framewise_every_32"], shape, model)


def check_embedding(output: Output, golden: np.ndarray, model: Model) -> None:
    assert output.embedding is not None and output.framewise is None
    atol = tolerances.EMBEDDING * np.abs(golden).max()
    np.testing.assert_allclose(output.embedding, golden, atol=atol, rtol=0)
    assert model.config.embedding_dim == golden.shape[1]


def check_frames(output: Output, golden: np.ndarray, shape: tuple[int, ...], model: Model) -> None:
    assert output.embedding is None and output.framewise is not None
    assert output.framewise.shape == shape
    np.testing.assert_allclose(output.framewise[:, ::32], golden, atol=tolerances.CLIPWISE, rtol=0)
    assert model.config.embedding_dim is None


# Published lengths: 9,920 and 4,800 samples are documented, the others follow from strides and pools.
SHORTEST = {
    **dict.fromkeys(PUBLISHED, 9920),
    **dict.fromkeys(("Cnn6", "Cnn10"), 4800),
    "Cnn14_16k": 4960,
    "Cnn14_8k": 2480,
    "LeeNet11": 1,
    "LeeNet24": 1,
    "DaiNet19": 332,
    "Res1dNet31": 20476,
    "Res1dNet51": 20476,
    **{name: 10236 for name in PUBLISHED if name.startswith("Wavegram")},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shortest_clip_leaves_one_step_and_one_sample_less_leaves_none(name: str):
    config = REGISTRY[name]
    assert config.min_samples == SHORTEST[name]
    model = abstract_model(config)
    model.eval()

    def steps(samples: int) -> int:
        def run(model: Model) -> Array:
            waveform = Clips(jnp.zeros((1, samples)))
            features = config.frontend.frames(samples), config.frontend.mel_bins
            logmel = Clips(jnp.zeros((1, *features))) if config.body.reads_logmel else None
            return config.body(model, Features(waveform, logmel), rngs=None).values

        return nnx.eval_shape(run, model).shape[1]

    assert steps(config.min_samples) == 1
    if config.min_samples > 1:
        with_less = steps(config.min_samples - 1)
        assert with_less == 0
