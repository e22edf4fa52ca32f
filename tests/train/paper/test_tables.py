"""The paper's tables: the published figures, one's own beside them, in every form."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from panns_jax.cli import main
from panns_jax.pretrained.paper import FIGURES
from panns_jax.train.paper.formats import Column, Table, as_csv, as_latex, as_markdown
from panns_jax.train.paper.published import ABLATIONS, SYSTEMS, TRANSFER, published_score
from panns_jax.train.paper.tables import transfer
from panns_jax.train.presets import load_preset

TABLE = Table(
    "t",
    "A & B",
    (Column("name", "name_of"), Column("mAP", "mAP", 3), Column("clips", "clips")),
    (("50 %", 0.43149, 1200), ("a|b", None, None)),
    ("Below.",),
)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown_is_aligned():
    assert as_markdown(TABLE).splitlines() == [
        "## A & B",
        "",
        "| name_of |   mAP | clips |",
        "| ------- | ----: | ----: |",
        "| 50 %    | 0.431 | 1,200 |",
        "| a\\|b    |     - |     - |",
        "",
        "Below.",
    ]


def test_csv_has_all_digits_and_latex_is_escaped():
    assert as_csv(TABLE) == "name,mAP,clips\n50 %,0.43149,1200\na|b,,"
    latex = as_latex(TABLE)
    assert r"name\_of & mAP & clips \\" in latex and r"50 \% & 0.431 & 1,200 \\" in latex
    assert r"\caption{A \& B}" in latex and r"\begin{tabular}{lrr}" in latex and latex.endswith("% Below.")


def test_published_figures_are_those_of_the_models():
    for row in SYSTEMS:
        assert row.figures == FIGURES[row.label]
    for name, table in ABLATIONS.items():
        (own,) = [row for row in table if row.preset == "cnn14"]
        assert own.figures == FIGURES["Cnn14"], name
    assert published_score("cnn14_hop1000") == ("mAP", 0.400)
    assert published_score("cnn14_decisionlevelmax") == ("mAP", 0.385)  # of the released file
    assert published_score("gtzan_freeze_l1") == ("accuracy", 0.827)
    assert published_score("demo") is None


def test_all_tables_are_printed_where_none_is_named(command):
    code, out, err = command("table")
    assert (code, err) == (0, "")
    titles = [line for line in out.splitlines() if line.startswith("## ")]
    assert len(titles) == len(set(titles)) == 4 + len(ABLATIONS)
    assert "| DeepRes                       | 0.392 |     - |     - |" in out
    assert "| Wavegram_Logmel_Cnn14 | 0.439 | 0.973 | 2.720 |" in out
    assert "| GTZAN             | accuracy |   0.758 |     0.915 |     0.827 |     0.858 |" in out
    assert "local" not in out


def test_ones_own_results_stand_beside(command, make_run):
    make_run("run", load_preset("cnn14_hop640"), (0.01, 0.5), (0.30, 0.95), batch_size=16)
    workspace = make_run("other", load_preset("cnn14"), (0.01, 0.5), (0.35, 0.96))
    code, out, _ = command("table", "hop", "--workspace", workspace, "--format", "csv")
    assert code == 0
    rows = {row["hop"]: row for row in rows_of(out)}
    assert rows["640"]["mAP"] == "0.417" and float(rows["640"]["local_mAP"]) == pytest.approx(0.30)
    assert float(rows["320"]["local_mAUC"]) == pytest.approx(0.96) and rows["320"]["iteration"] == "2000"
    assert rows["500"]["local_mAP"] == "" and rows["320"]["clips"] == "1800000"
    code, out, _ = command("table", "hop", "--workspace", workspace)
    assert f"The run run ({workspace}) differs from the paper's: batch_size 16." in out
    code, out, _ = command("table", "complexity", "--workspace", workspace)
    assert next(line for line in out.splitlines() if "| Cnn14 " in line).endswith("0.431 |     0.350 |")


@pytest.mark.parametrize("name", ["Sample_Rate", "samplerate", "sample rate", "sampl"])
def test_names_are_forgiving(command, name: str):
    code, out, _ = command("table", name, "--format", "csv")
    assert code == 0 and out.startswith("sample_rate,mAP,mAUC,d_prime\n8000 Hz,0.406,")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sistems",), "'sistems': there is no such table; did you mean systems?"),
        (("",), "'': there is no such table; there are systems, ablations"),
        (("--format", "csv"), "--format csv is for one table; name one of systems"),
        (("--workspace", "/nowhere"), "there is no such folder"),
        (("hop", "--out", "/nowhere/x.md"), "cannot write"),
        (("--format", "html"), "--format must be one of"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(command, arguments: tuple[str, ...], sentence: str):
    code, out, err = command("table", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert sentence in err


def test_a_file_is_written_and_a_damaged_run_named(command, make_run, tmp_path: Path):
    workspace = make_run("bad", load_preset("cnn14"), (0.01, 0.5), (0.4, 0.9))
    (workspace / "checkpoints" / "bad" / "config.json").write_text("{")
    code, out, err = command(
        "table", "data", "--format", "latex", "--workspace", workspace, "--out", tmp_path / "x.tex"
    )
    assert (code, out) == (1, "")
    assert "config.json: cannot be read" in err
    assert r"50 \% & 0.406 & 0.964 & 2.543 \\" in (tmp_path / "x.tex").read_text(encoding="utf-8")


def test_transfer_has_a_row_for_each_task():
    table = transfer({("gtzan", "fine_tune"): 0.91})
    assert [row[0] for row in table.rows] == [task.label for task in TRANSFER.values()]
    (gtzan,) = [row for row in table.rows if row[0] == "GTZAN"]
    assert gtzan == ("GTZAN", "accuracy", 0.758, None, 0.915, 0.91, 0.827, None, 0.858, None)


def test_figures_of_fine_tunings_stand_beside(command, tmp_path: Path):
    report = tmp_path / "report.json"
    told = {"strategy": "freeze_L1", "model": "Transfer_Cnn6", "data": "D", "clips": 9, "folds": 3, "test_clips": 9}
    report.write_text(json.dumps({**told, "scores": {"accuracy": 0.8, "mAP@3": 0.9}}))
    code, out, _ = command(
        "table", "transfer", "--report", f"GTZAN={report}", f"dcase2018-task2={report}", "--format=csv"
    )
    assert code == 0
    rows = {row["task"]: row for row in rows_of(out)}
    assert (rows["GTZAN"]["local_freeze_L1"], rows["GTZAN"]["local_scratch"]) == ("0.8", "")
    assert rows["DCASE 2018 Task 2"]["local_freeze_L1"] == "0.9"
    _, out, _ = command("table", "transfer", "--report", f"GTZAN={report}")
    assert out.splitlines()[-1] == f"{report}: GTZAN, freeze_L1 of Cnn6, 9 clips, 3 folds."
    for given, sentence in (
        (str(report), "must be TASK=FILE.json"),
        (f"mnist={report}", "TASK one of esc50"),
        (f"gtzan={tmp_path / 'none.json'}", "there is no such file"),
        (f"gtzan={__file__}", "is not the .json that panns-jax finetune writes"),
    ):
        code, out, err = command("table", "transfer", "--report", given)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert sentence in err


def test_presets_are_listed_with_scores(command, make_run):
    workspace = make_run("run", load_preset("cnn14"), (0.01, 0.5), (0.35, 0.96), classes=30)
    code, out, err = command("configs", "--workspace", workspace)
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["cnn14"].split()[:4] == ["cnn14", "0.431", "0.350", "1,800,000"]
    assert lines["cnn14_hop500"].split()[:4] == ["cnn14_hop500", "0.417", "-", "-"]
    assert out.splitlines()[-1].endswith("differs from cnn14: 30 classes")
    code, out, _ = command("configs", "CNN-6", "hop_6", "--format", "csv")
    assert [row["name"] for row in rows_of(out)] == ["cnn6", "cnn14_hop640"]
    code, out, _ = command("configs", "hop640", "--format", "json")
    (row,) = json.loads(out)
    assert (row["published"], row["local"], row["options"]["hop_size"]) == (0.417, None, 640)
    code, out, _ = command("configs", "gtzan_scratch", "--format", "json")
    (row,) = json.loads(out)
    assert (row["command"], row["metric"], row["published"]) == ("finetune", "accuracy", 0.758)
    assert row["options"] == {"model": "Cnn14", "strategy": "scratch", "folds": 10, "clip_seconds": 30.0}
    code, out, err = command("configs", "cnn41")
    assert (code, out) == (2, "") and "did you mean cnn14?" in err
