"""Steps whose loss or gradients are not finite: what is told of them, and whether the run goes on."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.train.log import Log
from panns_jax.train.step import StepReport, Weights, norms_by_part

MOST_IN_A_ROW = 20
"""So many steps without effect, one after another, end the run in any case: the weights are then at fault."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """The clips of a batch.

    Attributes:
      names: of all.
      broken: names of those that hold samples which are not finite.
    """

    names: list[str]
    broken: list[str]


class Divergence:
    """Reports steps whose loss or gradients are not finite, and stops the run at the first, or at many in a row.

    Such a step has left the weights as they were (`step.make_train_step`).
    """

    def __init__(
        self, log: Log, clips: Callable[[int], Clips], *, skip: bool, tell: Callable[[str], None] = print
    ) -> None:
        """Begins to count.

        Args:
          log: gets a line for each such step.
          clips: the clips that an iteration is trained on.
          skip: whether the run goes on.
          tell: shows people a text of several lines.
        """
        self._log = log
        self._clips = clips
        self._skip = skip
        self._tell = tell
        self._in_a_row = 0
        self._skipped = 0

    def look(self, iteration: int, loss: float, report: StepReport, params: Weights) -> None:
        """Takes note of a step; all have to be told, in their order.

        Args:
          iteration: number of the step.
          loss: of the report, on the host.
          report: of the step.
          params: the weights of now.

        Raises:
          InputError: the run is to stop; nothing may be saved.
        """
        norm = float(report.gradient_norm)
        if math.isfinite(loss) and math.isfinite(norm):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._skipped += 1
        goes_on = self._skip and self._in_a_row < MOST_IN_A_ROW
        clips = self._clips(iteration)
        gradients, weights = (_fetched(norms) for norms in (report.gradient_norms, _norms(params)))
        figures: dict[str, Any] = {"loss": loss, "gradient_norm": norm, "gradient_norms": gradients}
        if (
            not goes_on
        ):  # later steps may have changed the weights by now: what is logged of a run is the same each time
            figures["weight_norms"] = weights
        self._log.write(
            "not_finite", iteration, None, skipped=goes_on, clips=clips.names, broken_clips=clips.broken, **figures
        )
        self._log.flush()
        what = f"at iteration {iteration} the loss is {loss} and the gradient norm {norm}"
        outcome = f"its update is left out ({self._skipped} so far)" if goes_on else "its update was not made"
        self._tell(
            "\n".join(
                [
                    f"{what}; {outcome}",
                    f"  norms of the gradients: {_listed(gradients)}",
                    f"  norms of the weights: {_listed(weights)}",
                    f"  clips of the batch: {', '.join(clips.names)}",
                    *([f"  samples that are not finite: {', '.join(clips.broken)}"] if clips.broken else []),
                ]
            )
        )
        if not goes_on:
            raise InputError(self._sentence(what))

    def _sentence(self, what: str) -> str:
        many = f", as in the {MOST_IN_A_ROW - 1} steps before" if self._skip else ""
        another = "" if self._skip else ", leave such steps out with --on-nan skip"
        return (
            f"training has diverged: {what}{many} ({self._log.path} tells the clips and norms); try a smaller"
            f" --learning-rate{another}, go on from an earlier checkpoint (--resume-iteration) or anew (--fresh)"
        )


@jax.jit
def _norms(params: Weights) -> dict[str, Float[Array, ""]]:
    return norms_by_part(params)


def _fetched(norms: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(norm) for name, norm in jax.device_get(norms).items()}


def _listed(norms: Mapping[str, float]) -> str:
    """The norms, those that are not finite first, then from the largest on."""
    ranked = sorted(norms.items(), key=lambda item: (math.isfinite(item[1]), -item[1]))
    return ", ".join(f"{name} {norm:.4g}" for name, norm in ranked)
