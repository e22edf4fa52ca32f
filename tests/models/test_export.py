"""Models as programs of `jax.export`, for batches and clips of any size."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jaxtyping
import numpy as np
import pytest
import recipe
from flax import nnx
from small_models import FRONTEND, SMALL
from weights import arbitrary

from panns_jax.models.model import Model
from panns_jax.pretrained.rules import filled_model


def exported(model: Model, sizes: str, constraints: Sequence[str] = ()) -> tuple[jax.export.Exported, Any]:
    """The model for waveforms of these sizes, symbols among them; and its weights."""
    graph, state = nnx.split(model)
    waveform = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes, constraints=constraints), np.float32)
    weights, rest = jax.tree.flatten(state)
    run = jax.jit(lambda weights, waveform: nnx.merge(graph, jax.tree.unflatten(rest, weights))(waveform).clipwise)
    return jax.export.export(run)(weights, waveform), weights


def check(name: str, sizes: str, batches: Sequence[tuple[int, int]], constraints: Sequence[str] = ()) -> None:
    model = filled_model(SMALL[name], arbitrary(SMALL[name]))
    program, weights = exported(model, sizes, constraints)
    for batch, samples in batches:
        waveform = recipe.waveform(batch, samples, FRONTEND.sample_rate, 1)
        np.testing.assert_allclose(program.call(weights, waveform), jax.jit(model)(waveform).clipwise, atol=1e-5)


def test_a_program_may_be_for_any_number_of_clips():
    check("cnn", "batch, 4000", [(1, 4000), (3, 4000)])


@pytest.mark.parametrize("name", SMALL)
def test_a_program_may_be_for_any_length_too(name: str, monkeypatch: pytest.MonkeyPatch):
    # As where types are not checked at run time: a length that is a symbol is no `int`.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    check(name, "batch, samples", [(1, 4000), (3, 2500)], ["samples >= 2000"])
