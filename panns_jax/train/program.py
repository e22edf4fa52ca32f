"""From the options of a run and its model to the state that it begins with and the step that it takes."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from panns_jax.models.config import ModelConfig
from panns_jax.train.averaging import Averaging, make_averaging
from panns_jax.train.losses import LOSSES
from panns_jax.train.optimizer import make_optimizer, make_schedule
from panns_jax.train.step import (
    StepReport,
    TrainState,
    abstract_state,
    architecture,
    initial_state,
    make_train_step,
)

if TYPE_CHECKING:
    from panns_jax.train.options import Train


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run computes; `make_program` makes it.

    Attributes:
      options: of the run.
      model: what is trained.
      mesh: the devices.
      rate: step size over the iterations, or the one number that it is.
      optimizer: with that step size.
      averaging: how averages of the weights go on; None where none are made.
    """

    options: "Train"
    model: ModelConfig
    mesh: Mesh
    rate: float | optax.Schedule
    optimizer: optax.GradientTransformationExtraArgs
    averaging: Averaging | None

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        return initial_state(
            self.model, self.optimizer, self.mesh, seed=self.options.seed, averaged=self.averaging is not None
        )

    def abstract_state(self) -> TrainState:
        """Shapes, types and places of the state."""
        return abstract_state(self.model, self.optimizer, self.mesh, averaged=self.averaging is not None)

    def step(self) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, StepReport]]:
        """The compiled step, as `make_train_step` describes it."""
        options = self.options
        return make_train_step(
            architecture(self.model, options.precision),
            self.optimizer,
            self.mesh,
            loss=LOSSES[options.loss_type],
            mixup=options.augmentation == "mixup",
            seed=options.seed,
            accumulation_steps=options.accumulation_steps,
            rematerialize=options.rematerialize,
            averaging=self.averaging,
        )

    def learning_rate(self, iteration: int) -> float:
        """Step size of the step that ends with this iteration, from 1 on."""
        return np.asarray(self.rate(iteration - 1) if callable(self.rate) else self.rate).item()


def make_program(options: "Train", model: ModelConfig, mesh: Mesh) -> Program:
    """What a run of these options computes."""
    rate = make_schedule(
        options.learning_rate, options.learning_rate_decay, warm_up=options.warm_up, last=options.early_stop
    )
    return Program(
        options=options,
        model=model,
        mesh=mesh,
        rate=rate,
        optimizer=make_optimizer(rate, weight_decay=options.weight_decay),
        averaging=make_averaging(ema_decay=options.ema_decay, swa_start=options.swa_start),
    )
