"""`panns-jax models` and `panns-jax info`."""

import csv
import io
import json
from pathlib import Path

import pytest
import recipe
from weights import arbitrary

from panns_jax import cli
from panns_jax.models.registry import list_models, model_config
from panns_jax.pretrained.native import Provenance, write_native


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    shown = capsys.readouterr()
    assert end.value.code == code, shown.err
    return shown.err if code else shown.out


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path))
    return tmp_path


def test_the_list_has_every_published_model_and_what_was_released(capsys: pytest.CaptureFixture[str]):
    lines = output_of(capsys, "models").splitlines()
    assert [line.split()[0] for line in lines] == ["model", *list_models()]
    assert "Cnn14                     32000       2048  0.431  Cnn14_mAP=0.431.pth" in lines
    assert sum(".pth" in line for line in lines) == 22


def test_the_table_tells_what_follows_from_each_model(capsys: pytest.CaptureFixture[str]):
    rows = {row["model"]: row for row in json.loads(output_of(capsys, "models", "--table", "--format", "json"))}
    assert list(rows) == list_models()
    assert rows["Cnn14_16k"] == {
        "model": "Cnn14_16k",
        "sample_rate": 16000,
        "parameters": 80_753_615,
        "giga_operations": rows["Cnn14_16k"]["giga_operations"],
        "paper_giga_operations": None,
        "embedding_dim": 2048,
        "shortest_seconds": 0.31,
        "step_seconds": 0.32,
        "framewise": False,
        "mAP": 0.438,
        "paper_mAP": 0.427,
        "paper_mAUC": 0.973,
        "paper_d_prime": 2.719,
    }
    assert {name: row["parameters"] for name, row in rows.items()} == {
        name: row["params"] for name, row in recipe.manifest().items() if name in rows
    }
    counted = [(row["giga_operations"], row["paper_giga_operations"]) for row in rows.values()]
    theirs = [pair for pair in counted if pair[1] is not None]
    assert len(theirs) == 15
    for ours, paper in theirs:
        assert ours == pytest.approx(paper, rel=0.01)
    assert rows["DaiNet19"]["step_seconds"] == 0.008
    assert rows["Cnn14_DecisionLevelAtt"]["framewise"]


def test_csv_has_a_row_for_each_model(capsys: pytest.CaptureFixture[str]):
    rows = list(csv.DictReader(io.StringIO(output_of(capsys, "models", "--format", "csv"))))
    assert [row["model"] for row in rows] == list_models()
    assert rows[0]["released_file"] == "Cnn6_mAP=0.343.pth"


def test_a_card_tells_all_of_a_model(capsys: pytest.CaptureFixture[str], empty_cache: Path):
    card = output_of(capsys, "info", "Cnn14_DecisionLevelAtt")
    for told in (
        "sample rate      32000 Hz",
        "log-mel, window 1024, hop 320, 64 mel bins from 50 to 14000 Hz",
        "shortest input   0.310 s (9920 samples)",
        "time step        0.320 s (10240 samples)",
        "receptive field  2.862 s (91584 samples)",
        "framewise (1001, 527)",
        "classes          527 (audioset)",
        "parameters       81,834,492",
        "released file    mAP 0.425",
        "c8281ca2b9967244b91d557aa941e8ca",
        "CC BY 4.0",
        "IEEE/ACM Transactions",
    ):
        assert told in card
    assert "cached" not in card


def test_a_card_is_json_too_and_tells_where_the_file_is_kept(capsys: pytest.CaptureFixture[str], empty_cache: Path):
    kept = empty_cache / "LeeNet11_mAP=0.266.safetensors"
    kept.touch()
    card = json.loads(output_of(capsys, "info", "LeeNet11", "--format", "json"))
    assert card["front_end"] == "reads the waveform itself"
    assert card["source"]["cached"] == str(kept)
    assert card["scores"]["paper"]["mean_average_precision"] == 0.266
    assert card["shortest_input"] == {"samples": 1, "seconds": 0.000031}


def test_a_file_is_described_by_what_it_carries(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    config = model_config("DemoCnn").with_classes(3)
    write_native(tmp_path / "x.safetensors", config, arbitrary(config), Provenance("x.pth", "abc", "CC0"))
    card = output_of(capsys, "info", str(tmp_path / "x.safetensors"))
    for told in ("DemoCnn", "classes          3 (3 unnamed classes)", "weights          x.pth", "sha256           abc"):
        assert told in card


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Cnn15", "there is no model 'Cnn15'; did you mean Cnn14"),
        ("missing.pth", "missing.pth: there is no such file"),
    ],
)
def test_what_is_no_model_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str], model: str, message: str):
    assert message in output_of(capsys, "info", model, code=2)
