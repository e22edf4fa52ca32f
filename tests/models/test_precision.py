"""What a body computes in."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from flax import nnx
from small_models import SMALL
from weights import arbitrary

from panns_jax import InputError, create_transfer, load_model
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import PRECISIONS, Output, require_precision
from panns_jax.models.model import Model
from panns_jax.models.registry import list_models
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import filled_model

# Of as many channels as it takes for JAX 0.12 to compile a convolution and what follows it to one operation.
WIDE = dataclasses.replace(SMALL["cnn"], name="wide", body=Cnn(channels=(16, 24), pooled_blocks=1))
FAMILIES = {**SMALL, "wide": WIDE, "transfer": transfer(SMALL["res1dnet"])}
DISTINCT = (
    *("cnn", "wide", "decision-attention", "resnet", "mobilenet2", "leenet2", "dainet", "wavegram-logmel"),
    "transfer",
)


@nnx.jit
def forward(model: Model, waveform: np.ndarray) -> Output:
    return model(waveform, taps=("logits", "pooled", "frames"))


def extremes(samples: int, sample_rate: int) -> np.ndarray:
    """Silence, a square wave at full scale, white noise, and a constant."""
    square = np.sign(np.sin(2 * np.pi * 440 * np.arange(samples) / sample_rate) + 1e-6)
    noise = np.random.default_rng(0).uniform(-1, 1, samples)
    return np.stack([np.zeros(samples), square, noise, np.ones(samples)]).astype(np.float32)


def check(model: Model, samples: int) -> None:
    rate = model.config.sample_rate
    batch = np.concatenate([recipe.waveform(4, samples, rate, 2), extremes(samples, rate)])
    whole = forward(model, batch)
    model.set_precision("bfloat16")
    halved = forward(model, batch)
    difference = np.abs(np.asarray(halved.clipwise) - np.asarray(whole.clipwise))
    assert 0 < difference.max() < tolerances.BFLOAT16
    assert difference.mean() < tolerances.BFLOAT16_MEAN
    for value in jax.tree.leaves(halved):
        assert value.dtype == jnp.float32
        assert np.isfinite(value).all()
    model.set_precision("float32")
    np.testing.assert_array_equal(forward(model, batch).clipwise, whole.clipwise)


@pytest.mark.parametrize("name", DISTINCT)
def test_a_body_in_bfloat16_stays_near_and_finite(name: str):
    model = filled_model(FAMILIES[name], arbitrary(FAMILIES[name]))
    check(model, 8000)


@pytest.mark.long
@pytest.mark.parametrize("name", list_models())
def test_every_published_body_in_bfloat16_stays_near_and_finite(name: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    check(model, 2 * model.config.sample_rate)


def products(model: Model, precision: Any) -> set[tuple[str, str, str]]:
    """The operations that multiply, with the type of what they read and the precision that is asked for."""
    model.set_precision(precision)
    graph, state = nnx.split(model)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, np.zeros((1, 4000), np.float32))
    found: set[tuple[str, str, str]] = set()

    def visit(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                asked = equation.params["precision"]
                asked = asked[0] if isinstance(asked, tuple) else asked
                found.add((equation.primitive.name, str(equation.invars[0].aval.dtype), asked.name))
            for value in equation.params.values():
                for inner in value if isinstance(value, tuple | list) else [value]:
                    if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                        visit(getattr(inner, "jaxpr", inner))

    visit(jaxpr.jaxpr)
    return found


@pytest.mark.parametrize("name", ["cnn", "leenet", "transfer"])
def test_precision_touches_the_convolutions_of_the_body_and_nothing_else(name: str):
    # On a GPU, "default" means TF32 for float32; "highest" means whole float32 products.
    model = filled_model(FAMILIES[name], arbitrary(FAMILIES[name]))
    rest = {("dot_general", "float32", "HIGHEST")}  # mel matrix and head
    assert products(model, "float32") == rest | {("conv_general_dilated", "float32", "HIGHEST")}
    assert products(model, "tf32") == rest | {("conv_general_dilated", "float32", "DEFAULT")}
    assert products(model, "bfloat16") == rest | {("conv_general_dilated", "bfloat16", "DEFAULT")}


def test_the_convolutions_of_a_head_stay_in_float32():
    config = SMALL["decision-attention"]
    model: Any = filled_model(config, arbitrary(config))
    model.set_precision("tf32")
    assert model.att_block.cla.precision == jax.lax.Precision.HIGHEST
    assert model.conv_block1.conv1.precision == jax.lax.Precision.DEFAULT


def test_a_model_is_loaded_in_the_precision_that_is_asked_for(demo_checkpoint: Path):
    assert load_model(checkpoint=demo_checkpoint).precision == "float32"
    for precision in PRECISIONS:
        assert load_model(checkpoint=demo_checkpoint, precision=precision).precision == precision
    with pytest.raises(InputError, match="there is no precision 'float16'; there are float32, tf32, bfloat16, bf16"):
        require_precision("float16")


def test_bf16_is_bfloat16(demo_checkpoint: Path):
    model = load_model(checkpoint=demo_checkpoint, precision="bf16")
    assert model.precision == "bfloat16"
    assert products(model, "bf16") == products(model, "bfloat16")
    with_a_new_layer = create_transfer(model, 3, rngs=nnx.Rngs(0))
    assert with_a_new_layer.precision == "bfloat16"


def test_training_in_bfloat16_moves_float32_weights():
    config = SMALL["cnn"]
    model = filled_model(config, arbitrary(config))
    model.set_precision("bfloat16")
    model.train()

    def loss(model: Model) -> jax.Array:
        return model(recipe.waveform(2, 4000, 8000, 1), rngs=nnx.Rngs(0)).clipwise.sum()

    gradients = nnx.jit(nnx.grad(loss))(model)
    leaves = jax.tree.leaves(nnx.state(gradients))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
