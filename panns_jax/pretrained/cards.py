"""`panns-jax models` and `panns-jax info`: what there is to choose from, and what each model is like."""

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from panns_jax.models.config import ModelConfig
    from panns_jax.pretrained.catalogue import Released

CLIP_SECONDS = 10
Format = Literal["text", "json", "csv"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
    """Lists the published models.

    The mAP is that of the released file (its name tells it), and - where none was released. panns-jax info MODEL tells
    all of one.
    """

    table: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also what is computed from each model, in some seconds: parameters, operations for a clip of 10 s, the shortest
    input, and the step in time of what it makes of a clip; and what the paper's tables tell."""
    format: Format = "text"
    """text for people; json is a list; csv has a row per model. Lengths are in seconds there."""

    def run(self) -> int:
        from panns_jax.models.registry import list_models

        rows = [table_row(name) if self.table else short_row(name) for name in list_models()]
        _print(rows, self.format)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """Tells all of a model: its input, its time step, its outputs, its scores, where its weights come from.

    Names are those of panns-jax models; a file, converted (.safetensors) or not (.pth), is described with its own
    labels and source.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Name of a model, or a file."""
    format: Literal["text", "json"] = "text"
    """text for people, or json."""

    def run(self) -> int:
        found = card(self.model)
        if self.format == "json":
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            print(as_text(found))
        return 0


def short_row(name: str) -> dict[str, Any]:
    """What is known of a model at once."""
    from panns_jax.models.registry import model_config
    from panns_jax.pretrained import catalogue

    config, released = model_config(name), catalogue.of_model(name)
    return {
        "model": name,
        "sample_rate": config.sample_rate,
        "embedding_dim": config.embedding_dim,
        "mAP": released and released.mean_average_precision,
        "released_file": released and released.file,
    }


def table_row(name: str) -> dict[str, Any]:
    """What is known of a model, and what follows from it."""
    from panns_jax.models.registry import model_config
    from panns_jax.models.summary import summary
    from panns_jax.pretrained.paper import FIGURES

    short, config, paper = short_row(name), model_config(name), FIGURES.get(name)
    described = summary(config, CLIP_SECONDS)
    return {
        "model": name,
        "sample_rate": config.sample_rate,
        "parameters": described.parameters,
        "giga_operations": round(described.operations / 1e9, 3),
        "paper_giga_operations": paper and paper.giga_operations,
        "embedding_dim": config.embedding_dim,
        "shortest_seconds": round(config.min_samples / config.sample_rate, 6),
        "step_seconds": round(described.view.step / config.sample_rate, 6),
        "framewise": "framewise" in described.outputs,
        "mAP": short["mAP"],
        "paper_mAP": paper and paper.mean_average_precision,
        "paper_mAUC": paper and paper.mean_auc,
        "paper_d_prime": paper and paper.d_prime,
    }


def card(model: str) -> dict[str, Any]:
    """All that is known of a model.

    Args:
      model: its name, or the path of a .pth file or a converted one.

    Raises:
      InputError: there is no such model or file, or the file is damaged.
    """
    from panns_jax.models.registry import model_config
    from panns_jax.pretrained import catalogue

    if model.endswith((".pth", ".safetensors")) or Path(model).is_file():
        return _card_of_file(Path(model))
    config, released = model_config(model), catalogue.of_model(model)
    found = _described(config)
    if released is not None:
        found["scores"]["released_file"] = {"mAP": released.mean_average_precision}
        found["training"] = released.training and dataclasses.asdict(released.training)
        found["source"] = _released(released)
    return found


def _card_of_file(path: Path) -> dict[str, Any]:
    from panns_jax.pretrained.convert import provenance_of
    from panns_jax.pretrained.load import read_published
    from panns_jax.pretrained.native import is_native, read_config, read_provenance

    if is_native(path):
        config, provenance = read_config(path), read_provenance(path)
    else:
        config, provenance = read_published(path)[0], provenance_of(path)
    return {**_described(config), "source": {**dataclasses.asdict(provenance), "path": str(path)}}


def _described(config: "ModelConfig") -> dict[str, Any]:
    from panns_jax.models.summary import reads_logmel, summary
    from panns_jax.pretrained.paper import CITATION, FIGURES

    described, rate, paper = summary(config, CLIP_SECONDS), config.sample_rate, FIGURES.get(config.name)
    framewise = "framewise" in described.outputs
    return {
        "model": config.name,
        "sample_rate": rate,
        "front_end": dataclasses.asdict(config.frontend) if reads_logmel(config) else "reads the waveform itself",
        "shortest_input": _duration(config.min_samples, rate),
        "receptive_field": _duration(described.view.receptive_field, rate),
        "time_step": _duration(described.view.step, rate),
        "framewise": "each time step repeated, to as many frames as the spectrogram has" if framewise else None,
        "outputs": {name: list(shape) for name, shape in described.outputs.items()},
        "classes": len(config.labels),
        "label_set": config.labels.task,
        "tuning": config.tuning and dataclasses.asdict(config.tuning),
        "parameters": described.parameters,
        "operations": described.operations,
        "scores": {"paper": paper and dataclasses.asdict(paper)},
        "citation": CITATION,
    }


def _duration(samples: int, rate: int) -> dict[str, float]:
    return {"samples": samples, "seconds": round(samples / rate, 6)}


def _released(released: "Released") -> dict[str, Any]:
    from panns_jax.pretrained import catalogue
    from panns_jax.pretrained.cache import cached_file, recorded_sha256

    cached = cached_file(released)
    return {
        "file": released.file,
        "url": released.url,
        "size": released.size,
        "md5": released.md5,
        "sha256": released.sha256 or recorded_sha256(released),
        "licence": catalogue.LICENCE,
        "cached": str(cached) if cached.is_file() else None,
    }


_HEADINGS = {
    "sample_rate": "Hz",
    "giga_operations": "10⁹ ops",
    "paper_giga_operations": "paper",
    "embedding_dim": "embedding",
    "shortest_seconds": "shortest",
    "step_seconds": "step",
    "paper_mAP": "paper",
    "paper_mAUC": "mAUC",
    "paper_d_prime": "d′",
    "released_file": "released file",
}


def _print(rows: Sequence[dict[str, Any]], form: Format) -> None:
    if form == "json":
        print(json.dumps(rows, indent=2))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print_table(rows)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [[_HEADINGS.get(name, name) for name in rows[0]], *([_cell(*item) for item in row.items()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = [not isinstance(value, str) for value in rows[0].values()]
    for line in lines:
        cells = zip(line, widths, numbers, strict=True)
        print("  ".join(f"{cell:>{width}}" if number else f"{cell:<{width}}" for cell, width, number in cells).rstrip())


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_seconds"):
        return f"{value:.3f} s"
    if name == "parameters":
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def as_text(found: dict[str, Any]) -> str:
    """A card for people."""
    outputs = [f"{name} ({', '.join(map(str, shape))})" for name, shape in found["outputs"].items()]
    lines = [
        found["model"],
        *_line("sample rate", f"{found['sample_rate']} Hz"),
        *_line("front end", _front_end(found["front_end"])),
        *_line("shortest input", f"{_span(found['shortest_input'])}; a shorter one is zero-padded"),
        *_line("time step", f"{_span(found['time_step'])}, from one step of `frames` to the next"),
        *_line("receptive field", f"{_span(found['receptive_field'])}, which one step sees"),
        *_line("framewise", found["framewise"] or "none"),
        *_line(f"of a {CLIP_SECONDS}-s clip", ", ".join(outputs)),
        *_line("classes", f"{found['classes']} ({found['label_set']})"),
        *_tuned(found["tuning"]),
        *_line("parameters", f"{found['parameters']:,}"),
        *_line("operations", f"{found['operations'] / 1e9:.3f} · 10⁹ for {CLIP_SECONDS} s"),
        *_scores(found["scores"]),
        *_trained(found.get("training")),
        *_origin(found.get("source")),
        *_line("citation", found["citation"]),
    ]
    return "\n".join(lines)


def _line(name: str, value: object) -> list[str]:
    return [f"  {name:<17}{value}"]


def _span(duration: dict[str, float]) -> str:
    return f"{duration['seconds']:.3f} s ({duration['samples']} samples)"


def _front_end(settings: Any) -> str:
    if isinstance(settings, str):
        return settings
    return (
        f"log-mel, window {settings['window_size']}, hop {settings['hop_size']}, {settings['mel_bins']} mel bins from"
        f" {settings['fmin']:g} to {settings['fmax']:g} Hz"
    )


def _scores(scores: dict[str, Any]) -> list[str]:
    lines = []
    if released := scores.get("released_file"):
        lines += _line("released file", f"mAP {released['mAP']:.3f} on AudioSet's evaluation set")
    if paper := scores["paper"]:
        d_prime = f", d′ {paper['d_prime']:.3f}" if paper["d_prime"] else ""
        operations = f", {paper['giga_operations']:.3f} · 10⁹ operations" if paper["giga_operations"] else ""
        told = f"mAP {paper['mean_average_precision']:.3f}, mAUC {paper['mean_auc']:.3f}{d_prime}{operations}"
        lines += _line("in the paper", told)
    return lines


def _trained(training: dict[str, Any] | None) -> list[str]:
    if training is None:
        return []
    told = (
        f"{training['data']}, {training['balanced']} sampling, {training['augmentation']}, batches of"
        f" {training['batch_size']}, {training['iterations']:,} iterations"
    )
    if training["decimation"] > 1:
        told += f"; every {training['decimation']}. sample of 32 kHz audio"
    return _line("trained on", told)


def _tuned(tuning: dict[str, Any] | None) -> list[str]:
    if tuning is None:
        return []
    classes = "any number of classes" if tuning["multi_label"] else "one class"
    return _line("fine-tuned on", f"clips of {tuning['clip_seconds']:g} s with {classes} each")


def _origin(source: dict[str, Any] | None) -> list[str]:
    if source is None:
        return _line("weights", "none were released")
    lines = _line("weights", source.get("url") or source["file"])
    for name in ("size", "md5", "sha256", "licence", "cached", "path"):
        if source.get(name) is not None:
            lines += _line(name.replace("_", " "), source[name])
    return lines
