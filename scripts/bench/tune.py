"""Measures which kernel is the fastest for which convolution, and rewrites the table of choices for this processor.

python scripts/bench/tune.py [--fresh] [--models Cnn14 …] [--rounds 7]

The table is panns_jax/kernels/choices.json, and has a part for each kind of processor (kernels/processor.py). Shapes
come from the models: in float32, and in bfloat16 too where the processor multiplies matrices of it.

Rows that the table has are kept, and get the kernels that they have no figures of: those are measured beside XLA's own
convolution, and their times set in proportion to the row's time of that. Kernels that are no more leave the table.
With --fresh all is measured anew, and old rows go; with --fresh --models, the rows that stand for shapes of these
models are measured anew, and all others stay as they are. A run that is stopped early keeps the old rows.
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

from panns_jax.infer.folding import Affine, shapes_of
from panns_jax.kernels import choice, processor
from panns_jax.kernels.choice import Choice, Measured
from panns_jax.kernels.kernel import DIRECT, Kernel, suiting
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
    parser.add_argument("--fresh", action="store_true", help="measure what the table has anew")
    named = sorted({name for name, _, _ in CASES})
    parser.add_argument("--models", nargs="+", choices=named, metavar="MODEL", help="only rows of these models' shapes")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each kernel; the fastest quarter counts")
    options = parser.parse_args()
    tune_process()
    level = processor.level()
    rows = {row.shape: kept(row) for row in choice.read_tables().get(level, ())}
    everything = options.fresh and not options.models
    wanted = list(shapes(options.models))
    if not options.fresh and not options.models:
        wanted = [*rows, *wanted]
    todo = missing({} if everything else rows, wanted, fresh=options.fresh)
    for shape, kernels in todo.items():
        times = measure(shape, kernels, options.rounds)
        rows[shape] = Measured(shape, times) if options.fresh else joined(rows.get(shape), Measured(shape, times))
        ordered = sorted(times.items(), key=lambda pair: pair[1])
        print(shape, ", ".join(f"{name} {time:.2f}" for name, time in ordered), flush=True)
        write(level, rows.values())
    write(level, [rows[shape] for shape in todo] if everything else rows.values())
    gain = choice.gain("bfloat16", level=level)
    if gain is not None:
        print(f"bfloat16 is {gain:.2f} times as fast as float32, over all shapes that the table has in both")


def kept(row: Measured) -> Measured:
    """The row without kernels that are no more, or no longer suit it."""
    names = {kernel.name for kernel in suiting(row.shape)}
    return Measured(row.shape, {name: time for name, time in row.milliseconds.items() if name in names})


def missing(
    rows: Mapping[ConvShape, Measured], wanted: Iterable[ConvShape], *, fresh: bool
) -> dict[ConvShape, tuple[Kernel, ...]]:
    """What is to be measured, so that a row stands for each shape that is wanted, with figures of all kernels.

    Args:
      rows: that are there.
      wanted: shapes; one that differs by less than `CLOSE` from a row's is that row's.
      fresh: whether rows that are there don't count, but for their shapes.

    Returns:
      shapes of rows, and the kernels to measure on each.
    """
    found = [*rows]
    todo: dict[ConvShape, tuple[Kernel, ...]] = {}
    for shape in wanted:
        row = shape if shape in rows else min(found, key=lambda other: choice.distance(other, shape), default=shape)
        if choice.distance(row, shape) >= CLOSE:
            row = shape
        found.append(row)
        known = rows[row].milliseconds if row in rows and not fresh else {}
        kernels = tuple(kernel for kernel in suiting(row) if kernel.name not in known)
        if kernels:
            todo[row] = tuple(dict.fromkeys((DIRECT, *kernels)))
    return todo


def joined(old: Measured | None, new: Measured) -> Measured:
    """Both rows in one: new times in proportion to the old time of XLA's own convolution, as another day is faster."""
    if old is None or DIRECT.name not in old.milliseconds:
        return new
    by = old.milliseconds[DIRECT.name] / new.milliseconds[DIRECT.name]
    return Measured(old.shape, {**{name: round(by * t, 3) for name, t in new.milliseconds.items()}, **old.milliseconds})


def shapes(models: Sequence[str] | None) -> Iterator[ConvShape]:
    """The convolutions of the cases for which there is more than one kernel, each once."""
    seen = set()
    precisions = ("float32", "bfloat16") if processor.multiplies_bfloat16() else ("float32",)
    for precision, (name, batch, seconds) in itertools.product(precisions, CASES):
        if models and name not in models:
            continue
        model = abstract_model(REGISTRY[name])
        model.eval()
        model.set_precision(precision)
        samples = round(seconds * model.config.sample_rate)
        for shape in shapes_of(model, batch, samples, with_lengths=False).values():
            if shape not in seen and len(suiting(shape)) > 1:
                yield shape
            seen.add(shape)


def measure(shape: ConvShape, kernels: Iterable[Kernel], rounds: int) -> Mapping[str, float]:
    """Milliseconds of each kernel, with the bias and ReLU that follow convolutions, as a prepared model has them."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((shape.batch, *shape.space, shape.in_channels), np.float32), shape.dtype)
    kernel = jnp.asarray(0.05 * rng.standard_normal((*shape.window, shape.in_channels, shape.out_channels), np.float32))
    bias = Affine(None, jnp.asarray(rng.standard_normal(shape.out_channels, np.float32)))
    sides = {}
    for one in kernels:
        planned = Choice(one, shape)
        # The layer's own weights are float32, also where the kernel computes in bfloat16.
        weights = planned.transform(kernel) if planned.nbytes else (kernel,)
        copies = itertools.cycle(_copies(weights))

        def run(x: Array, weights: tuple[Array, ...], bias: Affine, one=one) -> Array:
            y = one(x, weights, shape)
            if isinstance(y, Tiles):
                return y.map(lambda piece: jax.nn.relu(bias(piece))).whole()
            return jax.nn.relu(bias(y))

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
    """Puts the rows into the table, beside those of other kinds of processor; and what measured last."""
    tables = json.loads(TABLE.read_text(encoding="utf-8"))
    part = {"processor": machine.processor(), "jax": jax.__version__, "rows": choice.rows_as_json(rows)}
    tables["processors"][level] = part
    lines = json.dumps(tables, indent=1)
    TABLE.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
