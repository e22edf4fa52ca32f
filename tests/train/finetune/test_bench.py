"""The folder of a fine-tuning that may be interrupted holds what there is to go on with, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from panns_jax import InputError
from panns_jax.train.finetune.bench import Bench


def test_a_run_that_broke_off_before_it_kept_anything_leaves_nothing_and_binds_to_nothing(tmp_path: Path):
    bench = Bench(tmp_path / "own.part")
    with pytest.raises(RuntimeError), bench.opened({"epochs": 3}, restart=False):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with bench.opened({"epochs": 4}, restart=False) as begun:
        assert not begun


def test_what_was_kept_is_gone_on_with_by_the_same_options_alone(tmp_path: Path):
    bench, tree = Bench(tmp_path / "own.part"), {"w": np.arange(3.0)}
    with pytest.raises(KeyboardInterrupt), bench.opened({"epochs": 3}, restart=False):
        bench.keep("final", tree, {"epoch": 2})
        raise KeyboardInterrupt
    with bench.opened({"epochs": 3}, restart=False) as begun:
        kept = bench.kept("final", tree)
    assert begun and kept is not None
    np.testing.assert_array_equal(kept[0]["w"], tree["w"])
    assert kept[1] == {"epoch": 2}
    with pytest.raises(InputError, match="with epochs 3, now it is 4"), bench.opened({"epochs": 4}, restart=False):
        raise AssertionError("it went on with something else")
    assert bench.kept("final", tree) is not None
    with bench.opened({"epochs": 4}, restart=True) as begun:
        assert not begun
