"""The time of a training step of Cnn14 beside PyTorch's, eager and compiled, in turns in one process."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import gpu_subject
import turns
from table import OURS

_ROUNDS = 15
# Seconds that many turns take; where fewer are left, there are few turns.
_ENOUGH = 15


def measure(of: str, *, tiny: bool, until: float, **settings: Any) -> Iterator[dict[str, Any]]:
    """Median, least and most seconds of a step of each side, after the times of their first calls.

    Args:
      of: precision; PyTorch's bfloat16 is automatic mixed precision.
      tiny: smaller sizes.
      until: when everything has to be measured, on the monotonic clock.
    """
    del settings
    config, batch = gpu_subject.config(tiny=tiny), gpu_subject.batch(tiny=tiny)
    ours = gpu_subject.OurStep(config, batch, of)
    sides: dict[str, Callable[[], float]] = {OURS: ours}
    facts: dict[str, dict[str, Any]] = {OURS: {"tracing": ours.lowering, "compiling": ours.compiling}}
    facts[OURS] |= _first_call(ours)
    if missing := common.missing(["torch"]):
        yield {"precision": of, "engine": "PyTorch", "failed": f"{', '.join(missing)} not installed"}
        yield from _in_turns(sides, facts, of, len(batch["target"]) // 2, 2 if tiny else _ROUNDS)
        return
    for name, compiled in {"PyTorch": False, "torch.compile": True}.items():
        side = _by_torch(config, batch, of, compiled=compiled)
        facts[name] = _first_call(side)
        sides[name] = side
        # What is compiled may not be ready before time is up.
        few = not compiled or time.monotonic() > until - _ENOUGH
        for figure in _in_turns(sides, facts, of, len(batch["target"]) // 2, 2 if few or tiny else _ROUNDS):
            yield {**figure, "preliminary": not compiled}
    for name in ("PyTorch", "torch.compile"):
        yield {"precision": of, "engine": name, "torch_peak": _torch_peak(sides[name])}


def _in_turns(
    sides: dict[str, Callable[[], float]], facts: dict[str, dict[str, Any]], of: str, clips: int, rounds: int
) -> Iterator[dict[str, Any]]:
    taken = turns.in_turns(sides, rounds, warm_up=1)
    for name, timing in taken.items():
        yield {
            "precision": of,
            "engine": name,
            "clips": clips,
            "median": timing.median,
            "least": timing.least,
            "most": timing.most,
            "rounds": rounds,
            "ratio": taken[OURS].median / timing.median,
            **facts[name],
        }


def _by_torch(config: Any, batch: Any, precision: str, *, compiled: bool) -> Callable[[], float]:
    from torch_cnn import TorchCnn, TorchStep

    model = TorchCnn(config, gpu_subject.state_dict(config), halves=precision == "bfloat16")
    rate = gpu_subject.LEARNING_RATE
    return TorchStep(model, batch, rate, tf32=precision != "float32", compiled=compiled)


def _first_call(side: Callable[[], float]) -> dict[str, float]:
    begun = time.monotonic()
    loss = side()
    return {"first_call": time.monotonic() - begun, "first_loss": loss}


def _torch_peak(side: Callable[[], float]) -> int | None:
    """Most memory that PyTorch's tensors take during a step, those of the other of the two models left out."""
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    side()
    # The other of the two models has its weights, gradients and optimizer there, too.
    return torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated() // 2
