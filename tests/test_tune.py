"""How the table of choices is measured and rewritten."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tune

from panns_jax.kernels import choice, processor
from panns_jax.kernels.choice import Measured
from panns_jax.kernels.kernel import KERNELS, Kernel, suiting
from panns_jax.kernels.shape import ConvShape

LAYER = ConvShape(1, (9, 8), 4, 4, (3, 3), padding=1)
NEAR = dataclasses.replace(LAYER, space=(11, 8))
OTHER = dataclasses.replace(LAYER, in_channels=16)
NARROW = dataclasses.replace(LAYER, space=(40, 1))
ALL = {kernel.name for kernel in suiting(LAYER)}


def row(shape: ConvShape, *without: str) -> dict[ConvShape, Measured]:
    return {shape: Measured(shape, {kernel.name: 1.0 for kernel in suiting(shape) if kernel.name not in without})}


def names(todo: Mapping[ConvShape, Iterable[Kernel]]) -> dict[ConvShape, set[str]]:
    return {shape: {kernel.name for kernel in kernels} for shape, kernels in todo.items()}


def test_the_shapes_are_close_and_apart():
    assert choice.distance(LAYER, NEAR) < tune.CLOSE < choice.distance(LAYER, OTHER) < choice.distance(LAYER, NARROW)


def test_a_row_stands_for_the_shapes_that_are_close_to_it():
    assert names(tune.missing({}, [LAYER, NEAR, OTHER], fresh=False)) == {LAYER: ALL, OTHER: ALL}
    assert names(tune.missing(row(NEAR), [LAYER, OTHER], fresh=False)) == {OTHER: ALL}


def test_of_old_rows_only_the_kernels_are_measured_that_they_have_no_figures_of_and_xlas_own_beside():
    rows = {**row(NEAR, "columns", "winograd 2x2"), **row(OTHER)}
    assert names(tune.missing(rows, [LAYER, OTHER], fresh=False)) == {NEAR: {"xla", "columns", "winograd 2x2"}}


def test_fresh_rows_are_those_that_stand_for_the_shapes():
    rows = {**row(NEAR, "columns"), **row(NARROW)}
    assert names(tune.missing(rows, [LAYER, OTHER], fresh=True)) == {NEAR: ALL, OTHER: ALL}


def test_new_figures_join_a_row_in_proportion_to_xlas_own():
    new = Measured(LAYER, {"xla": 4.0, "columns": 6.0})
    joined = tune.joined(Measured(LAYER, {"xla": 2.0, "winograd 2x2": 1.0}), new)
    assert joined == Measured(LAYER, {"xla": 2.0, "columns": 3.0, "winograd 2x2": 1.0})
    assert tune.joined(None, new) == new


def test_a_kernel_that_is_no_more_leaves_its_row():
    assert tune.kept(Measured(LAYER, {"xla": 2.0, "of old": 1.0, "winograd 2xall": 3.0})) == Measured(
        LAYER, {"xla": 2.0}
    )


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[ConvShape, Mapping[str, float]]]:
    """Runs the script where all times are 9, over a table of two rows, and reads what it wrote of this processor."""
    table = tmp_path / "choices.json"
    part = choice.rows_as_json([Measured(NEAR, {"xla": 3.0, "of old": 1.0}), Measured(NARROW, {"xla": 3.0})])
    table.write_text(json.dumps({"processors": {"here": {"rows": part}, "there": {"rows": part}}}))

    def read() -> dict[str, list[Measured]]:
        parts = json.loads(table.read_text())["processors"]
        return {name: [choice._row(row) for row in part["rows"]] for name, part in parts.items()}

    before = read()["there"]
    monkeypatch.setattr(tune, "TABLE", table)
    monkeypatch.setattr(tune, "tune_process", lambda: None)
    monkeypatch.setattr(processor, "level", lambda: "here")
    monkeypatch.setattr(choice, "read_tables", read)
    monkeypatch.setattr(tune, "shapes", lambda models: iter([LAYER] if models else [LAYER, OTHER]))

    def run(*arguments: str, measure: Callable[..., Mapping[str, float]] | None = None):
        nine = measure or (lambda shape, kernels, rounds: dict.fromkeys((kernel.name for kernel in kernels), 9.0))
        monkeypatch.setattr(tune, "measure", nine)
        monkeypatch.setattr(sys, "argv", ["tune.py", *arguments])
        tune.main()
        assert read()["there"] == before
        return {row.shape: row.milliseconds for row in read()["here"]}

    return run


def test_what_is_missing_is_added_to_all_rows(tuned: Callable[..., dict[ConvShape, Mapping[str, float]]]):
    rows = tuned()
    assert rows.keys() == {NEAR, NARROW, OTHER}
    assert rows[NEAR] == dict.fromkeys(ALL, 3.0)
    assert rows[NARROW] == dict.fromkeys((kernel.name for kernel in suiting(NARROW)), 3.0)
    assert rows[OTHER] == dict.fromkeys(ALL, 9.0)
    assert tuned() == rows


def test_of_one_model_only_its_rows_are_touched(tuned: Callable[..., dict[ConvShape, Mapping[str, float]]]):
    assert tuned("--models", "Cnn6") == {NEAR: dict.fromkeys(ALL, 3.0), NARROW: {"xla": 3.0}}
    assert tuned("--fresh", "--models", "Cnn6") == {NEAR: dict.fromkeys(ALL, 9.0), NARROW: {"xla": 3.0}}


def test_a_fresh_table_has_only_what_was_measured_for_it(tuned: Callable[..., dict[ConvShape, Mapping[str, float]]]):
    assert tuned("--fresh") == {LAYER: dict.fromkeys(ALL, 9.0), OTHER: dict.fromkeys(ALL, 9.0)}


def test_a_fresh_table_that_was_not_finished_keeps_the_old_rows(
    tuned: Callable[..., dict[ConvShape, Mapping[str, float]]],
):
    calls = itertools.count()

    def measure(shape: ConvShape, kernels: Iterable[Kernel], rounds: int) -> Mapping[str, float]:
        if next(calls):
            raise KeyboardInterrupt
        return {"xla": 9.0}

    with pytest.raises(KeyboardInterrupt):
        tuned("--fresh", measure=measure)
    rows = {row.shape: row.milliseconds for row in choice.read_tables()["here"]}
    assert rows == {NEAR: {"xla": 3.0}, NARROW: {"xla": 3.0}, LAYER: {"xla": 9.0}}


@pytest.mark.parametrize("multiplies", [False, True])
def test_shapes_are_in_bfloat16_too_where_the_processor_multiplies_it(
    multiplies: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: multiplies)
    monkeypatch.setattr(tune, "CASES", (("Cnn6", 1, 1.0),))
    shapes = list(tune.shapes(None))
    whole = [shape for shape in shapes if shape.dtype == "float32"]
    assert len(whole) >= 4
    halved = [dataclasses.replace(shape, dtype="bfloat16") for shape in whole]
    assert shapes == (whole + [shape for shape in halved if len(suiting(shape)) > 1] if multiplies else whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_are_timed_in_the_type_of_the_shape(dtype: str):
    shape = dataclasses.replace(LAYER, dtype=dtype)
    kernels = [KERNELS[name] for name in ("xla", "columns", "winograd 2x2")]
    seen = set()

    def watched(kernel: Any) -> Any:
        class Watched(type(kernel)):
            def __call__(self, x: Any, weights: Any, shape: ConvShape) -> Any:
                seen.add((kernel.name, x.dtype.name, weights[0].dtype.name))
                return super().__call__(x, weights, shape)

        return Watched(**{field.name: getattr(kernel, field.name) for field in dataclasses.fields(kernel)})

    times = tune.measure(shape, [watched(kernel) for kernel in kernels], rounds=1)
    assert times.keys() == {"xla", "columns", "winograd 2x2"}
    assert all(time > 0 for time in times.values())
    assert seen == {("xla", dtype, "float32"), ("columns", dtype, "float32"), ("winograd 2x2", dtype, dtype)}
