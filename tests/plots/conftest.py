"""Figures as they are saved, and statistics of the published shape."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib draws the figures: pip install matplotlib")
    from drawn_figures import texts_of

    figures: list[Any] = []
    save = figure.Figure.savefig

    def watched(drawn: Any, *arguments: Any, **options: Any) -> None:
        save(drawn, *arguments, **options)
        figures.append(drawn)
        texts_of(drawn)

    monkeypatch.setattr(figure.Figure, "savefig", watched)
    return figures


@pytest.fixture(scope="session")
def paper_statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the published one, with fewer evaluations."""
    from make_paper_statistics import write_statistics

    folder = tmp_path_factory.mktemp("published") / "paper_statistics"
    write_statistics(folder, evaluations=16)
    return folder
