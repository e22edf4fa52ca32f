"""A model on the GPU against what the published implementation computes, by the figures of the tests."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.models.config import Output

_SEED = 1


def measure(of: str, *, tiny: bool, until: float, **settings: Any) -> Iterator[dict[str, Any]]:
    """Largest differences of a model's outputs from the golden figures, per precision, prepared and not.

    Args:
      of: name of the model.
      tiny: in float32 alone.
      until: when no other figure is begun, on the monotonic clock.
    """
    del settings
    import json

    import jax
    import numpy as np
    from flax import nnx

    import panns_jax
    from convert.recipe import state_dict, waveform
    from panns_jax.models.registry import model_config
    from panns_jax.pretrained.conversion import convert_weights
    from panns_jax.pretrained.rules import filled_model

    folder = common.ROOT / "tests" / "golden"
    with np.load(folder / "published" / f"{of}.npz") as arrays:
        golden = dict(arrays)
    seconds = min((name.partition("s_")[0] for name in golden), key=float)
    scale = json.loads((folder / "manifest.json").read_text())[of]["last_scale"]
    config = model_config(of)
    weights = convert_weights(state_dict(config, _SEED, last_scale=scale), config, "the recipe")
    rate = config.sample_rate
    clips = jax.device_put(waveform(2, round(float(seconds) * rate), rate, _SEED))
    for precision in ("float32",) if tiny else ("float32", "tf32", "bfloat16"):
        model = filled_model(config, weights)
        model.eval()
        model.set_precision(precision)
        graph, state = nnx.split(model)
        plain = jax.jit(lambda state, clips, graph=graph: nnx.merge(graph, state)(clips))
        sides: dict[str, Callable[[], Output]] = {
            "plain": lambda plain=plain, state=state: plain(state, clips),
            "prepared": lambda model=model: panns_jax.prepare(model)(clips),
        }
        for way, run in sides.items():
            if time.monotonic() > until:
                return
            begun = time.monotonic()
            output = jax.block_until_ready(run())
            taken = time.monotonic() - begun
            told = {"model": of, "precision": precision, "way": way, "first_call": round(taken, 2)}
            yield {**told, **_differences(output, golden, seconds)}


def _differences(output: "Output", golden: "dict[str, np.ndarray]", seconds: str) -> dict[str, float]:
    """Largest absolute ones of probabilities; of embeddings relative to their largest value."""
    import numpy as np

    off = np.abs(np.asarray(output.clipwise) - golden[f"{seconds}s_clipwise_output"])
    told = {"clipwise": float(off.max()), "clipwise_mean": float(off.mean())}
    if output.embedding is not None:
        want = golden[f"{seconds}s_embedding"]
        told["embedding"] = float(np.abs(np.asarray(output.embedding) - want).max() / np.abs(want).max())
    if output.framewise is not None:
        want = golden[f"{seconds}s_framewise_every_32"]
        told["framewise"] = float(np.abs(np.asarray(output.framewise)[:, ::32] - want).max())
    return told
