"""The kernel of a convolution is the one that the table says is fastest, within the memory that there is."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array
from small_models import SMALL
from weights import arbitrary

import panns_jax
from panns_jax.kernels import choice, kernel, processor
from panns_jax.kernels.choice import _COST_OF_GROWTH, Choice, Measured, choose, distance, ranked, read_tables
from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.kernel import DIRECT, KERNELS, suiting
from panns_jax.kernels.shape import ConvShape
from panns_jax.pretrained.rules import filled_model

TABLES = read_tables()
LEVELS = ("amx", "avx512", "avx2", "neon", "of a time to come")


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, Any]:
    """Of convolutions as models have them, and of others."""
    taps = draw(st.sampled_from((1, 3, 5, 11)))
    dimensions = draw(st.sampled_from((1, 2)))
    return {
        "batch": draw(st.integers(1, 32)),
        "space": tuple(draw(st.integers(1, 1000)) for _ in range(dimensions)),
        "in_channels": draw(st.sampled_from((1, 3, 64, 100, 2048))),
        "out_channels": draw(st.integers(1, 2048)),
        "window": (taps,) * dimensions,
        "stride": draw(st.sampled_from((1, 1, 2))),
        "padding": draw(st.sampled_from((taps // 2, taps // 2, 0))),
        "dilation": draw(st.sampled_from((1, 1, 2))),
        "dtype": draw(st.sampled_from(("float32", "bfloat16"))),
    }


# Layers as those of Cnn14, which the table is full of.
LAYERS = {
    f"{channels} at {time}": {
        "batch": 1,
        "space": (time, max(2, time // 16)),
        "in_channels": channels,
        "out_channels": channels,
        "window": (3, 3),
        "padding": 1,
    }
    for channels, time in ((64, 1000), (128, 500), (256, 250), (512, 125), (1024, 62), (2048, 31))
}


@settings(max_examples=50, deadline=None)
@given(given_sizes=st.lists(sizes(), max_size=8), platform=st.sampled_from(("gpu", "cuda", "rocm", "tpu")))
def test_on_other_platforms_it_is_always_xlas_own(given_sizes: list[dict[str, Any]], platform: str):
    shapes = {number: ConvShape(**sizes) for number, sizes in enumerate(given_sizes)}
    chosen = choose(shapes, math.inf, platform=platform)
    assert list(chosen) == list(shapes)
    assert all(one == Choice(DIRECT, shapes[number]) for number, one in chosen.items())


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), max_size=6),
    others=st.lists(sizes(), max_size=6),
    megabytes=st.integers(0, 1000),
)
def test_all_kernels_together_keep_to_the_limit(names: list[str], others: list[dict[str, Any]], megabytes: int):
    shapes = {i: ConvShape(**sizes) for i, sizes in enumerate([*(LAYERS[name] for name in names), *others])}
    free = choose(shapes, math.inf, platform="cpu")
    limit = megabytes * 1e6
    chosen = choose(shapes, limit, platform="cpu")
    assert list(chosen) == list(shapes)
    assert sum(one.nbytes for one in chosen.values()) <= limit
    for number, one in chosen.items():
        assert one.shape == shapes[number] and one.kernel.suits(one.shape)
        assert one.nbytes <= free[number].nbytes
        assert one.kernel in ranked(one.shape)
    if sum(one.nbytes for one in free.values()) <= limit:
        assert chosen == free
    if limit == 0:
        assert all(one.kernel.growth(one.shape) == 0 for one in chosen.values())


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts rows in the place of the table."""

    def put(*rows: Measured) -> None:
        choice._times.cache_clear()
        monkeypatch.setattr(choice, "_table", lambda level: rows)

    yield put
    choice._times.cache_clear()
    suiting.cache_clear()


def test_where_memory_is_short_it_is_saved_where_most_is_taken(table: Callable[..., None]):
    wide, narrow = (ConvShape(1, (40, 8), n, n, (3, 3), padding=1) for n in (64, 16))
    times = {"xla": 9.0, "winograd 4x4": 1.0, "winograd 4x2": 2.0, "winograd 2x2": 3.0, "columns": 4.0}
    table(Measured(wide, times))
    shapes = {"narrow": narrow, "wide": wide}

    def named(limit: float) -> tuple[str, str]:
        chosen = choose(shapes, limit, platform="cpu")
        return chosen["narrow"].kernel.name, chosen["wide"].kernel.name

    fastest = {key: Choice(KERNELS["winograd 4x4"], shape).nbytes for key, shape in shapes.items()}
    second = Choice(KERNELS["winograd 4x2"], wide).nbytes
    assert named(sum(fastest.values())) == ("winograd 4x4", "winograd 4x4")
    assert named(sum(fastest.values()) - 1) == ("winograd 4x4", "winograd 4x2")
    assert named(fastest["narrow"] + second) == ("winograd 4x4", "winograd 4x2")
    assert named(fastest["narrow"]) == ("winograd 4x4", "columns")
    assert named(0) == ("columns", "columns")


def test_what_is_held_already_stays_unless_that_takes_much_longer(table: Callable[..., None]):
    shape = ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)
    sizes = {name: Choice(KERNELS[name], shape).nbytes for name in ("winograd 4x4", "winograd 2x2")}

    def chosen(limit: float, *, slower: float) -> str:
        table(Measured(shape, {"xla": 100.0, "winograd 4x4": 10.0, "winograd 2x2": slower}))
        held = {0: {"winograd 2x2": sizes["winograd 2x2"]}}
        return choose({0: shape}, limit, platform="cpu", held=held)[0].kernel.name

    assert chosen(sizes["winograd 4x4"], slower=13.0) == "winograd 2x2"
    assert chosen(sum(sizes.values()), slower=13.0) == "winograd 4x4"  # both can stay
    assert chosen(sizes["winograd 4x4"], slower=18.0) == "winograd 4x4"


@settings(max_examples=100, deadline=None)
@given(sizes=sizes(), level=st.sampled_from(LEVELS))
def test_kernels_are_ranked_down_to_xlas_own_on_every_processor(sizes: dict[str, Any], level: str):
    shape = ConvShape(**sizes)
    kernels = ranked(shape, level=level)
    assert kernels[-1] is DIRECT
    assert len({kernel.name for kernel in kernels}) == len(kernels)
    assert all(kernel.suits(shape) for kernel in kernels)


def test_the_fastest_comes_first_and_what_is_slower_than_xla_not_at_all(table: Callable[..., None]):
    shape = ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)
    table(Measured(shape, {"xla": 5.0, "columns": 6.0, "winograd 2x2": 3.0, "winograd 4x2": 2.0, "gone": 1.0}))
    assert [kernel.name for kernel in ranked(shape)] == ["winograd 4x2", "winograd 2x2", "xla"]
    # Another size of the same kind is taken for it; of another kind nothing is known.
    assert ranked(dataclasses.replace(shape, batch=7))[0].name == "winograd 4x2"
    assert ranked(dataclasses.replace(shape, stride=2)) == (DIRECT,)


def test_a_kernel_that_suits_the_nearest_row_but_not_the_shape_is_passed_over(table: Callable[..., None]):
    row = ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)
    large = dataclasses.replace(row, space=(4000, 64))
    table(Measured(row, {"xla": 5.0, "columns": 1.0, "winograd 2x2": 3.0}))
    assert KERNELS["columns"].suits(row) and not KERNELS["columns"].suits(large)
    assert [kernel.name for kernel in ranked(large)] == ["winograd 2x2", "xla"]


def test_without_any_table_it_is_xlas_own(table: Callable[..., None]):
    table()
    assert ranked(ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)) == (DIRECT,)


def test_a_processor_without_a_table_gets_that_of_another():
    shape = ConvShape(**LAYERS["256 at 250"])
    first = "avx512" if "avx512" in TABLES else next(iter(TABLES))
    assert ranked(shape, level="of a time to come") == ranked(shape, level=first)
    assert len(ranked(shape, level="of a time to come")) > 1


@pytest.mark.parametrize(
    ("flags", "machine", "level"),
    [
        ({"avx2", "avx512f", "amx_tile", "amx_bf16"}, "x86_64", "amx"),
        ({"avx2", "avx512f"}, "x86_64", "avx512"),
        ({"avx2"}, "x86_64", "avx2"),
        (set(), "AMD64", "avx2"),
        ({"asimd"}, "aarch64", "neon"),
        (set(), "arm64", "neon"),
    ],
)
def test_processors_are_told_apart_by_their_instructions(flags: set[str], machine: str, level: str):
    assert processor.level(frozenset(flags), machine) == level
    assert processor.multiplies_bfloat16(frozenset(flags)) == ("amx_bf16" in flags)


BLOCK = ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)
HALVED = dataclasses.replace(BLOCK, dtype="bfloat16")
DEEP = dataclasses.replace(HALVED, in_channels=128)


def test_what_a_type_gains_is_told_by_the_fastest_kernels_of_shapes_that_were_measured_in_both(
    monkeypatch: pytest.MonkeyPatch,
):
    rows = [
        Measured(BLOCK, {"xla": 3.0, "winograd 4x2": 2.0}),
        Measured(HALVED, {"xla": 1.0, "winograd 2x2": 2.0}),
        Measured(DEEP, {"xla": 100.0}),
    ]
    monkeypatch.setattr(choice, "read_tables", lambda: {"amx": rows, "avx512": [rows[0], rows[2]]})
    assert choice.gain("bfloat16", level="amx") == 2
    assert choice.gain("bfloat16", level="avx512") is None
    assert choice.gain("bfloat16", level="avx2") is None  # which is served from the rows of another
    for level in ("amx", "avx512", "neon"):
        monkeypatch.setattr(processor, "level", lambda level=level: level)
        assert choice.gain("bfloat16") == (2 if level == "amx" else None)
    rows.append(Measured(dataclasses.replace(DEEP, dtype="float32"), {"xla": 3.05, "winograd 4x2": 48.5}))
    assert choice.gain("bfloat16", level="amx") == pytest.approx(5.05 / 101)


def test_every_row_of_the_table_measures_kernels_that_there_are_on_a_shape_that_they_suit():
    assert TABLES
    for level, rows in TABLES.items():
        assert rows, level
        for row in rows:
            assert DIRECT.name in row.milliseconds, row
            assert all(KERNELS[name].suits(row.shape) for name in row.milliseconds), row
            assert all(0 < time < math.inf for time in row.milliseconds.values()), row


def test_every_row_of_the_table_ranks_the_kernels_by_its_times():
    for level, rows in TABLES.items():
        assert len({row.shape for row in rows}) == len(rows), level
        for row in rows:
            kernels = ranked(row.shape, level=level)
            costs = {
                name: time * (1 + _COST_OF_GROWTH * KERNELS[name].growth(row.shape))
                for name, time in row.milliseconds.items()
            }
            assert kernels[0].name == min(costs, key=lambda name: costs[name]), row
            ranking = [costs[kernel.name] for kernel in kernels]
            assert ranking == sorted(ranking), row


@settings(max_examples=200, deadline=None)
@given(one=sizes(), other=sizes())
def test_distance_is_that_of_a_map(one: dict[str, Any], other: dict[str, Any]):
    first, second = ConvShape(**one), ConvShape(**other)
    assert distance(first, first) == 0
    assert distance(first, second) == pytest.approx(distance(second, first)) and distance(first, second) >= 0
    if (one["window"], one["stride"], one["dtype"]) != (other["window"], other["stride"], other["dtype"]):
        assert distance(first, second) == math.inf


def test_distance_counts_factors_of_two():
    shape = ConvShape(1, (40, 8), 64, 64, (3, 3), padding=1)
    assert distance(shape, dataclasses.replace(shape, space=(80, 8))) == 1
    assert distance(shape, dataclasses.replace(shape, space=(80, 8), out_channels=16)) == 3
    assert distance(shape, dataclasses.replace(shape, space=(80, 4))) == 0
    assert 0 < distance(shape, dataclasses.replace(shape, batch=2, space=(20, 8))) < 1
    assert distance(shape, dataclasses.replace(shape, space=(160, 2))) == math.inf  # has algorithms of its own


@dataclasses.dataclass(frozen=True)
class ByTaps:
    """A stranger's kernel: the sum over taps of one matrix product each, over weights that it holds once more."""

    name: str = "by taps"
    calls: list[ConvShape] = dataclasses.field(default_factory=list, hash=False, compare=False)

    def suits(self, shape: ConvShape) -> bool:
        return shape.keeps_size and len(shape.window) == 2

    def growth(self, shape: ConvShape) -> float:
        return 1.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return tuple(kernel[i, j] for i, j in itertools.product(*map(range, shape.window)))

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        self.calls.append(shape)
        height, width = shape.space
        padded = jnp.pad(x, ((0, 0), *((size // 2,) * 2 for size in shape.window), (0, 0)))
        taps = itertools.product(*map(range, shape.window))
        views = (padded[:, i : i + height, j : j + width] for i, j in taps)
        products = (jnp.einsum("bhwi,io->bhwo", v, u, precision="highest") for v, u in zip(views, weights, strict=True))
        return sum(products, start=jnp.zeros((), x.dtype))


def test_a_strangers_kernel_is_used_once_it_is_registered_and_measured(
    table: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    stranger = ByTaps()
    assert isinstance(stranger, kernel.Kernel)
    monkeypatch.setitem(KERNELS, stranger.name, stranger)
    suiting.cache_clear()
    shape = ConvShape(1, (100, 16), 4, 4, (3, 3), padding=1)
    assert stranger in suiting(shape)
    rows = (shape, dataclasses.replace(shape, in_channels=1))
    table(*(Measured(row, {"xla": 2.0, stranger.name: 1.0}) for row in rows))
    model = filled_model(SMALL["cnn"], arbitrary(SMALL["cnn"]))
    ready = panns_jax.prepare(model)
    waveform = recipe.waveform(2, 8000, 8000, 1)
    answer = ready(waveform)
    assert len(stranger.calls) == 4  # both convolutions of both blocks
    np.testing.assert_allclose(answer.clipwise, model(waveform).clipwise, atol=tolerances.PREPARED, rtol=0)
    kernels = [leaf.nbytes for path, leaf in arbitrary_kernels()]
    assert ready.nbytes == ready._own + sum(kernels)


def arbitrary_kernels() -> list[tuple[str, np.ndarray]]:
    weights = arbitrary(SMALL["cnn"])
    return [(path, array) for path, array in weights.items() if path.endswith("kernel") and array.ndim == 4]


def test_what_a_kernel_holds_is_what_it_says_beforehand():
    shapes = [ConvShape(1, (12, width), 6, 5, (3, 3), padding=1) for width in (8, 2, 1)]
    shapes += [dataclasses.replace(shape, dtype="bfloat16") for shape in shapes]
    shapes += [dataclasses.replace(shape, out_channels=128) for shape in shapes]
    shapes += [ConvShape(1, (12,), 6, 5, (3,), padding=1), ConvShape(1, (12, 8), 1, 5, (3, 3), padding=1)]
    for shape in shapes:
        weights = jax.ShapeDtypeStruct((*shape.window, shape.in_channels, shape.out_channels), jnp.float32)
        for one in suiting(shape):
            planned = Choice(one, shape)
            if planned.nbytes:
                held = jax.eval_shape(planned.transform, weights)
                assert sum(array.size * array.dtype.itemsize for array in held) == planned.nbytes, (one.name, shape)


def test_xlas_own_convolution_is_what_it_says():
    shape = ConvShape(1, (9, 7), 2, 3, (3, 3), stride=2, padding=1)
    rng = np.random.default_rng(0)
    x, weights = (jnp.asarray(rng.standard_normal(size, np.float32)) for size in ((1, 9, 7, 2), (3, 3, 2, 3)))
    np.testing.assert_array_equal(DIRECT(x, (weights,), shape), xla_convolution(x, weights, stride=2, padding=1))
