"""Names beside the marks that they belong to, so that none lies on another, on a mark or outside of its axes."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEAR = 5.0
"""Points from a mark to its name, at least; its radius and some air."""
_MARK = 3.0
"""Radius of a mark that names keep away from, points."""
_WITH_A_LINE = 11.0
"""Points from which on a line joins mark and name."""
_MISTAKEN = 24.0
"""Points that a name is moved away rather than stand beside the mark of another one."""
_AIR = 0.8
"""Points between names."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    below: float
    right: float
    above: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two have an area in common."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.above <= other.below or other.above <= self.below)

    def within(self, other: "Box") -> bool:
        """Whether all of it is in the other."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.below <= self.below and self.above <= other.above

    def distance(self, place: Sequence[float]) -> float:
        """From a point to the nearest edge; 0 inside."""
        x, y = self.nearest(place)
        return math.hypot(place[0] - x, place[1] - y)

    def nearest(self, place: Sequence[float]) -> tuple[float, float]:
        """The point of it that is nearest to another one."""
        return min(max(place[0], self.left), self.right), min(max(place[1], self.below), self.above)

    def crossed(self, line: Sequence[tuple[float, float]]) -> int:
        """How many of the points along a line lie in it."""
        return sum(self.left <= x <= self.right and self.below <= y <= self.above for x, y in line)


def name_marks(
    axes: "Axes",
    marks: Sequence[tuple[float, float, str]],
    *,
    others: Sequence[tuple[float, float]] = (),
    lines: Sequence[Sequence[tuple[float, float]]] = (),
    **style: Any,
) -> None:
    """Writes names beside marks, as near as there is room, off the lines where that can be.

    The figure has to have its layout: names are placed by where things are in pixels, within the axes.

    Args:
      axes: the axes, whose limits do not change any more.
      marks: where they are, in data, and their names.
      others: marks without names.
      lines: what names should not cross, by their corners.
      style: of the text.
    """
    pixel = axes.figure.dpi / 72  # pixels per point

    def to_pixels(places: Sequence[tuple[float, float]]) -> list[list[float]]:
        return axes.transData.transform(places).tolist()

    places = to_pixels([*(mark[:2] for mark in marks), *others])
    taken = [Box(x - _MARK * pixel, y - _MARK * pixel, x + _MARK * pixel, y + _MARK * pixel) for x, y in places]
    paths = [_points_along(to_pixels(line)) for line in lines]
    inside = Box(*(float(edge) for edge in axes.get_window_extent().padded(-pixel).extents))
    for (x, y, name), place in zip(marks, places, strict=False):
        text = axes.annotate(
            name, (x, y), xytext=(0, 0), textcoords="offset points", parse_math=False, va="bottom", **style
        )
        extent = text.get_window_extent()
        size = (float(extent.width), float(extent.height))
        best, best_cost = None, math.inf
        for offset, distance in _offsets(size, pixel):
            box = _box(place, offset, size)
            if not box.within(inside) or any(_widened(box, _AIR * pixel).overlaps(other) for other in taken):
                continue
            reach = (distance + _NEAR) * pixel
            mistaken = sum(box.distance(other) < reach for other in places if other != place)
            cost = distance + 3 * sum(box.crossed(path) for path in paths) + _MISTAKEN * mistaken
            if cost < best_cost:
                best, best_cost = (offset, distance, box), cost
            if best_cost <= distance:
                break
        if best is None:  # more names than the axes can hold
            text.remove()
            continue
        (dx, dy), distance, box = best
        taken.append(box)
        text.xyann = (dx / pixel, dy / pixel)
        if distance > _WITH_A_LINE:
            ends = axes.transData.inverted().transform([place, box.nearest(place)])
            axes.plot(ends[:, 0], ends[:, 1], color="0.5", linewidth=0.4, zorder=1)


def _offsets(size: tuple[float, float], pixel: float) -> Iterator[tuple[tuple[float, float], float]]:
    """Offsets from a mark to the lower left corner of its name, in pixels, with the distance in points, ascending."""
    width, height = size
    for step in range(30):
        distance = _NEAR + 3 * step
        for turn in range(16):
            angle = math.tau * turn / 16
            x, y = distance * pixel * math.cos(angle), distance * pixel * math.sin(angle)
            # The name is pushed out on the side that it lies on: its nearest edge is at the distance.
            yield (x - width * (1 - math.cos(angle)) / 2, y - height * (1 - math.sin(angle)) / 2), distance


def _box(place: Sequence[float], offset: tuple[float, float], size: tuple[float, float]) -> Box:
    left, below = place[0] + offset[0], place[1] + offset[1]
    return Box(left, below, left + size[0], below + size[1])


def _widened(box: Box, by: float) -> Box:
    return Box(box.left - by, box.below - by, box.right + by, box.above + by)


def _points_along(corners: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Points on a line, some pixels apart."""
    points: list[tuple[float, float]] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        number = max(2, int(math.hypot(x1 - x0, y1 - y0) / 4))
        points += [(x0 + (x1 - x0) * i / number, y0 + (y1 - y0) * i / number) for i in range(number + 1)]
    return points
