"""Figures of one's own runs: training curves, classes, and two runs beside each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
from drawn_figures import legend_of, make_run, outside, overlapping, texts_of

from panns_jax.cli import main
from panns_jax.labels import audioset
from panns_jax.plots.names import fitted, told_apart, width_of, wrapped
from panns_jax.train.statistics import read_statistics

LONG = "Wavegram_Logmel_Cnn14-0.5full_train-balanced-mixup-batch32-WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW"


def plot(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plot", *map(str, arguments)])
    assert end.value.code == 0


def test_training_curves_tell_twelve_long_names_apart_and_what_they_lack(saved: list[Any], tmp_path: Path):
    runs = [make_run(tmp_path, f"{LONG}~{i}", losses=5 * (i != 4), classes=9) for i in range(2, 14)]
    (runs[7] / "statistics.npz").unlink()
    (runs[7] / "statistics.pkl").unlink()
    plot("training-curves", *runs, "--out", tmp_path / "x.png")
    loss, scores = saved[0].axes
    entries = legend_of(loss)
    assert len(set(entries)) == 12 and entries[2].endswith("~4 (no log of the loss)")
    assert entries[7].endswith("~9 (not scored yet)")
    assert len(loss.get_lines()) == 11 and len(scores.get_lines()) == 22
    assert len({(line.get_color(), line.get_linestyle()) for line in scores.get_lines()}) == 11
    assert not overlapping(saved[0]) and not outside(saved[0])


def test_a_run_of_one_evaluation_is_a_mark(saved: list[Any], tmp_path: Path):
    plot("training-curves", make_run(tmp_path, "$x_1$", iterations=(0,)), "--out", tmp_path / "x.png")
    (scores,) = saved[0].axes
    assert [line.get_marker() for line in scores.get_lines()] == [".", "."]
    assert legend_of(scores) == ["$x_1$"]


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(saved: list[Any], tmp_path: Path):
    plot("training-curves", make_run(tmp_path, "_x"), "--out", tmp_path / "x.png")
    assert [entry.strip() for entry in legend_of(saved[0].axes[0])] == ["_x"]


def test_the_best_and_worst_classes_of_a_run_are_named(saved: list[Any], tmp_path: Path):
    run = make_run(tmp_path, LONG, none=(5, 7))
    plot("classwise", run, "--top", 4, "--iteration", 2000, "--out", tmp_path / "x.png")
    left, right = saved[0].axes
    scores = read_statistics(run / "statistics.npz")["test"][1]["average_precision"]
    known = [index for index in np.argsort(-scores) if not np.isnan(scores[index])]
    shown = [*known[:4], *known[-4:]]
    for label, index in zip(right.get_yticklabels(), shown, strict=True):
        assert label.get_text()[:10] == audioset().names[index][:10]
    assert [bar.get_width() for bar in right.patches] == pytest.approx(scores[shown].tolist())
    assert left.get_title() == "All 525 classes"
    assert any("2 of 527 classes have no clips to score" in text.get_text() for text in texts_of(saved[0]))
    assert not overlapping(saved[0]) and not outside(saved[0])


def test_two_runs_are_compared_class_by_class(saved: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a, b = make_run(tmp_path, f"{LONG}a", rise=0.05), make_run(tmp_path, f"{LONG}b", rise=0.2, none=(3,))
    plot("compare", a, b, "--top", 3, "--out", tmp_path / "x.png")
    assert "B is better in 526 of 526 classes, A in 0" in capsys.readouterr().out
    curves, classes, gains = saved[0].axes
    assert [entry[:3] for entry in legend_of(curves)] == ["A: ", "B: "]
    assert len(classes.collections[0].get_offsets()) == 526
    assert len(gains.patches) == 3 and all(bar.get_width() > 0 for bar in gains.patches)
    assert not overlapping(saved[0]) and not outside(saved[0])


def test_a_run_compared_with_itself_has_no_differences(saved: list[Any], tmp_path: Path):
    run = make_run(tmp_path, "a", classes=8)
    plot("compare", run, run, "--out", tmp_path / "x.png")
    assert saved[0].axes[2].get_title() == "No class differs"
    assert legend_of(saved[0].axes[0]) == ["A: 1: a", "B: 2: a"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_every_figure_of_runs_is_written_in_every_format(ending: str, tmp_path: Path):
    run = make_run(tmp_path, "a", losses=3)
    for name, arguments in {"training-curves": (run,), "classwise": (run,), "compare": (run, run)}.items():
        out = tmp_path / f"{name}.{ending}"
        plot(name, *arguments, "--out", out)
        assert out.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])


def test_names_are_made_to_fit_by_the_width_of_their_letters():
    for name in (LONG, "i" * 200, "short"):
        assert width_of(fitted(name, 120, 6), 6) <= 120
    assert fitted("short", 120, 6) == "short"
    assert told_apart(["a" + "x" * 99 + "b", "a" + "x" * 98 + "b"], 60, 6)[1].startswith("2: a")
    assert wrapped("one, two, three", 30, 6).split("\n") == ["one, two,", "three"]
