"""Four training steps are those of the published implementation."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from published_training import Step, Training, golden_batch

from panns_jax.frontend import mixup
from panns_jax.models.registry import model_config

GOLDEN = json.loads((recipe.GOLDEN / "training.json").read_text())
ROWS = 8
STEPS = 4
# Attention pooling sums weights to 1 or just below, which the loss takes for 100 or 16: see the test of its own.
REPRODUCIBLE = [name for name in GOLDEN if name != "Cnn14_DecisionLevelAtt"]
# As many steps as take seconds; the others, and the other steps, are run in the long tests.
QUICK = {"Cnn6": STEPS, **dict.fromkeys(("Cnn14_no_dropout", "MobileNetV1", "LeeNet24", "DaiNet19"), 1)}
CASES = [
    *(pytest.param(name, steps, marks=[] if name == "Cnn6" else pytest.mark.slow) for name, steps in QUICK.items()),
    *(pytest.param(name, STEPS, marks=pytest.mark.long) for name in REPRODUCIBLE if QUICK.get(name) != STEPS),
]


def training(name: str) -> Training:
    rate = model_config(name).sample_rate
    return Training(name, golden_batch(ROWS, rate, rate, mixup=True), GOLDEN[name]["lr"])


@pytest.mark.parametrize(("name", "steps"), CASES)
def test_losses_gradients_and_batch_statistics_are_the_published_ones(name: str, steps: int):
    golden, tolerance = GOLDEN[name], tolerances.TRAINING.get(name, tolerances.Training())
    run = training(name)
    first = run.step()
    check_gradients(first, golden, tolerance.gradient_norm)
    check_statistics(first, golden["bn_after_step1"])
    losses = [first.loss]
    for _ in range(1, steps):
        run.update()
        losses.append(run.step().loss)
    allowed = [tolerances.LOSS, tolerance.second_loss, *[tolerance.later_losses] * 2]
    for loss, published, near in zip(losses, golden["losses"], allowed, strict=False):  # one step or four
        assert loss == pytest.approx(published, rel=near)
    if steps == STEPS:
        run.update()
        clipwise = run.clipwise()
        figures = [clipwise.mean(), clipwise.std()]
        np.testing.assert_allclose(figures, golden["eval_after_4"], atol=tolerance.evaluation)


@pytest.mark.long
def test_attention_pooling_in_training_is_the_published_one_but_for_what_rounds_to_certainty():
    golden = GOLDEN["Cnn14_DecisionLevelAtt"]
    run = training("Cnn14_DecisionLevelAtt")
    clipwise = run.clipwise(training=True)
    first = run.step()
    check_statistics(first, golden["bn_after_step1"])
    check_unused(first, golden)
    batch = golden_batch(ROWS, 32000, 32000, mixup=True)
    assert batch.blend is not None
    p, target = (
        clipwise.astype(np.float64),
        np.asarray(mixup(*map(jnp.asarray, (batch.target, batch.blend))), np.float64),
    )
    certain = p > 1 - 5e-7
    # The published loss takes such a probability for 1, or for one of the numbers just below it.
    least, most = (
        -(target * np.log(p) + (1 - target) * np.where(certain, log, np.log1p(-np.minimum(p, 1 - 5e-7)))).mean()
        for log in (np.log(5e-7), -100)
    )
    assert 0 < certain.sum() < 0.1 * p.size
    assert least < golden["losses"][0] < most
    assert least < first.loss < most


def test_every_published_training_is_looked_at():
    tested = {case.values[0] for case in CASES} | {"Cnn14_DecisionLevelAtt"}
    assert tested == set(GOLDEN)


def check_gradients(step: Step, golden: dict[str, Any], tolerance: float) -> None:
    published = golden["grad_norm"]
    norms = {key: float(np.linalg.norm(step.gradients[key])) for key in published}
    floor = tolerances.NO_GRADIENT * max(published.values())
    assert norms == {key: pytest.approx(norm, rel=tolerance, abs=floor) for key, norm in published.items()}
    check_unused(step, golden)


def check_unused(step: Step, golden: dict[str, Any]) -> None:
    # What PyTorch gives no gradient is not used: here it is 0. The front end's constants are no parameters here.
    for key in golden["no_grad"]:
        assert key not in step.gradients or (step.gradients[key] == 0).all(), key


def check_statistics(step: Step, golden: dict[str, list[float]]) -> None:
    for key, (mean, std) in golden.items():
        got = step.statistics[key]
        assert got.mean() == pytest.approx(mean, rel=tolerances.BATCH_STATISTICS, abs=1e-6), key
        assert got.std() == pytest.approx(std, rel=tolerances.BATCH_STATISTICS), key
