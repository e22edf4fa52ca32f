"""The paper's figures: from published statistics, from runs, and from both."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
from drawn_figures import legend_of, make_run, outside, overlapping, texts_of

from panns_jax.cli import main
from panns_jax.labels import audioset, audioset_train_clips
from panns_jax.plots.six_figures import PANELS

PUBLISHED = "statistics_sr32000_window1024_hop320_mel64_fmin50_fmax14000_full_train_{}_bs32.pkl"
NAMES = ("classwise-iteration-map", "six-figures", "complexity-map", "long-figure")


def plot(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["plot", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_six_figures_show_the_series_of_the_paper_panel_by_panel(
    paper_statistics: Path, saved: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert plot("six-figures", paper_statistics, "--out", tmp_path / "x.png") == 0
    assert "16 of 16 series from statistics\n" in capsys.readouterr().out
    (figure,) = saved
    assert [axes.get_title() for axes in figure.axes] == [panel.title for panel in PANELS]
    assert [len(legend_of(axes)) for axes in figure.axes] == [3, 6, 3, 3, 3, 3]
    assert legend_of(figure.axes[0]) == ["Wavegram-Logmel-CNN", "CNN14", "MobileNetV1"]
    for axes, panel in zip(figure.axes, PANELS, strict=True):
        lines = axes.get_lines()
        assert len(lines) == 2 * len(panel.wanted)
        for faint, solid in zip(lines[::2], lines[1::2], strict=True):
            assert faint.get_alpha() == 0.35 and solid.get_alpha() is None
            assert faint.get_color() == solid.get_color()
            assert solid.get_xdata().tolist() == list(range(0, 32000, 2000))
    wavegram = figure.axes[0].get_lines()[1].get_ydata()
    from panns_jax.pretrained.plain import read_plain_pickle

    file = paper_statistics / PUBLISHED.format("WavegramLogmelCnn_balanced_mixup")
    content: Any = read_plain_pickle(file, "a statistics file")
    np.testing.assert_allclose(wavegram, [entry["average_precision"].mean() for entry in content["test"]])


def test_a_missing_series_is_a_dashed_line_at_the_paper_s_score_and_the_legend_says_so(
    paper_statistics: Path, saved: list[Any], tmp_path: Path
):
    shutil.copy(paper_statistics / PUBLISHED.format("Cnn14_balanced_mixup"), tmp_path)
    assert plot("six-figures", tmp_path, "--out", tmp_path / "x.png") == 0
    (figure,) = saved
    embedding = figure.axes[2]
    assert legend_of(embedding) == [
        "CNN14, embedding 2048",
        "CNN14, embedding 128, paper's mAP .412",
        "CNN14, embedding 32, paper's mAP .364",
    ]
    dashed = [line for line in embedding.get_lines() if line.get_linestyle() == "--"]
    assert [set(line.get_ydata()) for line in dashed] == [{0.412}, {0.364}]
    assert not overlapping(figure) and not outside(figure)


def test_own_runs_and_published_files_mix_and_the_first_named_is_taken(
    paper_statistics: Path, saved: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workspace = tmp_path / "W"
    make_run(workspace, "ours", batch_size=64, data_fraction=0.5)
    make_run(workspace, "wavegram", model_type="Wavegram_Logmel_Cnn14", iterations=(0, 2000))
    make_run(workspace, "other", model_type="ResNet22")
    assert plot("six-figures", workspace, paper_statistics, "--out", tmp_path / "x.png") == 0
    assert capsys.readouterr().err == "not of this figure: other\n"
    assert legend_of(saved[0].axes[3])[2] == "CNN14, 50 % of full, own run (batch 64), to 4k"
    assert legend_of(saved[0].axes[0])[:2] == ["Wavegram-Logmel-CNN, own run, to 2k", "CNN14"]
    assert plot("six-figures", paper_statistics, workspace, "--out", tmp_path / "x.png") == 0
    assert legend_of(saved[1].axes[3])[2] == "CNN14, 50 % of full"
    for figure in saved:
        assert not overlapping(figure) and not outside(figure)


@pytest.mark.parametrize(
    ("options", "panel", "entry"),
    [
        ({"model_type": "Cnn14_16k", "sample_rate": 16000, "hop_size": 160}, 4, 1),
        ({"model_type": "Cnn14_mel128", "mel_bins": 128}, 5, 0),
        ({"model_type": "Cnn14", "mel_bins": 32}, 5, 2),
        ({"model_type": "Cnn14_mixup_time_domain"}, 1, 1),
        ({"balanced": "none", "augmentation": "none"}, 1, 3),
        ({"data_type": "balanced_train", "augmentation": "none"}, 1, 5),
        ({"model_type": "Cnn14_emb32"}, 2, 2),
        ({"data_fraction": 0.8}, 3, 1),
    ],
)
def test_a_run_stands_for_the_experiment_that_its_options_tell(
    options: dict[str, Any], panel: int, entry: int, saved: list[Any], tmp_path: Path
):
    run = make_run(tmp_path, "ours", iterations=(0,), **options)
    assert plot("six-figures", run, "--out", tmp_path / "x.png") == 0
    own = [
        (number, place)
        for number, axes in enumerate(saved[0].axes)
        for place, name in enumerate(legend_of(axes))
        if "own run" in name
    ]
    assert own == [(panel, entry)]


def test_the_classwise_map_shows_the_ranks_of_the_paper(paper_statistics: Path, saved: list[Any], tmp_path: Path):
    assert plot("classwise-iteration-map", paper_statistics, "--out", tmp_path / "x.png") == 0
    (figure,) = saved
    order = np.argsort(-np.array(audioset_train_clips()), kind="stable")
    for axes, ranks in zip(figure.axes, (range(10), range(250, 260), range(517, 527)), strict=True):
        entries = legend_of(axes)
        for entry, index in zip(entries, order[list(ranks)], strict=True):
            assert entry.endswith(f"({audioset_train_clips()[index]:,})")
            assert entry.startswith(audioset().names[index][:13])
        assert len(axes.get_lines()) == 10 and axes.get_ylim() == (0, 1)
    assert any("evaluation set: Wavegram-Logmel-CNN" in text.get_text() for text in texts_of(figure))
    assert not overlapping(figure) and not outside(figure)


def test_the_classwise_map_falls_back_and_says_on_what(paper_statistics: Path, saved: list[Any], tmp_path: Path):
    shutil.copy(paper_statistics / PUBLISHED.format("MobileNetV1_balanced_mixup"), tmp_path)
    assert plot("classwise-iteration-map", tmp_path, "--out", tmp_path / "x.png") == 0
    told = [text.get_text() for text in texts_of(saved[0])]
    assert "AP on the evaluation set: MobileNetV1; there are no statistics of Wavegram-Logmel-CNN" in told


@pytest.mark.parametrize("classes", [2, 7, 23, 64])
def test_the_classwise_map_of_few_classes_shows_each_once(classes: int, saved: list[Any], tmp_path: Path):
    run = make_run(tmp_path, "small" * 20, classes=classes, iterations=(0,), none=(0,))
    assert plot("classwise-iteration-map", run, "--out", tmp_path / "x.png") == 0
    entries = [entry for axes in saved[0].axes if axes.get_visible() for entry in legend_of(axes)]
    assert len(entries) == len(set(entries)) == min(classes - 1, 30) and "class 0" not in entries
    told = next(text.get_text() for text in texts_of(saved[0]) if text.get_text().startswith("AP on"))
    assert told.endswith(f"; 1 of {classes} classes has no clips to score")
    assert not overlapping(saved[0]) and not outside(saved[0])


def test_the_complexity_map_needs_nothing_and_joins_families(saved: list[Any], tmp_path: Path):
    assert plot("complexity-map", "--out", tmp_path / "x.png") == 0
    (axes,) = saved[0].axes
    joined = [line.get_xdata().tolist() for line in axes.get_lines() if line.get_marker() == "o"]
    assert [21.986, 28.166, 42.22] in joined and [30.395] in joined and [2.81, 3.614] not in joined
    assert sum(map(len, joined)) == 15
    named = {text.get_text().replace("\n", "") for text in axes.texts}
    assert len(named) == 15 and {"Cnn14", "ResNet38", "Wavegram-Logmel-CNN"} <= named
    assert not overlapping(saved[0]) and not outside(saved[0])


@pytest.mark.slow
def test_own_runs_are_numbered_on_the_complexity_map_where_their_model_lies(saved: list[Any], tmp_path: Path):
    for number in range(12):
        name = f"Cnn14-full_train-balanced-mixup-batch32-of-a-long-name~{number}"
        make_run(tmp_path, name, rise=0.1 + 0.005 * number)
    make_run(tmp_path, "small", model_type="DemoCnn", hop_size=640, classes=12)
    assert plot("complexity-map", tmp_path, "--out", tmp_path / "x.png") == 0
    (axes,) = saved[0].axes
    stars = [line for line in axes.get_lines() if line.get_marker() == "*"]
    assert len(stars) == 13 and sorted(line.get_xdata()[0] for line in stars)[1:] == [42.22] * 12
    assert min(line.get_xdata()[0] for line in stars) < 3
    numbered = {text.get_text() for text in axes.texts}
    assert {str(number) for number in range(1, 14)} <= numbered and "Cnn14" in numbered
    assert len(legend_of(axes)) == 14
    assert not overlapping(saved[0]) and not outside(saved[0])


@pytest.mark.slow
def test_the_long_figure_shows_all_classes_in_four_rows(paper_statistics: Path, saved: list[Any], tmp_path: Path):
    assert plot("long-figure", paper_statistics, "--out", tmp_path / "x.png") == 0
    (figure,) = saved
    rows = [axes for axes in figure.axes if axes.get_ylabel() == "AP"]
    assert len(rows) == 4
    from panns_jax.pretrained.plain import read_plain_pickle

    content: Any = read_plain_pickle(paper_statistics / "stats_for_long_fig.pkl", "a file")
    drawn = np.concatenate([row.get_lines()[2].get_ydata() for row in rows])
    expected = content["panns_cnn14"]["eval"]["average_precision"][content["sorted_indexes_for_plot"]]
    np.testing.assert_allclose(drawn, expected)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "training clips",
        "AP with averaging instances (baseline)",
        "AP with MobileNetV1",
        "AP with CNN14",
        "AP with Wavegram-Logmel-CNN",
        "label quality",
        "label quality not known",
    ]
    marks = [np.concatenate([row.collections[i].get_offsets() for row in rows]) for i in (0, 1)]
    quality = content["label_quality"]
    assert len(marks[0]) == sum(value is not None for value in quality) and len(marks[0]) + len(marks[1]) == 527
    assert set(marks[1][:, 1]) == {0.5}
    assert not overlapping(figure) and not outside(figure)
    smallest = min(float(text.get_fontsize()) for text in texts_of(figure))
    assert smallest >= 4.5 and figure.get_figwidth() <= 7.2 and figure.get_figheight() <= 9.7


@pytest.mark.slow
def test_what_the_long_figure_lacks_is_taken_from_statistics_or_named(
    paper_statistics: Path, saved: list[Any], tmp_path: Path
):
    shutil.copy(paper_statistics / PUBLISHED.format("Cnn14_balanced_mixup"), tmp_path)
    run = make_run(tmp_path / "W", "my run", model_type="ResNet22")
    assert plot("long-figure", tmp_path, run, "--out", tmp_path / "x.png") == 0
    (legend,) = saved[0].legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told == [
        "training clips",
        "AP with CNN14 (iteration 30k)",
        "AP with my run",
        "AP with averaging instances (baseline): none",
        "AP with MobileNetV1: none",
        "AP with Wavegram-Logmel-CNN: none",
        "label quality: none",
    ]
    assert not overlapping(saved[0]) and not outside(saved[0])


def test_the_long_figure_of_a_run_of_few_classes_is_one_row(saved: list[Any], tmp_path: Path):
    run = make_run(tmp_path, "small", classes=12, none=(3,))
    assert plot("long-figure", run, "--out", tmp_path / "x.png") == 0
    rows = [axes for axes in saved[0].axes if axes.get_ylabel() == "AP"]
    assert len(rows) == 1 and np.isnan(rows[0].get_lines()[0].get_ydata()).sum() == 1
    assert not overlapping(saved[0]) and not outside(saved[0])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_written_in_every_format_and_the_same_each_time(
    name: str, ending: str, paper_statistics: Path, tmp_path: Path
):
    out = tmp_path / f"x.{ending}"
    assert plot(name, paper_statistics, "--out", out) == 0
    first = out.read_bytes()
    assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])
    assert plot(name, paper_statistics, "--out", out) == 0
    assert out.read_bytes() == first
