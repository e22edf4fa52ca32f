"""Items to sides so that every side has its share of every class: iterative stratification.

After Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (2011): the rarest class goes first,
and each item to a side that lacks some of it. Of several such sides, the one that is furthest behind in the item's
other classes gets it. Where each item has one class, that is plain stratification.
"""

import dataclasses
from collections.abc import Sequence

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
    while True:
        # The rarest class of those that are left; at last None, for items without classes.
        number = int(np.argmin(np.where(left, left, len(carried) + 1))) if left.any() else None
        of_class = order if number is None else order[carried[order, number]]
        there = of_class[sides[of_class] < 0]
        weights = items.sizes[there] if number is None else items.classes[there, number]
        # The largest first, so that small ones fill up what is left.
        for item in there[np.argsort(-weights, kind="stable")].tolist():
            last = np.flatnonzero(carried[item] & (left == 1))
            allowed = _allowed(last, carried, sides, len(shares), learnt_from)
            sides[item] = lacking.choose(item, number, allowed)
            left -= carried[item]
        if number is None:
            break
    if learnt_from is not None:
        _fill_empty(sides, order, carried, learnt_from, len(shares))
    return sides


class _Lacking:
    """What each side lacks yet of each class, and how far it is behind its share of what was given."""

    def __init__(self, items: Items, shares: Float[np.ndarray, " sides"]) -> None:
        self._items = items
        self._shares = shares
        self._of_class = shares[:, None] * items.classes.sum(axis=0)
        self._behind = np.zeros(len(shares))
        self._behind_in_class = np.zeros((len(shares), items.classes.shape[1]))

    def choose(self, item: int, number: int | None, allowed: Sequence[int]) -> int:
        """The side that has the item from here on.

        One of those that lack all of it of the class, or else all but a part of a clip: where items are single clips of
        one class, each side thus ends within one clip of its share of every class. Among these the one that is furthest
        behind in the other classes of the item, and then altogether.

        Args:
          item: number of the item.
          number: the class that is given; None for an item without classes.
          allowed: sides that may have it.
        """
        chosen = np.array(allowed)
        carried = np.flatnonzero(self._items.classes[item])
        others = carried[carried != number]
        keys = [self._behind[chosen], self._behind_in_class[chosen][:, others].sum(axis=1)]
        if number is not None:
            want = self._of_class[chosen, number].round(9)
            # 1: there is room for all of it; 0: but for a part of a clip; or else how much there is no room for.
            room = want - self._items.classes[item, number]
            keys.append(np.where(room >= 0, 1.0, np.minimum(room + 1, 0.0)))
        # The last key counts first, and the first side is chosen among equals.
        side = int(chosen[np.lexsort((chosen, *(-key.round(9) for key in keys)))[0]])
        self._give(item, side, carried)
        return side

    def _give(self, item: int, side: int, carried: Int[np.ndarray, " carried"]) -> None:
        size, counts = self._items.sizes[item], self._items.classes[item, carried]
        self._behind += self._shares * size
        self._behind[side] -= size
        self._behind_in_class[:, carried] += self._shares[:, None] * counts
        self._behind_in_class[side, carried] -= counts
        self._of_class[side, carried] -= counts


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
