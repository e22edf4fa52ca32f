"""The figures of gpu.py as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from table import duration

Figures = Sequence[Mapping[str, Any]]
_GIB = 2**30


def markdown(machine: Mapping[str, Any], figures: Figures) -> str:
    """All tables, each under the heading of its part; what failed at the end.

    Args:
      machine: as gpu_machine.py tells it.
      figures: each with its "part".
    """
    sections = [_header(machine)]
    for part, section in _SECTIONS.items():
        of_part = [figure for figure in figures if figure["part"] == part and "failed" not in figure]
        if of_part:
            sections.append(section(of_part))
    failed = [figure for figure in figures if "failed" in figure]
    if failed:
        sections.append("Not measured:\n" + "\n".join(f"- {_name(figure)}: {figure['failed']}" for figure in failed))
    return "\n\n".join(sections) + "\n"


def _header(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    driver = machine.get("driver") or "no NVIDIA driver"
    return f"{machine.get('device')} ({driver}); {versions}; {machine.get('seconds', 0)} s for all of it."


def _name(figure: Mapping[str, Any]) -> str:
    known = ("of", "precision", "engine", "model", "batch", "workers")
    return ", ".join([figure["part"], *(str(figure[key]) for key in known if key in figure)])


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parity(figures: Figures) -> str:
    head = ("model", "precision", "way", "clipwise, largest", "clipwise, mean", "embedding, of its largest value")
    rows = [
        (
            figure["model"],
            figure["precision"],
            figure["way"],
            f"{figure['clipwise']:.1e}",
            f"{figure['clipwise_mean']:.1e}",
            f"{figure['embedding']:.1e}" if "embedding" in figure else "",
        )
        for figure in figures
    ]
    return "Differences from the published implementation's outputs:\n\n" + _rows(head, rows)


def _memory(figures: Figures) -> str:
    options = ("precision", "--rematerialize", "--accumulation-steps", "card", "fits")
    head = (*options, "planned by XLA", "peak, search for kernels too", "compiling")
    rows = []
    for figure in figures:
        card = figure["card_gigabytes"]
        planned = figure.get("planned")
        total = planned and planned["arguments"] + planned["results"] - planned["shared"] + planned["between"]
        rows.append(
            (
                figure["precision"],
                figure["rematerialize"],
                str(figure["accumulation_steps"]),
                f"{card:g} GB" if card else "all of it",
                "yes" if figure["fits"] else "no",
                _gib(total),
                _gib(figure.get("peak")),
                f"{figure['compiling']:.0f} s" if "compiling" in figure else "",
            )
        )
    return "Memory of a training step of Cnn14, batch 32 with mixup:\n\n" + _rows(head, rows)


def _step(figures: Figures) -> str:
    head = ("precision", "engine", "step", "least – most", "ours / it", "compiling", "peak")
    peaks = {(f["precision"], f["engine"]): f["torch_peak"] for f in figures if "torch_peak" in f}
    timed = [figure for figure in figures if "median" in figure]
    final = {(f["precision"], f["engine"]) for f in timed if not f.get("preliminary")}
    kept = [f for f in timed if not f.get("preliminary") or (f["precision"], f["engine"]) not in final]
    rows = [
        (
            figure["precision"],
            figure["engine"],
            duration(figure["median"]),
            f"{duration(figure['least'])} – {duration(figure['most'])}",
            f"{figure['ratio']:.2f}",
            duration(figure["compiling"] + figure["tracing"] if "compiling" in figure else figure["first_call"]),
            _gib(peaks.get((figure["precision"], figure["engine"]))),
        )
        for figure in kept
    ]
    return f"Training step of Cnn14, {kept[0]['clips'] if kept else 0} clips with mixup:\n\n" + _rows(head, rows)


def _inference(figures: Figures) -> str:
    head = ("precision", "batch", "engine", "clips/s", "a batch", "least – most", "first call")
    rows = [
        (
            figure["precision"],
            str(figure["batch"]),
            figure["engine"],
            f"{figure['clips_per_second']:.0f}",
            duration(figure["median"]),
            f"{duration(figure['least'])} – {duration(figure['most'])}",
            duration(figure["first_call"]),
        )
        for figure in figures
    ]
    return "Cnn14 on clips of 10 s:\n\n" + _rows(head, rows)


def _data(figures: Figures) -> str:
    head = ("--workers", "clips read/s", "share of time waiting for data", "most of it")
    rows = [
        (
            str(figure["workers"]),
            f"{figure['clips_per_second']:.0f}",
            f"{figure['data_wait']:.1%}",
            f"{figure['data_wait_most']:.1%}",
        )
        for figure in figures
    ]
    return "`panns-jax train`, Cnn14, bf16, batch 32 with mixup:\n\n" + _rows(head, rows)


def _gib(size: float | None) -> str:
    return "" if size is None else f"{size / _GIB:.1f} GiB"


_SECTIONS: Mapping[str, Callable[[Figures], str]] = {
    "parity": _parity,
    "memory": _memory,
    "step": _step,
    "inference": _inference,
    "data": _data,
}
