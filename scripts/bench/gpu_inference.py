"""Clips of ten seconds per second that Cnn14 tags, beside PyTorch's compiled model, in turns in one process."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import common
import gpu_subject
import turns

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.models.config import ModelConfig, Precision

# What says most comes first, as time may run out.
_CASES: "tuple[tuple[Precision, int], ...]" = (
    *(("bfloat16", 32), ("tf32", 32), ("float32", 32)),
    *(("bfloat16", 128), ("tf32", 128), ("float32", 128)),
    *(("bfloat16", 1), ("tf32", 1), ("float32", 1)),
)
_TINY: "tuple[tuple[Precision, int], ...]" = (("float32", 2), ("tf32", 1))
_ROUNDS = 15


def measure(of: str, *, tiny: bool, until: float, **settings: Any) -> Iterator[dict[str, Any]]:
    """Clips per second of each engine, batch by batch; clips are on the device already.

    Args:
      of: nothing.
      tiny: smaller sizes.
      until: when no other batch is begun, on the monotonic clock.
    """
    del of, settings
    import panns_jax
    from panns_jax.pretrained.conversion import convert_weights
    from panns_jax.pretrained.rules import filled_model

    config = gpu_subject.config(tiny=tiny)
    given = gpu_subject.state_dict(config)
    weights = convert_weights(given, config, "the recipe")
    for precision, size in _TINY if tiny else _CASES:
        if time.monotonic() > until:
            return
        clips = common.clips(min(size, 8), 1 if tiny else 10)
        clips = clips[[i % len(clips) for i in range(size)]]
        model = filled_model(config, weights)
        model.eval()
        model.set_precision(precision)
        sides = {"panns_jax": _plain(model, clips)}
        try:
            sides["panns_jax prepared"] = _ours(panns_jax.prepare(model), clips)
        except panns_jax.InputError as error:
            yield {"precision": precision, "batch": size, "engine": "panns_jax prepared", "failed": str(error)}
        if not common.missing(["torch"]):
            sides["torch.compile"] = _by_torch(config, given, clips, precision)
        first_calls = turns.in_turns(sides, 1, warm_up=0)
        taken = turns.in_turns(sides, 2 if tiny else _ROUNDS, warm_up=2)
        for name, timing in taken.items():
            yield {
                "precision": precision,
                "batch": size,
                "engine": name,
                "clips_per_second": size / timing.median,
                "median": timing.median,
                "least": timing.least,
                "most": timing.most,
                "first_call": first_calls[name].median,
            }


def _plain(model: Any, clips: "np.ndarray") -> Callable[[], object]:
    import jax
    from flax import nnx

    graph, state = nnx.split(model)
    jitted = jax.jit(lambda state, clips: nnx.merge(graph, state)(clips))
    return _ours(lambda clips: jitted(state, clips), clips)


def _ours(model: Callable[[Any], Any], clips: "np.ndarray") -> Callable[[], object]:
    import jax

    given = jax.device_put(clips)
    return lambda: jax.block_until_ready(model(given).clipwise)


def _by_torch(config: "ModelConfig", weights: Any, clips: "np.ndarray", precision: str) -> Callable[[], object]:
    import torch
    from torch_cnn import TorchCnn, synchronize, use_tf32

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = TorchCnn(config, weights, halves=precision == "bfloat16").to(device).eval()
    # Each size gets a program of its own, as in JAX.
    compiled = torch.compile(model, dynamic=False)
    given = torch.from_numpy(clips).to(device)

    def run() -> object:
        use_tf32(precision != "float32")
        with torch.inference_mode():
            clipwise = compiled(given)
        synchronize()
        return clipwise

    return run
