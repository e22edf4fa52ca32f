"""What was trained on what, and how well it does: in a few lines, in Markdown or in one HTML file."""

import base64
import html
import importlib.util
import io
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from panns_jax.files import make_folder, written_aside
from panns_jax.labels import LabelSet
from panns_jax.train.finetune.figures import figures_text
from panns_jax.train.finetune.scores import AnyScores, SingleLabelScores, class_figures, figures

if TYPE_CHECKING:
    from panns_jax.train.finetune.task import Outcome, Result

# Of a confusion matrix without matplotlib: the pairs of classes that are confused most often.
_PAIRS = 20


def summary(result: "Result") -> str:
    """The scores in a few lines."""
    if result.folds:
        return "\n".join(_aligned(_fold_rows(result)))
    final = result.final
    told = f"{len(final.tuned.history)} epochs, the best was {final.tuned.best}"
    if final.scores is None:
        return f"{told}; nothing was set aside to test the result"
    return f"{told}; test on {final.scores.clips} clips: {_listed(final.scores)}"


def write_report(result: "Result") -> None:
    """Writes the report where the options say, with its figures beside it or in it, and the scores as JSON beside it.

    Raises:
      InputError: it cannot be written.
    """
    path = result.options.report_file
    if result.options.report is None:
        make_folder(path.parent, "the report's folder")
    drawn = dict(_figures(result)) if importlib.util.find_spec("matplotlib") else {}
    if path.suffix == ".html":
        told = {name: f"data:image/png;base64,{base64.b64encode(content).decode()}" for name, content in drawn.items()}
        text = _as_html("\n".join(_lines(result, told)), f"{path.stem}")
    else:
        told = {name: f"{path.stem}-{name}.png" for name in drawn}
        for name, content in drawn.items():
            with written_aside(path.with_name(told[name])) as aside:
                aside.write_bytes(content)
        text = "\n".join(_lines(result, told)) + "\n"
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    with written_aside(path.with_suffix(".json")) as aside:
        aside.write_text(figures_text(result), encoding="utf-8")


def _figures(result: "Result") -> Iterator[tuple[str, bytes]]:
    from panns_jax.plots.finetuning import confusion, curves

    for number, outcome in enumerate((*result.folds, result.final)):
        history, name = outcome.tuned.history, "curves" if outcome is result.final else f"curves-fold{number + 1}"
        losses = {
            "training": [epoch.loss for epoch in history],
            "validation": [epoch.validation_loss for epoch in history],
        }
        scores = {"validation": [epoch.validation for epoch in history]}
        score = "mAP" if result.material.labelled.multi_label else "accuracy"
        yield name, _png(curves(losses, scores, score=score, best=outcome.tuned.best))
    matrix = _confusion(result)
    if matrix is not None:
        yield "confusion", _png(confusion(matrix, list(result.material.labelled.labels)))


def _png(figure: "object") -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)  # pyright: ignore[reportAttributeAccessIssue]
    return content.getvalue()


def _tested(result: "Result") -> Sequence["Outcome"]:
    return [outcome for outcome in (result.folds or (result.final,)) if outcome.scores is not None]


def _confusion(result: "Result") -> np.ndarray | None:
    """That of the test part; of all folds together where there are some."""
    scores = [outcome.scores for outcome in _tested(result)]
    matrices = [one.confusion for one in scores if isinstance(one, SingleLabelScores)]
    return np.sum(matrices, axis=0) if matrices else None


def _lines(result: "Result", images: dict[str, str]) -> Iterator[str]:
    options, material, final = result.options, result.material, result.final
    labels = material.labelled.labels
    yield f"# {options.out.name}"
    yield ""
    begun = "fresh weights" if options.strategy == "scratch" else str(options.checkpoint or "the released checkpoint")
    yield f"{result.model.config.name}, {len(labels)} classes, {options.strategy} from {begun}, on {options.data}."
    yield ""
    yield "## How well it does"
    yield ""
    yield from _scores_section(result)
    matrix = _confusion(result)
    if matrix is not None:
        yield f"### Which classes are taken for which{', all folds together' if result.folds else ''}"
        yield ""
        if "confusion" in images:
            yield f"![Confusion matrix]({images['confusion']})"
        else:
            yield from _confused_pairs(matrix, labels)
        yield ""
    yield "## Training"
    yield ""
    yield f"{len(final.tuned.history)} epochs; that of the file is {final.tuned.best}."
    yield ""
    for name, image in images.items():
        if name.startswith("curves"):
            what = name.removeprefix("curves-").replace("fold", "fold ") if name != "curves" else final.name
            yield f"![Losses and scores over the epochs, {what}]({image})"
            yield ""
    if not images:
        yield from _epoch_table(final)
    yield "## Options"
    yield ""
    given = {**options.deciding(), "length of clips": f"{material.seconds:g} s"}
    yield from _table(
        ["option", "value"], [[name, _typed(value)] for name, value in given.items() if value is not None]
    )
    yield ""
    yield "## Data"
    yield ""
    if not result.folds:
        parts = final.split
        counts = {"training": parts.train, "validation": parts.validation, "test": parts.test}
        told = ", ".join(f"{len(rows)} {name}" for name, rows in counts.items())
        yield f"Clips: {told}, {len(parts.left_out)} left out of training as copies of others."
        yield ""
    yield "```"
    yield material.card.text()
    yield "```"
    if material.failures:
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {failure}" for failure in material.failures)


def _typed(value: object) -> str:
    """The value of an option as it is typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _scores_section(result: "Result") -> Iterator[str]:
    tested = _tested(result)
    if not tested:
        yield "Nothing was set aside to test it on."
        yield ""
        return
    if result.folds:
        head, *rows = _fold_rows(result)
        yield from _table(head, rows)
        yield ""
        learnt = f"{result.options.shots} clips of each class" if result.options.shots else "all clips"
        yield f"The file is trained on {learnt}, for as many epochs as were best on average."
    else:
        assert result.final.scores is not None
        means = figures(result.final.scores)
        yield from _table(["test part", "score"], [[name, _number(value)] for name, value in means.items()])
    yield ""
    yield "### Classes"
    yield ""
    yield from _class_table(tested, result.material.labelled.labels)
    yield ""


def _fold_rows(result: "Result") -> list[list[str]]:
    scores = [outcome.scores for outcome in _tested(result) if outcome.scores is not None]
    names = list(figures(scores[0]))
    rows = [["", *names, "clips", "best epoch"]]
    for outcome in result.folds:
        values = figures(outcome.scores) if outcome.scores is not None else {}
        told = [_number(values.get(name, math.nan)) for name in names]
        clips = str(len(outcome.split.test))
        rows.append([outcome.name, *told, clips, str(outcome.tuned.best)])
    spread = [[figures(one)[name] for one in scores] for name in names]
    rows.append(["mean ± std", *(_mean_and_deviation(values) for values in spread), "", ""])
    return rows


def _mean_and_deviation(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{deviation}"


def _class_table(tested: Sequence["Outcome"], labels: LabelSet) -> Iterator[str]:
    scores = [outcome.scores for outcome in tested if outcome.scores is not None]
    each = [class_figures(one) for one in scores]
    positives = np.sum([one.positives for one in scores], axis=0)
    rows = []
    for number, name in enumerate(labels):
        values = [[float(of[figure][number]) for of in each] for figure in each[0]]
        told = [_mean_and_deviation(v) if len(scores) > 1 else _number(v[0]) for v in values]
        rows.append([name, str(positives[number]), *told])
    yield from _table(["class", "test clips", *each[0]], rows)


def _confused_pairs(matrix: np.ndarray, labels: LabelSet) -> Iterator[str]:
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [(place, int(wrong.flat[place])) for place in order if wrong.flat[place]]
    rows = [[labels[int(p // len(matrix))], labels[int(p % len(matrix))], str(count)] for p, count in pairs]
    yield from _table(["class", "taken for", "clips"], rows or [["none", "", "0"]])


def _epoch_table(outcome: "Outcome") -> Iterator[str]:
    rows = [
        [str(number), _number(epoch.loss), _number(epoch.validation), _number(epoch.validation_loss)]
        for number, epoch in enumerate(outcome.tuned.history, start=1)
    ]
    yield from _table(["epoch", "loss", "validation score", "validation loss"], rows)
    yield ""


def _listed(scores: AnyScores) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in figures(scores).items())


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, head))} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "img{max-width:100%}pre{background:#f4f4f4;padding:1em;overflow:auto}"
)


def _as_html(text: str, title: str) -> str:
    """The Markdown that `_lines` makes, and no other, as a page that needs no other file."""
    body: list[str] = []
    lines = iter(text.split("\n"))
    table = False
    for line in lines:
        is_row = line.startswith("|")
        if table and not is_row:
            body.append("</table>")
            table = False
        if line == "```":
            inside = []
            for code in lines:
                if code == "```":
                    break
                inside.append(html.escape(code))
            body.append("<pre>" + "\n".join(inside) + "</pre>")
        elif is_row:
            if line.startswith("|---"):
                continue
            cells = [html.escape(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            kind = "td" if table else "th"
            if not table:
                body.append("<table>")
                table = True
            body.append("<tr>" + "".join(f"<{kind}>{cell.strip()}</{kind}>" for cell in cells) + "</tr>")
        elif heading := re.match(r"(#+) (.*)", line):
            level = len(heading[1])
            body.append(f"<h{level}>{html.escape(heading[2])}</h{level}>")
        elif image := re.fullmatch(r"!\[(.*)\]\((.*)\)", line):
            body.append(f'<p><img alt="{html.escape(image[1])}" src="{image[2]}"></p>')
        elif line.startswith("- "):
            body.append(f"<p>• {html.escape(line[2:])}</p>")
        elif line:
            body.append(f"<p>{html.escape(line)}</p>")
    if table:
        body.append("</table>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"<!DOCTYPE html>\n<html><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"
