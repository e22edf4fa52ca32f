"""Every published model of the registry against what the published implementation computes."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from flax import nnx
from jaxtyping import Array

from panns_jax.frontend import log_mel, power_spectrogram
from panns_jax.models.layers import BatchNorm, ConvBlock, ConvBlock5x5
from panns_jax.models.model import Model
from panns_jax.models.registry import REGISTRY, list_models

MANIFEST = recipe.manifest()
PUBLISHED = list_models()
BUFFERS = ("spectrogram_extractor.", "logmel_extractor.")
OUR_FIELD = {"weight": "kernel", "running_mean": "mean", "running_var": "var", "bias": "bias"}
RECORDED = (nnx.Conv, nnx.Linear, BatchNorm, ConvBlock, ConvBlock5x5)


def leaves(name: str) -> dict[str, nnx.Variable]:
    abstract = nnx.eval_shape(lambda: Model(REGISTRY[name], rngs=nnx.Rngs(0)))
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(abstract))}


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
    names = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(model)}
    outputs: dict[str, Array] = {}

    def recording(call: Callable[..., Array]) -> Callable[..., Array]:
        def recorded(layer: nnx.Module, *args: object, **kwargs: object) -> Array:
            outputs[names[id(layer)]] = y = call(layer, *args, **kwargs)
            return y

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        for kind in RECORDED:
            patch.setattr(kind, "__call__", recording(kind.__call__))
        yield outputs


def figures(x: Array) -> Array:
    return jnp.stack([x.mean(), x.std(), jnp.abs(x).max()])


def in_torch_layout(name: str, shape: tuple[int, ...]) -> list[int]:
    batch, *rest = shape
    if name == "bn0":  # there, frequencies are normalised as channels
        return [batch, rest[1], rest[0], 1]
    if name in ("spectrogram_extractor", "logmel_extractor"):
        return [batch, 1, *rest]
    return [batch, rest[-1], *rest[:-1]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_outputs_and_every_layer_are_as_published(name: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    graph, state = nnx.split(model)
    shapes: dict[str, tuple[int, ...]] = {}

    @jax.jit
    def run(state: nnx.State, waveform: Array):
        model = nnx.merge(graph, state)
        with recorded_outputs(model) as layers:
            output = model(waveform)
        frontend = model.config.frontend
        layers["spectrogram_extractor"] = power_spectrogram(waveform, frontend)
        layers["logmel_extractor"] = log_mel(waveform, frontend)
        shapes.update({layer: x.shape for layer, x in layers.items()})
        return output, {layer: figures(x) for layer, x in layers.items()}

    golden = np.load(recipe.GOLDEN / "published" / f"{name}.npz")
    golden_layers = json.loads((recipe.GOLDEN / "published" / f"{name}.layers.json").read_text())
    for seconds, published_layers in golden_layers.items():
        rate = model.config.sample_rate
        waveform = recipe.waveform(2, round(float(seconds) * rate), rate, 1)
        output, ours = run(state, waveform)
        compared = [layer for layer in published_layers if ".stft." not in layer]
        assert sorted(ours) == sorted(compared)
        for layer in compared:
            shape, mean, std, largest = published_layers[layer]
            where = f"{layer} of {name} at {seconds} s"
            assert in_torch_layout(layer, shapes[layer]) == shape, where
            our_mean, our_std, our_largest = map(float, ours[layer])
            assert our_std == pytest.approx(std, rel=tolerances.LAYER), where
            assert our_mean == pytest.approx(mean, abs=tolerances.LAYER * std), where
            assert our_largest == pytest.approx(largest, rel=tolerances.LAYER), where
        clipwise, embedding = golden[f"{seconds}s_clipwise_output"], golden[f"{seconds}s_embedding"]
        np.testing.assert_allclose(output.clipwise, clipwise, atol=tolerances.CLIPWISE, rtol=0)
        np.testing.assert_allclose(
            output.embedding, embedding, atol=tolerances.EMBEDDING * np.abs(embedding).max(), rtol=0
        )
        assert output.framewise is None
        assert model.config.embedding_dim == embedding.shape[1]


@pytest.mark.parametrize(("name", "shortest"), [("Cnn6", 4800), ("Cnn10", 4800), ("Cnn14", 9920)])
def test_shortest_clip_is_the_published_one(name: str, shortest: int):
    config = REGISTRY[name]
    assert config.min_samples == shortest
    # One sample less, and the pools leave no step.
    frames = config.frontend.frames(shortest - 1)
    pools = 4 if name != "Cnn14" else 5
    assert frames // 2**pools == 0
    assert config.frontend.frames(shortest) // 2**pools == 1
