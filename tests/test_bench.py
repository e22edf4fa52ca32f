"""The benchmarks' own parts: cases, aims, limits, turns, tables, workspaces, what they tell of machines, the figure."""

import json
import mmap
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import errors
import h5py
import limits
import machine
import numpy as np
import pytest
import tolerances
from cases import DEFAULT_CASES, Case, aims, parse_case
from engines import chosen_engines, disagreements, make_parser
from figure import per_clip
from limits import Limited
from make_workspace import make_balanced, make_full
from runtimes import ENGINES
from table import OURS, Row, ratios, summary, table, write_json
from turns import Timing, in_turns

from panns_jax.data.index import read_index
from panns_jax.data.sources import ClipSource

BENCH = Path(__file__).parent.parent / "scripts" / "bench"

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512_bf16 avx512_vnni

processor\t: 1
model name\t: another
flags\t\t: amx_tile
"""
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve i8mm bf16\n"


def row(engine: str, seconds: float, difference: float | None = None, what: str = "Cnn14, batch 1, 10 s") -> Row:
    return Row(what, engine, Timing((seconds, 3 * seconds, seconds)), difference, "")


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("Cnn14:8:10", Case("Cnn14", 8, 10)),
        ("Cnn14_DecisionLevelMax:1:0.5", Case("Cnn14_DecisionLevelMax", 1, 0.5)),
        ("MobileNetV2:16:60", Case("MobileNetV2", 16, 60)),
    ],
)
def test_a_case_is_written_as_model_batch_and_seconds(text: str, case: Case):
    assert parse_case(text) == case


@pytest.mark.parametrize("text", ["Cnn14", "Cnn14:8", "Cnn14:0:10", "Cnn14:1:0", "Cnn14:1:-1", ":1:1", "Cnn14:1:10s"])
def test_what_is_no_case_is_told_with_an_example(text: str):
    with pytest.raises(ValueError, match="not MODEL:BATCH:SECONDS, such as Cnn14:8:10"):
        parse_case(text)


def test_each_case_of_the_table_has_aims_against_both_and_all_others_one_against_onnx_runtime():
    for case in DEFAULT_CASES:
        assert {(OURS, "ONNX Runtime"), (OURS, "PyTorch")} <= aims(case).keys()
    assert aims(Case("LeeNet11")) == {(OURS, "ONNX Runtime"): 1.1}
    names = {engine.name for engine in ENGINES.values()}
    assert all(set(pair) <= names for case in DEFAULT_CASES for pair in aims(case))


def test_ratios_are_of_medians_and_stand_beside_their_aims():
    rows = [row(OURS, 0.3), row(f"{OURS} bf16", 0.1), row("PyTorch", 0.5), row("ONNX Runtime", 0.25)]
    aimed = {(OURS, "PyTorch"): 0.6, (OURS, "ONNX Runtime"): 1.0}
    compared = ratios(rows, aimed)
    assert [(r.ours, r.theirs, round(r.value, 3), r.verdict) for r in compared] == [
        (OURS, "PyTorch", 0.6, "≤ 0.60 reached"),
        (OURS, "ONNX Runtime", 1.2, "≤ 1.00 missed"),
        (f"{OURS} bf16", "PyTorch", 0.2, ""),
        (f"{OURS} bf16", "ONNX Runtime", 0.4, ""),
    ]
    lines = table(rows, compared).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["Cnn14,", OURS, OURS, "PyTorch", "ONNX", OURS, OURS]
    assert "250 ms  250 ms – 750 ms" in lines[5]
    assert lines[5].endswith("1.20  ≤ 1.00 missed")
    assert summary(compared).splitlines()[1:] == [
        "1 of 2 aims reached",
        f"  missed: Cnn14, batch 1, 10 s: {OURS} / ONNX Runtime 1.20, aim 1.00",
    ]


@pytest.mark.parametrize(
    ("arguments", "sets", "chosen"),
    [
        ([], ("AVX2",), ["panns_jax", "pytorch", "openvino"]),
        (["--plain"], ("AVX-512 BF16",), ["panns_jax", "pytorch", "openvino", "openvino-bf16", "panns_jax-plain"]),
        ([], ("AMX BF16",), ["panns_jax", "panns_jax-bf16", "pytorch", "openvino", "openvino-bf16"]),
        (["--engines", "pytorch", "panns_jax-bf16", "--plain"], (), ["pytorch", "panns_jax-bf16", "panns_jax-plain"]),
    ],
)
def test_engines_are_those_installed_that_suit_the_processor_or_those_asked_for(
    arguments: list[str],
    sets: tuple[str, ...],
    chosen: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(machine, "instruction_sets", lambda: sets)
    monkeypatch.setattr(common, "missing", lambda modules: [name for name in modules if name == "onnxruntime"])
    assert chosen_engines(make_parser().parse_args(arguments)) == chosen
    told = capsys.readouterr().out
    assert ("ONNX Runtime is left out: pip install onnx onnxruntime" in told) == ("--engines" not in arguments)


def test_an_engine_that_is_asked_for_and_missing_ends_in_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(common, "missing", lambda modules: [name for name in modules if name == "openvino"])
    with pytest.raises(SystemExit) as ended:
        chosen_engines(make_parser().parse_args(["--engines", "openvino-bf16"]))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "openvino not installed: pip install openvino\n"


@pytest.mark.parametrize("option", ["--json", "--figure"])
def test_a_file_in_a_folder_that_is_not_there_is_told_before_anything_is_measured(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([option, str(tmp_path / "none" / "file")])
    assert ended.value.code == 2
    assert f"argument {option}: there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_a_float32_engine_that_is_off_is_named_and_one_in_bfloat16_may_be():
    rows = [
        row(OURS, 1, 9e-5),
        row("PyTorch", 1),
        row("OpenVINO", 1, 2e-4, "MobileNetV2, batch 8, 10 s"),
        row("ONNX Runtime", 1, float("nan")),
        row("OpenVINO bf16", 1, 1e-2),
    ]
    assert disagreements(rows) == [
        "OpenVINO is off by 2.0e-04 in MobileNetV2, batch 8, 10 s",
        "ONNX Runtime is off by nan in Cnn14, batch 1, 10 s",
    ]


def test_the_json_holds_machine_figures_and_ratios(tmp_path: Path):
    rows = [row(OURS, 0.3, 1e-6), row("PyTorch", 0.5)]
    write_json(tmp_path / "figures.json", {"cores": 2}, rows, ratios(rows, {}))
    read = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert read["machine"] == {"cores": 2}
    assert [(f["engine"], f["median"], f["least"], f["most"]) for f in read["figures"]] == [
        (OURS, 0.3, 0.3, pytest.approx(0.9)),
        ("PyTorch", 0.5, 0.5, 1.5),
    ]
    assert read["ratios"][0]["value"] == pytest.approx(0.6)


def test_sides_take_turns_and_who_begins_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    calls: list[str] = []
    taken = in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3, warm_up=1)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert {name: len(timing.seconds) for name, timing in taken.items()} == {"a": 3, "b": 3}


def written_fresh_memory() -> None:
    """Write to 64 MiB that come from the kernel: the allocator may hand out what an earlier test has touched."""
    with mmap.mmap(-1, 1 << 26) as pages:
        np.frombuffer(pages, np.uint8)[:: mmap.PAGESIZE] = 1


def test_fresh_memory_shows_as_page_faults_of_the_side_that_asked_for_it():
    pytest.importorskip("resource")
    taken = in_turns({"fresh": written_fresh_memory, "none": lambda: None}, 1, warm_up=0)
    fresh, none = taken["fresh"].usual_faults, taken["none"].usual_faults
    assert fresh is not None
    assert none is not None
    assert fresh > none + 10


@pytest.mark.parametrize(
    ("told", "sets"),
    [
        (EPYC, ("AVX2", "FMA", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16")),
        ("flags\t: avx2 avx512f amx_bf16 amx_tile amx_int8", ("AVX2", "AVX-512", "AMX", "AMX BF16", "AMX INT8")),
        (GRAVITON, ("NEON", "SVE", "BF16", "I8MM")),
        ("", ()),
    ],
)
def test_instruction_sets_are_those_of_the_first_processor(told: str, sets: tuple[str, ...]):
    assert machine.instruction_sets(told) == sets


def test_a_processor_is_named_with_the_numbers_behind_a_vague_name():
    assert machine.processor(EPYC) == "AMD EPYC (family 25, model 17)"
    assert machine.processor("")


def test_the_allocator_is_told_as_it_was_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    assert machine.allocator(tuned=False).endswith("as it is")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert machine.allocator(tuned=False).endswith("MALLOC_ARENA_MAX=1")
    assert machine.allocator(tuned=True).endswith("set by panns_jax.tune_process()")


@pytest.fixture
def figures(tmp_path: Path) -> Callable[..., Path]:
    """Writes what engines.py writes."""

    def write(**fields: Any) -> Path:
        file = tmp_path / "figures.json"
        rows = [
            {"what": f"{model}, batch {batch}, 60 s", "engine": engine, "median": seconds}
            | {"model": model, "batch": batch, "clip_seconds": 60}
            for model, batch in (("Cnn14", 1), ("MobileNetV2", 8))
            for engine, seconds in ((OURS, 1.2), ("PyTorch", 2.4), ("OpenVINO bf16", 0.6))
        ]
        rows.append({"what": "front end, batch 8, 10 s", "engine": OURS, "median": 0.01})
        described = {"processor": "P", "cores": 2, "instruction_sets": ["AVX2"], "allocator": "glibc, as it is"}
        file.write_text(json.dumps({"machine": described, "figures": rows} | fields))
        return file

    return write


def test_times_are_per_ten_seconds_of_sound_and_of_whole_models_only(figures: Callable[..., Path]):
    rows = json.loads(figures().read_text())["figures"]
    times = per_clip([*rows, {"model": "Cnn6", "engine": OURS, "median": 0.1, "batch": 1, "clip_seconds": 10}])
    assert list(times) == ["Cnn14, clips of 60 s", "MobileNetV2, batch 8, clips of 60 s", "Cnn6"]
    assert times["Cnn14, clips of 60 s"] == pytest.approx({OURS: 0.2, "PyTorch": 0.4, "OpenVINO bf16": 0.1})
    assert times["MobileNetV2, batch 8, clips of 60 s"][OURS] == pytest.approx(0.025)
    assert times["Cnn6"] == {OURS: 0.1}


def test_the_figure_is_drawn_from_the_json(figures: Callable[..., Path], tmp_path: Path):
    image = pytest.importorskip("matplotlib.image")
    done = run("figure.py", figures(), tmp_path / "figure.png")
    assert (done.returncode, done.stderr) == (0, "")
    pixels = image.imread(tmp_path / "figure.png")
    assert pixels.shape[1] == 900
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20, "an empty picture"


def test_json_without_figures_of_models_is_refused_in_one_sentence(figures: Callable[..., Path], tmp_path: Path):
    pytest.importorskip("matplotlib")
    done = run("figure.py", figures(figures=[]), tmp_path / "figure.png")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'figures.json'}: no figures of engines.py: none is of a whole model"
    ]
    assert not (tmp_path / "figure.png").exists()


@pytest.mark.slow
def test_engines_are_compared_and_a_model_that_is_none_is_told(tmp_path: Path):
    pytest.importorskip("torch")
    file = tmp_path / "figures.json"
    engines = ("--engines", "panns_jax-plain", "pytorch", "--no-tune", "--rounds", 1)
    done = run("engines.py", "--cases", "LeeNet11:1:1", *engines, "--json", file)
    assert done.returncode == 0, done.stderr
    read = json.loads(file.read_text(encoding="utf-8"))
    ours, theirs = read["figures"]
    assert [ours["engine"], theirs["engine"]] == [f"{OURS} plain", "PyTorch"]
    assert 0 < ours["difference"] < 1e-5
    assert theirs["difference"] is None
    assert read["ratios"][0]["value"] == pytest.approx(ours["median"] / theirs["median"])

    done = run("engines.py", "--models", "Cnn15", *engines)
    assert done.returncode == 2
    assert "Cnn15: not among the models" in done.stderr


def test_errors_of_kernels_stand_in_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(errors, "SPACES", {8: (12, 6)})
    monkeypatch.setattr(sys, "argv", ["errors.py", "--kernels", "xla", "winograd 2x2", "winograd 4x4"])
    errors.main()
    heading, rule, *lines = capsys.readouterr().out.splitlines()
    assert heading == "| kernel | weights beside the layer's | 8 channels |"
    assert rule == "|---|---|---|"
    cells = {name: (growth, float(error)) for name, growth, error in (line[2:-2].split(" | ") for line in lines)}
    growths = {name: growth for name, (growth, _) in cells.items()}
    assert growths == {
        "xla": "none",
        "winograd 2x2": "× 1.8",
        "winograd 4x4": "× 4.0",
        "xla, bfloat16": "none",
        "winograd 2x2, bfloat16": "× 1.8",
    }
    assert 0 < cells["xla"][1] < tolerances.KERNEL
    assert cells["xla"][1] < cells["winograd 4x4"][1] < tolerances.KERNELS["winograd 4x4"]
    assert 1e-3 < cells["winograd 2x2, bfloat16"][1] < tolerances.BFLOAT16_KERNEL


@pytest.mark.parametrize("chunked", [False, True])
def test_a_workspace_of_noise_is_read_as_the_published_ones_are(tmp_path: Path, chunked: bool):
    made = make_balanced(tmp_path, 70, chunked=chunked)
    source = ClipSource(read_index(made.path), common.SAMPLE_RATE)
    assert (len(source), source.samples, source.dtype) == (70, 320_000, np.int16)
    rows = source.waveforms(np.array([0, 69]))
    with h5py.File(made.files[0]) as file:
        waveform: Any = file["waveform"]
        np.testing.assert_array_equal(rows, waveform[[0, 69]])
    assert (rows.std(axis=1) > 5000).all()
    assert np.diff(source.index.targets.starts).min() >= 1


def test_a_workspace_of_all_parts_takes_no_room_for_waveforms(tmp_path: Path):
    made = make_full(tmp_path, 5000)
    index = read_index(tmp_path / "hdf5s" / "indexes" / "full_train.h5")
    assert [path.name for path in index.files[:2]] == ["balanced_train.h5", "unbalanced_train_part00.h5"]
    assert len(index.files) == 42
    assert (index.audio_name == made.audio_name).all()
    source = ClipSource(index, common.SAMPLE_RATE)
    assert not source.waveforms(np.array([0, 4999])).any()
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*.h5") if path.is_file())
    assert used < 100e6


def test_figures_are_held_to_their_limits(tmp_path: Path):
    figures = [
        Limited("opening", 4.756, "s", limit=15),
        Limited("samples", 123_456.7, "samples/s", "at least", 200_000),
        Limited("memory", 55.1, "MB"),
    ]
    assert [figure.reached for figure in figures] == [True, False, True]
    opening, samples, memory = limits.lines(figures).splitlines()
    assert opening.split() == ["opening", "4.76", "s", "at", "most", "15", "reached"]
    assert samples.split() == ["samples", "123,457", "samples/s", "at", "least", "200,000", "missed"]
    assert memory.split() == ["memory", "55.1", "MB"]
    write_json(tmp_path / "figures.json", {}, figures)
    read = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert [(f["what"], f["reached"]) for f in read["figures"]] == [
        ("opening", True),
        ("samples", False),
        ("memory", True),
    ]


@pytest.mark.long
def test_the_pipeline_is_compared_with_the_published_loader_on_the_same_clips(tmp_path: Path):
    pytest.importorskip("torch")
    made = make_balanced(tmp_path, 70)
    file = tmp_path / "figures.json"
    done = run("bench_pipeline.py", "--index", made.path, "--rounds", 1, "--no-tune", "--json", file)
    assert done.returncode == 0, done.stderr
    read = json.loads(file.read_text(encoding="utf-8"))
    engines = [row["engine"] for row in read["figures"] if "median" in row]
    assert engines == [OURS, f"{OURS}, 2 workers", "PyTorch DataLoader", "os.pread"]
    assert [row["unit"] for row in read["figures"] if "limit" in row] == ["%", "%"]


def test_a_workspace_without_an_index_is_refused_in_one_sentence(tmp_path: Path):
    done = run("bench_index.py", "--workspace", tmp_path)
    assert done.returncode == 2
    assert "there is no" in done.stderr.splitlines()[-1]
