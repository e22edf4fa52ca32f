"""The most memory that a training step takes."""

import time
from collections.abc import Iterator
from typing import Any

import gpu_subject

_STEPS = 4


def measure(of: str, *, tiny: bool, **settings: Any) -> Iterator[dict[str, Any]]:
    """Peak of the device's memory over a few steps.

    Args:
      of: PRECISION:REMATERIALIZE:ACCUMULATION:GB; GB of the card that is stood for, to whose memory the process was
        confined before it began, 0 for none.
      tiny: smaller sizes.
    """
    del settings
    import jax

    precision, rematerialize, accumulation, gigabytes = of.split(":")
    told = {"precision": precision, "rematerialize": rematerialize, "accumulation_steps": int(accumulation)}
    told |= {"card_gigabytes": float(gigabytes) or None}
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    try:
        step = gpu_subject.OurStep(
            gpu_subject.config(tiny=tiny),
            gpu_subject.batch(tiny=tiny),
            precision,
            rematerialize=rematerialize,  # pyright: ignore[reportArgumentType]
            accumulation_steps=int(accumulation),
        )
        losses, seconds = [], []
        for _ in range(_STEPS):
            begun = time.monotonic()
            losses.append(step())
            seconds.append(time.monotonic() - begun)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        yield {**told, "fits": False, "limit": limit, "why": str(error).splitlines()[0][:300]}
        return
    statistics = jax.devices()[0].memory_stats() or {}
    yield {
        **told,
        "fits": True,
        "limit": limit,
        "peak": statistics.get("peak_bytes_in_use"),
        "planned": step.analysed,
        "compiling": round(step.compiling, 1),
        "losses": losses,
        "step_seconds_while_others_ran": min(seconds),
    }
