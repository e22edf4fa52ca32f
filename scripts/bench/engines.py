"""Whole models beside PyTorch, ONNX Runtime and OpenVINO: from waveforms to probabilities, interleaved in one process.

    python scripts/bench/engines.py [--models Cnn14 … | all] [--cases Cnn14:8:10 …] [--engines panns_jax pytorch …]
                                    [--rounds 7] [--json FILE] [--figure FILE.png] [--plain] [--no-tune]

Every engine gets the same weights and clips and all cores, under one setting of the allocator. Those in float32 have to
agree with PyTorch within 1e-4 on the probabilities, otherwise the exit code is 1. A ratio is the median time of ours
over that of the other.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import common
import machine
import table
import turns
from cases import DEFAULT_CASES, Case, aims, parse_case
from runtimes import ENGINES, Run, Subject, Unavailable, by_torch

_REFERENCE = "pytorch"
_PLAIN = "panns_jax-plain"
_REQUIRED = ("torch", "librosa")  # for what is right, and for the weights' front end
_TOLERANCE = 1e-4


def main() -> None:
    parser = make_parser()
    options = parser.parse_args()
    tuned = common.tune(options)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported
    common.require(*_REQUIRED, *(["matplotlib"] if options.figure else []))
    cases, names = _cases(parser, options), chosen_engines(options)
    described = machine.describe(tuned=tuned)
    machine.print_header("Whole models, waveforms to probabilities", described)
    rows: list[table.Row] = []
    compared: list[table.Ratio] = []
    for case in cases:
        of_case = _compare(case, names, options.rounds)
        beside = table.ratios(of_case, aims(case))
        _free()
        if of_case:
            print(table.table(of_case, beside), flush=True)
        rows, compared = rows + of_case, compared + beside
        table.write_json(options.json, described, rows, compared)  # what is there so far, should a later case fail
    if not rows:
        sys.exit(1)
    print(table.summary(compared))
    if options.figure:
        import figure

        figure.draw(described, [row.to_json() for row in rows], options.figure)
    if wrong := disagreements(rows):
        print(f"not PyTorch's probabilities within {_TOLERANCE}: {'; '.join(wrong)}", file=sys.stderr)
        sys.exit(1)


def disagreements(rows: Sequence[table.Row]) -> list[str]:
    """Which float32 engines are off by more than they may be, or by what is no number, and where."""
    whole = {engine.name for engine in ENGINES.values() if engine.whole}
    return [
        f"{row.engine} is off by {row.difference:.1e} in {row.what}"
        for row in rows
        if row.engine in whole and row.difference is not None and not row.difference <= _TOLERANCE
    ]


def _compare(case: Case, names: Sequence[str], rounds: int) -> list[table.Row]:
    """The rows of one case. What an engine does not do here is printed."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(case, Path(folder))
        expected = by_torch(subject)()
        sides: dict[str, Run] = {}
        differences: dict[str, float | None] = {}
        first_calls: dict[str, float] = {}
        for name in names:
            engine = ENGINES[name]
            try:
                run = engine.build(subject)
                begun = time.perf_counter()
                got = run()
            except Unavailable as error:
                print(f"\n{case}: {engine.name} is left out: {error}", flush=True)
                continue
            first_calls[engine.name] = time.perf_counter() - begun
            differences[engine.name] = None if name == _REFERENCE else float(abs(got - expected).max())
            sides[engine.name] = run
        taken = turns.in_turns(sides, rounds)
    details = {"model": case.model, "batch": case.batch, "clip_seconds": case.seconds}
    return [
        table.Row(str(case), name, timing, differences[name], "", first_calls[name], details)
        for name, timing in taken.items()
    ]


def _free() -> None:
    """Gives up what the programs of a case hold; the next one needs the memory."""
    import jax

    jax.clear_caches()
    gc.collect()


def make_parser() -> argparse.ArgumentParser:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--models", nargs="+", metavar="MODEL", default=[], help="each with one clip of 10 s; or all")
    parser.add_argument("--cases", nargs="+", metavar="MODEL:BATCH:SECONDS", default=[], help="such as Cnn14:8:10")
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, metavar="ENGINE", help=f"of {', '.join(ENGINES)} (those installed)"
    )
    parser.add_argument("--plain", action="store_true", help="also our model as load_model gives it, under jax.jit")
    parser.add_argument("--figure", type=common.new_file, metavar="FILE", help="also draw time per 10-s clip (.png)")
    common.add_no_tune(parser)
    return parser


def _cases(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Sequence[Case]:
    from panns_jax.models.registry import list_models

    models = list_models() if options.models == ["all"] else options.models
    try:
        cases = [*map(Case, models), *map(parse_case, options.cases)] or DEFAULT_CASES
    except ValueError as error:
        parser.error(str(error))
    if unknown := {case.model for case in cases} - set(list_models()):
        parser.error(f"{', '.join(sorted(unknown))}: not among the models: {', '.join(list_models())}")
    return cases


def chosen_engines(options: argparse.Namespace) -> Sequence[str]:
    """Those asked for; otherwise those that are installed and for a processor like this."""
    if options.engines:
        common.require(*(module for name in options.engines for module in ENGINES[name].needs))
        chosen = options.engines
    else:
        sets = set(machine.instruction_sets())
        suiting = [name for name, engine in ENGINES.items() if not engine.wants or sets & set(engine.wants)]
        chosen = [name for name in suiting if name != _PLAIN and common.installed(*ENGINES[name].needs)]
        for name in set(suiting) - {*chosen, _PLAIN}:
            print(f"{ENGINES[name].name} is left out: pip install {' '.join(ENGINES[name].needs)}")
    return [*chosen, *([_PLAIN] if options.plain and _PLAIN not in chosen else [])]


if __name__ == "__main__":
    main()
