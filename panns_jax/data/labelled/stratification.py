"""Items to sides so that every side has its share of every class: iterative stratification.

After Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (2011): the rarest class goes first,
and each item to the side that lacks most of it. Where each item has one class, that is plain stratification.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from panns_jax.data.sampling import shuffled_order


@dataclasses.dataclass(frozen=True)
class Items:
    """What is given to sides as a whole.

    Attributes:
      sizes: number of clips of each.
      classes: how many clips of each class it has.
    """

    sizes: Int[np.ndarray, " items"]
    classes: Int[np.ndarray, "items classes"]


def stratified(
    items: Items, shares: Sequence[float], *, seed: int, learnt_from: int | None
) -> Int[np.ndarray, " items"]:
    """Gives each item to a side.

    Args:
      items: what is given.
      shares: how much of all each side gets; above 0, together 1.
      seed: of the order in which items are given.
      learnt_from: the side in which no class may be missing that there is; None where all sides are learnt from but
        one at a time, as folds are: then no class may be in one side alone if that can be helped.

    Returns:
      Number of the side of each.
    """
    sides = np.full(len(items.sizes), -1, np.int64)
    order = shuffled_order(len(items.sizes), seed=seed)
    lacking = _Lacking(items, np.asarray(shares, np.float64))
    carried = items.classes > 0
    left = carried.sum(axis=0)
    for number in _rarest_first(carried, sides):
        for item in order.tolist():
            if sides[item] < 0 and (number is None or carried[item, number]):
                last = np.flatnonzero(carried[item] & (left == 1))
                allowed = _allowed(last, carried, sides, len(shares), learnt_from)
                sides[item] = lacking.choose(item, number, allowed)
                left -= carried[item]
    if learnt_from is not None:
        _fill_empty(sides, order, carried, learnt_from, len(shares))
    return sides


class _Lacking:
    """What each side lacks yet: of each class, and altogether."""

    def __init__(self, items: Items, shares: Float[np.ndarray, " sides"]) -> None:
        self._items = items
        self._of_class = shares[:, None] * items.classes.sum(axis=0)
        self._of_all = shares * items.sizes.sum()
        self._left = items.classes.sum(axis=0)

    def choose(self, item: int, number: int | None, allowed: Sequence[int]) -> int:
        """The side that lacks most of the class, or altogether where there is none; it has the item from here on."""
        if number is None:
            want = self._of_all
        else:
            want = self._of_class[:, number]
            if want[list(allowed)].max() < 1:
                # Parts of a clip: with what is left over of classes that are given, or else sides with small shares
                # would get nothing of classes with few clips.
                want = want + self._of_class[:, self._left == 0].sum(axis=1)
        side = max(allowed, key=lambda side: (round(float(want[side]), 9), -side))
        self._of_class[side] -= self._items.classes[item]
        self._of_all[side] -= self._items.sizes[item]
        self._left -= self._items.classes[item]
        return side


def _rarest_first(
    carried: Shaped[np.ndarray, "items classes"], sides: Int[np.ndarray, " items"]
) -> Iterator[int | None]:
    """The class with fewest items that have no side yet, again and again; at last None, for items without classes."""
    while True:
        left = carried[sides < 0].sum(axis=0)
        there = np.flatnonzero(left)
        if not len(there):
            yield None
            return
        yield int(there[np.argmin(left[there])])


def _allowed(
    last: Int[np.ndarray, " _"],
    carried: Shaped[np.ndarray, "items classes"],
    sides: Int[np.ndarray, " items"],
    count: int,
    learnt_from: int | None,
) -> Sequence[int]:
    """The sides that an item may go to, so that what is learnt from lacks no class of which it is the last item."""
    forbidden = set()
    for number in last:
        given = sides[carried[:, number]]
        used = set(given[given >= 0].tolist())
        if learnt_from is not None and learnt_from not in used:
            return (learnt_from,)
        if learnt_from is None and len(used) == 1:
            forbidden |= used
    return [side for side in range(count) if side not in forbidden] or range(count)


def _fill_empty(
    sides: Int[np.ndarray, " items"],
    order: Int[np.ndarray, " items"],
    carried: Shaped[np.ndarray, "items classes"],
    learnt_from: int,
    count: int,
) -> None:
    """Gives each side that got nothing one item of those that are learnt from, if no class vanishes by that."""
    if not (sides == learnt_from).any():
        sides[order[:1]] = learnt_from
    for side in range(count):
        if (sides == side).any():
            continue
        for item in order.tolist():
            rest = sides == learnt_from
            rest[item] = False
            if sides[item] == learnt_from and rest.any() and np.asarray(carried[rest].any(axis=0))[carried[item]].all():
                sides[item] = side
                break
