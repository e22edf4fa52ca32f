"""A training step of Cnn14 (forward, backward, Adam with AMSGrad) beside PyTorch's, from the same weights on one batch.

    python scripts/bench/bench_training_step.py [--batch 4] [--seconds 10] [--dropout] [--rounds 7] [--json FILE]
                                                [--no-tune]

Without dropout the losses of the first two steps have to agree, otherwise the exit code is 1; the second one shows
gradients and update. SpecAugment and mixup are left out on both sides. The page faults of each side are told, since a
step that asks the operating system for its memory anew takes several times as long.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import common
import machine
import table
import turns

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.models.config import ModelConfig

_MODEL = "Cnn14"
_RATE = 1e-4
_AIMS = {(table.OURS, "PyTorch"): 1.0}
# Relative; the first update moves every weight by the whole learning rate, also where its gradient is but rounding.
_TOLERANCES = (1e-4, 1e-3)

Step = Callable[[], float]
"""Does a step; returns the loss before it."""


def main() -> None:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--batch", type=common.at_least_one, default=4, help="clips at once (%(default)s)")
    parser.add_argument("--seconds", type=common.at_least_one, default=10, help="of each clip (%(default)s)")
    parser.add_argument("--dropout", action="store_true", help="with the published dropout; losses then differ")
    common.add_no_tune(parser)
    options = parser.parse_args()
    tuned = common.tune(options)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported
    common.require("torch", "librosa")
    described = machine.describe(tuned=tuned)
    machine.print_header(f"Training step of {_MODEL}", described)

    config, batch = _config(dropout=options.dropout), _batch(options.batch, options.seconds)
    losses: dict[str, list[float]] = {table.OURS: [], "PyTorch": []}
    steps = {table.OURS: _ours(config, batch), "PyTorch": _by_torch(config, batch, dropout=options.dropout)}
    sides = {name: lambda name=name, step=step: losses[name].append(step()) for name, step in steps.items()}
    first_calls = turns.in_turns(sides, 1, warm_up=0)
    taken = turns.in_turns(sides, options.rounds, warm_up=1)

    ours, theirs = (values[: len(_TOLERANCES)] for values in losses.values())
    off = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
    what = f"training step, batch {options.batch}, {options.seconds} s"
    rows = [
        table.Row(what, name, timing, max(off) if name == table.OURS else None, "of the loss", first_calls[name].median)
        for name, timing in taken.items()
    ]
    compared = table.ratios(rows, _AIMS)
    print(table.table(rows, compared))
    print(f"  losses of the first steps: {', '.join(map(str, ours))}; PyTorch's {', '.join(map(str, theirs))}")
    print(table.summary(compared))
    table.write_json(options.json, described, rows, compared)
    if not options.dropout and not all(a <= b for a, b in zip(off, _TOLERANCES, strict=True)):
        print(f"not PyTorch's losses within {_TOLERANCES}: off by {off}", file=sys.stderr)
        sys.exit(1)


def _config(*, dropout: bool) -> "ModelConfig":
    from panns_jax.models.registry import model_config

    config = dataclasses.replace(model_config(_MODEL), spec_augment=None)
    if dropout:
        return config
    body, head = (dataclasses.replace(part, dropout=0.0) for part in (config.body, config.head))  # pyright: ignore
    return dataclasses.replace(config, body=body, head=head)


def _batch(rows: int, seconds: int) -> "dict[str, np.ndarray]":
    import numpy as np

    target = np.random.default_rng(0).random((rows, 527)) < 0.02
    return {"waveform": common.clips(rows, seconds), "target": target.astype(np.float32)}


def _ours(config: "ModelConfig", batch: "dict[str, np.ndarray]") -> Step:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from panns_jax.pretrained.conversion import convert_weights
    from panns_jax.pretrained.rules import filled_model
    from panns_jax.train.losses import clip_bce
    from panns_jax.train.optimizer import make_optimizer
    from panns_jax.train.step import TrainState, architecture, data_mesh, make_train_step, place

    model = filled_model(config, convert_weights(common.weights(_MODEL), config, "the benchmark's weights"))
    params, batch_stats = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    optimizer, mesh = make_optimizer(_RATE), data_mesh(jax.devices()[:1])
    train_step = make_train_step(architecture(config), optimizer, mesh, loss=clip_bce, mixup=False, seed=0)
    given = place(batch, mesh)
    state: Any = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    def step() -> float:
        nonlocal state
        state, report = jax.block_until_ready(train_step(state, given))
        return float(report.loss)

    return step


def _by_torch(config: "ModelConfig", batch: "dict[str, np.ndarray]", *, dropout: bool) -> Step:
    import torch
    import torch.nn.functional as F

    from convert.torch_models import as_tensors
    from convert.torch_training import make_train_step

    torch.set_num_threads(machine.cores())
    tensors = as_tensors(common.weights(_MODEL), config)
    train_step = make_train_step(config, tensors, learning_rate=_RATE, dropout=F.dropout if dropout else None)
    waveform, target = (torch.from_numpy(batch[name]) for name in ("waveform", "target"))
    return lambda: train_step(waveform, target, None)


if __name__ == "__main__":
    main()
