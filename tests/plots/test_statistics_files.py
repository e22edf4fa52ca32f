"""Statistics that cannot be drawn are refused in one sentence, and nothing is left behind; old forms are read."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panns_jax.plots.finding import find_statistics
from panns_jax.plots.recipes import Recipe, published_name, published_recipe
from panns_jax.plots.series import StatisticsFile

pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
from drawn_figures import make_run

from panns_jax.cli import main

CNN14 = published_name(Recipe())


def entries(number: int = 3, **more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"average_precision": rng.uniform(0, 1, 527), "iteration": 2000 * i, **more} for i in range(number)]


def written(folder: Path, content: object, name: str = CNN14, protocol: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder / name


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence of the command, after which the figure is not there, nor a part of it."""
    out = Path(str(arguments[-1]))
    before = sorted(out.parent.iterdir()) if out.parent.is_dir() else []
    with pytest.raises(SystemExit) as end:
        main(["plot", *map(str, arguments)])
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "") and shown.err.count("\n") == 1, shown.err
    assert (sorted(out.parent.iterdir()) if out.parent.is_dir() else []) == before
    return shown.err


class Harm:
    """What a hostile file asks for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in (CNN14, "stats_for_long_fig.pkl"):
        path = written(tmp_path / "paper_statistics", {"test": Harm(), "bal": []}, name)
        figure = "six-figures" if name == CNN14 else "long-figure"
        told = refused(capsys, figure, path.parent, "--out", tmp_path / "x.pdf")
        assert (
            str(path) in told and "mkdir, which a file of arrays has no reason to name; nothing of it was run" in told
        )
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], 'it has no list "test" of evaluations'),
        ({"bal": entries()}, 'has no list "test" of evaluations'),
        ({"bal": entries(), "test": []}, 'has no list "test" of evaluations'),
        ({"bal": entries(), "test": 5}, '"test" is no list of evaluations'),
        ({"test": [*entries(2), {"auc": np.ones(527)}]}, 'evaluation 2 of "test" has no "average_precision"'),
        ({"test": [{"average_precision": "high"}]}, '"average_precision" is no row of numbers'),
        ({"test": [{"average_precision": np.full(527, 1.5)}]}, '"average_precision" has numbers outside of 0 to 1'),
        ({"test": entries(2, iteration="soon")}, '"iteration" that is no number of iterations'),
        ({"test": [*entries(2), {"average_precision": np.ones(5)}]}, "of different numbers of classes"),
        ({"bal": [{"average_precision": np.ones(5)}], "test": entries()}, "of different numbers of classes"),
    ],
)
def test_a_file_of_another_form_is_told_in_a_sentence(
    content: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = written(tmp_path / "p", content)
    sentence = refused(capsys, "six-figures", path, "--out", tmp_path / "x.png")
    assert told in sentence and str(path) in sentence


@pytest.mark.parametrize("part", [0, 1, 100, 5000])
def test_a_truncated_file_is_told_in_a_sentence(part: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path / "p", {"bal": entries(), "test": entries()})
    path.write_bytes(path.read_bytes()[:part])
    assert "is cut short or damaged" in refused(capsys, "six-figures", path, "--out", tmp_path / "x.png")


@pytest.mark.parametrize("missing", ["eval", "labels"])
def test_a_damaged_file_of_the_long_figure_is_told(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content = {"panns_cnn14": {}} if missing == "eval" else {"labels": []}
    path = written(tmp_path / "p", content, "stats_for_long_fig.pkl")
    told = refused(capsys, "long-figure", path.parent, "--out", tmp_path / "x.svg")
    assert ('panns_cnn14 has no "eval"' if missing == "eval" else "it has no system such as") in told


def test_old_files_without_iterations_or_the_balanced_set_are_read(tmp_path: Path):
    old = [{"average_precision": entry["average_precision"]} for entry in entries(4)]
    series = StatisticsFile("x", written(tmp_path / "p", {"test": old})).read()
    assert series.bal is None and series.test.iterations.tolist() == [0, 2000, 4000, 6000]


@pytest.mark.parametrize("protocol", range(6))
def test_files_of_each_protocol_and_of_numpy_1_are_read(protocol: int, tmp_path: Path):
    content = {"bal": entries(), "test": entries()}
    path = written(tmp_path / "p", content, protocol=protocol)
    if protocol < 4:
        path.write_bytes(path.read_bytes().replace(b"cnumpy._core", b"cnumpy.core"))
    series = StatisticsFile("x", path).read()
    np.testing.assert_array_equal(series.test.average_precision[2], content["test"][2]["average_precision"])


def test_evaluations_are_in_the_order_of_iterations_and_the_last_of_doubled_ones_counts(tmp_path: Path):
    first, second, third = (np.full(3, value) for value in (0.1, 0.2, 0.3))
    rows = [{"iteration": i, "average_precision": row} for i, row in ((2000, first), (0, second), (2000, third))]
    curve = StatisticsFile("x", written(tmp_path / "p", {"test": rows})).read().test
    assert curve.iterations.tolist() == [0, 2000] and curve.mean_average_precision.tolist() == pytest.approx([0.2, 0.3])


def test_published_names_tell_their_experiments_and_back():
    name = "statistics_sr32000_window1024_hop320_mel64_fmin50_fmax14000_{}_bs32.pkl"
    for told, recipe in {
        "full_train_Cnn14_balanced_mixup": Recipe(),
        "0.8full_train_Cnn14_balanced_mixup": Recipe(data="0.8full_train"),
        "balanced_train_Cnn14_nobalanced_nomixup": Recipe(data="balanced_train", balanced="none", mixup="none"),
        "full_train_Cnn14_balanced_mixup_timedomain": Recipe(mixup="mixup_timedomain"),
        "full_train_Cnn14_8k_balanced_mixup": Recipe(sample_rate=8000),
        "full_train_Cnn14_emb32_balanced_mixup": Recipe("Cnn14_emb32"),
        "full_train_WavegramLogmelCnn_balanced_mixup": Recipe("Wavegram_Logmel_Cnn14"),
    }.items():
        assert published_recipe(name.format(told)) == recipe
        assert published_name(recipe) == name.format(told)
    assert published_recipe("statistics.pkl") is None


def test_runs_are_found_in_workspaces_by_their_folders_and_as_files(tmp_path: Path):
    for name in ("one", "two"):
        make_run(tmp_path, name, iterations=(0,))
    assert {file.name for file in find_statistics([tmp_path])} == {"one", "two"}
    for root in ("statistics", "checkpoints", "logs"):
        assert [file.name for file in find_statistics([tmp_path / root / "one"])] == ["one"]
    (found,) = find_statistics([tmp_path / "statistics" / "one" / "statistics.pkl"])
    assert found.name == "one" and found.recipe == Recipe() and found.read().test.iterations.tolist() == [0]


def test_a_workspace_of_the_published_trainer_is_read_by_its_folders(tmp_path: Path):
    folder = tmp_path / (
        "statistics/main/sample_rate=32000,window_size=1024,hop_size=320,mel_bins=64,fmin=50,fmax=14000/"
        "data_type=full_train/Cnn14/loss_type=clip_bce/balanced=balanced/augmentation=none/batch_size=32"
    )
    folder.mkdir(parents=True)
    shutil.move(written(tmp_path / "p", {"test": entries()}), folder / "statistics.pkl")
    (found,) = find_statistics([tmp_path])
    assert found.recipe == Recipe(mixup="none") and found.read().classes == 527


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("six_figs",), "there is no figure 'six_figs'; did you mean six-figures?"),
        ((), "name a figure: classwise-iteration-map, six-figures"),
        (("six-figures", "--out", "x.gif"), "--out x.gif: a figure ends in .pdf, .png or .svg"),
        (("six-figures", "--out", "x.png"), "name what is to be drawn: the published folder paper_statistics"),
        (("complexity-map", "--out", "x.png", "--dpi", "3"), "--dpi must be from 50 to 1200, not 3"),
        (("complexity-map", "--out", "nowhere/x.png"), "the folder nowhere does not exist"),
        (("six-figures", "paper_statistic", "--out", "x.png"), "did you mean paper_statistics?"),
        (("six-figures", "empty", "--out", "x.png"), "empty: holds no statistics"),
        (("classwise", "W", "--out", "x.png"), "RUN W: holds the statistics of several runs; name one of them: "),
        (("classwise", "W/logs/a", "--iteration", "7", "--out", "x.png"), "the nearest are 4000 and 2000"),
        (("classwise", "W/logs/a", "--top", "0", "--out", "x.png"), "--top must be at least 1, not 0"),
        (("compare", "W/logs/a", "W/logs/b", "--out", "x.png"), "a has 527 classes and b 12"),
        (("six-figures", "W/logs/b", "--out", "x.png"), "none of the statistics is of an experiment of this figure"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "paper_statistics").mkdir()
    make_run(tmp_path / "W", "a", iterations=(2000, 4000))
    make_run(tmp_path / "W", "b", classes=12, model_type="DemoCnn")
    with pytest.raises(SystemExit) as end:
        main(["plot", *arguments])
    shown = capsys.readouterr()
    expected = told.replace("4000 and 2000", "2000 and 4000")
    assert end.value.code == 2 and expected in shown.err and shown.err.count("\n") == 1
    assert not list(tmp_path.glob("*x.*"))
