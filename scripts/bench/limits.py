"""Figures that are held to a limit instead of to another engine's."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Limited:
    """A figure and what it is to be.

    Attributes:
      what: was measured.
      value: of it.
      unit: of the value.
      side: on which side of the limit it is to be.
      limit: None for none.
    """

    what: str
    value: float
    unit: str
    side: Literal["at most", "at least"] = "at most"
    limit: float | None = None

    @property
    def reached(self) -> bool:
        if self.limit is None:
            return True
        return self.value <= self.limit if self.side == "at most" else self.value >= self.limit

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return f"{self.side} {_number(self.limit)} {'reached' if self.reached else 'missed'}"

    def to_json(self) -> dict[str, Any]:
        return {"engine": "panns_jax", **dataclasses.asdict(self), "reached": self.reached}


def lines(figures: Sequence[Limited]) -> str:
    """A table of them."""
    told = [(figure.what, f"{_number(figure.value)} {figure.unit}", figure.verdict) for figure in figures]
    return "\n".join(f"  {what:<58} {value:>18}  {verdict}".rstrip() for what, value, verdict in told)


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
