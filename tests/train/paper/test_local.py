"""Which run is which experiment, and what it reached."""

import json
from pathlib import Path

import pytest

from panns_jax.errors import InputError
from panns_jax.train.metrics import d_prime
from panns_jax.train.options import Train
from panns_jax.train.paper.local import best_result, scored_runs
from panns_jax.train.presets import list_presets, load_preset, read_preset

PRESETS = [name for name in list_presets() if isinstance(read_preset(name).config, Train)]


def test_the_best_evaluation_of_the_best_run_counts(make_run):
    cnn14 = load_preset("cnn14")
    make_run("a", cnn14, (0.01, 0.5), (0.30, 0.95), (0.28, 0.97))
    workspace = make_run("b", cnn14, (0.01, 0.5), (0.25, 0.94))
    runs, faults = scored_runs([workspace])
    assert len(runs) == 2 and faults == []
    best = best_result(runs, cnn14)
    assert best is not None
    assert (best.run, best.iteration, best.clips, best.differs) == ("a", 2000, 1_800_000, ())
    figures = best.figures
    assert figures.mean_average_precision == pytest.approx(0.30)
    assert figures.mean_auc == pytest.approx(0.95)
    assert figures.d_prime == pytest.approx(d_prime(0.95))


@pytest.mark.parametrize("name", ["cnn14", "cnn14_hop640", "cnn14_data50", "cnn14_20k_plain", "cnn14_8k"])
def test_a_run_is_one_experiment_and_no_other(make_run, name: str):
    workspace = make_run("run", load_preset(name), (0.01, 0.5), (0.3, 0.9))
    runs, _ = scored_runs([workspace])
    assert [preset for preset in PRESETS if best_result(runs, load_preset(preset))] == [name]


def test_what_else_is_different_is_told(make_run):
    workspace = make_run(
        "run",
        load_preset("cnn14"),
        (0.01, 0.5),
        (0.3, 0.9),
        batch_size=16,
        ema_decay=0.999,
        classes=30,
        seed=4,
        workers=2,
    )
    best = best_result(scored_runs([workspace])[0], load_preset("cnn14"))
    assert best is not None
    assert best.differs == ("batch_size 16", "ema_decay 0.999", "30 classes")


def test_a_run_from_before_there_was_an_option_is_that_of_its_default(make_run):
    workspace = make_run("run", load_preset("cnn14"), (0.01, 0.5), (0.3, 0.9))
    config = workspace / "checkpoints" / "run" / "config.json"
    saved = json.loads(config.read_text())
    del saved["data_fraction"], saved["ema_decay"]
    config.write_text(json.dumps(saved))
    runs, _ = scored_runs([workspace])
    best = best_result(runs, load_preset("cnn14"))
    assert best is not None and best.differs == ()
    assert best_result(runs, load_preset("cnn14_data50")) is None


def test_runs_that_have_only_begun_do_not_count(make_run):
    make_run("untrained", load_preset("cnn14"), (0.9, 0.9))
    workspace = make_run("unscored", load_preset("cnn14"))
    assert scored_runs([workspace]) == ([], [])


def test_a_damaged_run_is_named_and_the_others_count(make_run):
    make_run("good", load_preset("cnn14"), (0.01, 0.5), (0.3, 0.9))
    workspace = make_run("bad", load_preset("cnn14"), (0.01, 0.5), (0.4, 0.9))
    (workspace / "statistics" / "bad" / "statistics.npz").write_bytes(b"PK no more")
    runs, faults = scored_runs([workspace])
    assert [run.result.run for run in runs] == ["good"]
    assert len(faults) == 1 and str(Path("bad") / "statistics.npz") in faults[0]


def test_a_workspace_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such folder"):
        scored_runs([tmp_path / "none"])
