"""The demo learns what is there to learn, and nothing where there is nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / "demo_run.py", *arguments]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def scores(*arguments: object) -> tuple[float, float]:
    """mAP on clips never trained on, and chance level, as the demo's last lines tell them."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    chance, test = done.stdout.splitlines()[-2:]
    found = re.fullmatch(r"test mAP (0\.\d{3}|1\.000)", test), re.fullmatch(r"chance mAP (0\.\d{3})", chance)
    assert all(found), done.stdout
    return float(test.split()[-1]), float(chance.split()[-1])


@pytest.mark.slow
def test_a_short_demo_learns_from_true_labels_and_not_from_shuffled_ones(tmp_path):
    size = ("--clips", 320, "--iterations", 150)
    learnt, chance = scores("--folder", tmp_path / "true", *size)
    assert learnt > chance + 0.3
    guessed, chance = scores("--folder", tmp_path / "shuffled", *size, "--shuffle-labels")
    # 80 clips to score on: random scores alone reach up to 0.05 above the share of positives.
    assert guessed < chance + 0.12


@pytest.mark.long
def test_the_whole_demo_reaches_0_9_and_with_shuffled_labels_stays_near_chance(tmp_path):
    learnt, _ = scores("--folder", tmp_path / "true")
    assert learnt >= 0.9
    guessed, chance = scores("--folder", tmp_path / "shuffled", "--shuffle-labels")
    assert guessed < chance + 0.1


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    done = run("--folder", tmp_path, "--fresh")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "holds something else" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [["--clips", "0"], ["--iterations", "none"], ["--seed", "-1"], ["--colour", "red"]])
def test_wrong_options_are_refused_before_anything_is_done(tmp_path, wrong):
    done = run("--folder", tmp_path / "new", *wrong)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
