"""Measures which kernel is the fastest for which convolution, and rewrites the table of choices for this processor.

python scripts/bench/tune.py [--fresh] [--models Cnn14 …] [--rounds 7]

Shapes come from the models; those that the table has are left as they are unless --fresh measures everything anew.
The table is panns_jax/kernels/choices.json, and has a part for each kind of processor (kernels/processor.py).
"""

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import common
import jax
import jax.numpy as jnp
import machine
import numpy as np
from jaxtyping import Array

from panns_jax.infer.folding import shapes_of
from panns_jax.kernels import choice, processor
from panns_jax.kernels.choice import Choice, Measured
from panns_jax.kernels.kernel import suiting
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles
from panns_jax.models.abstract import abstract_model
from panns_jax.models.registry import REGISTRY
from panns_jax.process import tune_process

TABLE = common.ROOT / "panns_jax" / "kernels" / "choices.json"

# Shapes that differ by less, in factors of two of all their sizes together, are taken for the same.
CLOSE = 0.6

# Bytes beyond which no processor's cache goes.
_CACHE = 96 << 20
_MOST_COPIES = 40

# Model, batch, seconds: what people run.
CASES = (
    ("Cnn14", 1, 10.0),
    ("Cnn14", 8, 10.0),
    ("Cnn14", 1, 1.0),
    ("Cnn14", 1, 2.0),
    ("Cnn14", 4, 10.0),
    ("Cnn14", 8, 2.0),
    ("Cnn6", 1, 10.0),
    ("Cnn14_mel128", 1, 10.0),
    ("Wavegram_Logmel_Cnn14", 1, 10.0),
    ("ResNet38", 4, 10.0),
    ("ResNet54", 1, 10.0),
    ("MobileNetV1", 1, 10.0),
    ("MobileNetV2", 8, 10.0),
    ("Res1dNet31", 4, 10.0),
    ("Res1dNet51", 1, 10.0),
    ("LeeNet24", 1, 10.0),
    ("DaiNet19", 1, 10.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="measure what the table has, too")
    named = sorted({name for name, _, _ in CASES})
    parser.add_argument("--models", nargs="+", choices=named, metavar="MODEL", help="shapes of these models only")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each kernel; the fastest quarter counts")
    options = parser.parse_args()
    tune_process()
    level = processor.level()
    rows = {row.shape: row for row in choice.read_tables().get(level, ())}
    measured = [] if options.fresh else list(rows)
    for shape in shapes(options.models):
        if any(choice.distance(row, shape) < CLOSE for row in measured):
            continue
        measured.append(shape)
        rows[shape] = Measured(shape, measure(shape, options.rounds))
        times = sorted(rows[shape].milliseconds.items(), key=lambda pair: pair[1])
        print(shape, ", ".join(f"{name} {time:.2f}" for name, time in times), flush=True)
        write(level, rows.values())


def shapes(models: Sequence[str] | None) -> Iterator[ConvShape]:
    """The convolutions of the cases for which there is more than one kernel, each once."""
    seen = set()
    for name, batch, seconds in CASES:
        if models and name not in models:
            continue
        model = abstract_model(REGISTRY[name])
        model.eval()
        samples = round(seconds * model.config.sample_rate)
        for shape in shapes_of(model, batch, samples, with_lengths=False).values():
            if shape not in seen and len(suiting(shape)) > 1:
                yield shape
            seen.add(shape)


def measure(shape: ConvShape, rounds: int) -> Mapping[str, float]:
    """Milliseconds of each kernel that suits, with the bias and ReLU that follow convolutions."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((shape.batch, *shape.space, shape.in_channels), np.float32))
    kernel = jnp.asarray(0.05 * rng.standard_normal((*shape.window, shape.in_channels, shape.out_channels), np.float32))
    bias = jnp.asarray(rng.standard_normal(shape.out_channels, np.float32))
    sides = {}
    for one in suiting(shape):
        weights = Choice(one, shape).transform(kernel)
        copies = itertools.cycle(_copies(weights))

        def run(x: Array, weights: tuple[Array, ...], bias: Array, one=one) -> Array:
            y = one(x, weights, shape)
            if isinstance(y, Tiles):
                return y.map(lambda piece: jax.nn.relu(piece + bias)).whole()
            return jax.nn.relu(y + bias)

        compiled = jax.jit(run).lower(x, weights, bias).compile()

        def take_turn(compiled: jax.stages.Compiled = compiled, copies: Iterator = copies) -> None:
            compiled(x, next(copies), bias).block_until_ready()

        sides[one.name] = take_turn
    return {name: round(1000 * seconds, 3) for name, seconds in _fastest(sides, rounds).items()}


def _copies(weights: tuple[Array, ...]) -> list[tuple[Array, ...]]:
    """So many of the same weights that those which have their turn are in no cache, as in a whole model."""
    count = math.ceil(_CACHE / sum(array.nbytes for array in weights))
    return [weights, *(jax.tree.map(jnp.copy, weights) for _ in range(min(count, _MOST_COPIES)))]


def _fastest(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each side: mean of the fastest quarter of its turns, which others disturbed least.

    Sides that take twice as long as another are left alone after two turns.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        best = min((min(times) for times in taken.values() if times), default=0.0)
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            if turn > 2 and min(taken[name]) > 2 * best:
                continue
            begun = time.perf_counter()
            sides[name]()
            if turn:  # the first turn warms up
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.mean(sorted(times)[: max(1, len(times) // 4)]) for name, times in taken.items()}


def write(level: str, rows: Iterable[Measured]) -> None:
    """Puts the rows into the table, beside those of other kinds of processor."""
    tables = json.loads(TABLE.read_text(encoding="utf-8"))
    part = {"processor": machine.processor(), "jax": jax.__version__, "rows": choice.rows_as_json(rows)}
    tables["processors"][level] = part
    lines = json.dumps(tables, indent=1)
    TABLE.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
