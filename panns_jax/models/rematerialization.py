"""Blocks whose insides are computed anew in the backward pass instead of being kept: less memory for more time."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from panns_jax.models.clips import Clips

Rematerialize = Literal["none", "activations", "blocks"]
"""What training computes twice: nothing; normalisations, activations and pooling, so that of a block the results of its
convolutions are kept; or all of a block, of which its input is kept."""

_CONVOLUTION = "convolution"
_policies = {"activations": jax.checkpoint_policies.save_only_these_names(_CONVOLUTION), "blocks": None}
_in_use: ContextVar[Rematerialize] = ContextVar("_in_use", default="none")

Call = TypeVar("Call", bound=Callable[..., Clips])


@contextmanager
def rematerialized(what: Rematerialize) -> Iterator[None]:
    """What is traced within it computes this much twice. Results, gradients and random numbers stay the same."""
    token = _in_use.set(what)
    try:
        yield
    finally:
        _in_use.reset(token)


def convolved(x: Array) -> Array:
    """Marks the result of a convolution, which "activations" keeps."""
    return checkpoint_name(x, _CONVOLUTION)


def block(call: Call) -> Call:
    """Decorates the `__call__` of a block, from `Clips` and options to `Clips`, so that it can be computed twice."""

    @functools.wraps(call)
    def called(layers: nnx.Module, x: Clips, **options: Any) -> Clips:
        what = _in_use.get()
        if what == "none":
            return call(layers, x, **options)
        # What holds arrays has to be an argument; the other options are constants, such as the size of a pool.
        drawing = {"rngs": options.pop("rngs")} if "rngs" in options else {}
        view = x.view

        # Between layers go `Clips`, whose fields are checked; JAX puts other things than arrays into its arguments.
        def run(layers: nnx.Module, held: Any, lengths: Any, drawing: dict[str, Any]) -> tuple[Any, Any]:
            nonlocal view
            y = call(layers, dataclasses.replace(x, held=held, lengths=lengths), **drawing, **options)
            view = y.view
            return y.held, y.lengths

        held, lengths = nnx.remat(run, policy=_policies[what])(layers, x.held, x.lengths, drawing)
        return Clips(held, lengths, view)

    return called  # pyright: ignore[reportReturnType]
