"""The weights that a prepared model's kernels read."""

from collections import OrderedDict
from collections.abc import Mapping

import jax
from jaxtyping import Array, Float

from panns_jax.infer.folding import Affine, Path
from panns_jax.kernels.choice import Choice


class TransformedWeights:
    """Weights as kernels want them, made when they are first asked for, and kept while there is room.

    Where there is none, those give way that were not asked for longest; what a call that is under way reads stays in
    memory until it has ended.

    Args:
      kernels: of the model's convolutions.
      affines: scale and shift that follow each convolution.
      limit: bytes that may be kept.
    """

    def __init__(
        self,
        kernels: Mapping[Path, Float[Array, "*window in_channels out_channels"]],
        affines: Mapping[Path, Affine],
        limit: int,
    ) -> None:
        self.limit = limit
        self._kernels = dict(kernels)
        self._affines = dict(affines)
        self._kept: OrderedDict[tuple[Path, str], tuple[Array, ...]] = OrderedDict()
        self._last: tuple[Mapping[Path, Choice], list[tuple[tuple[Array, ...], Affine]]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return sum(sum(sizes.values()) for sizes in self.held().values())

    def held(self) -> dict[Path, dict[str, int]]:
        """Bytes of what is kept now for each convolution, by name of the kernel."""
        sizes: dict[Path, dict[str, int]] = {}
        for (path, name), arrays in list(self._kept.items()):
            sizes.setdefault(path, {})[name] = _bytes(arrays)
        return sizes

    def holds(self, plan: Mapping[Path, Choice]) -> bool:
        """Whether all that the plan's kernels read is there."""
        return all((path, choice.kernel.name) in self._kept for path, choice in plan.items() if choice.nbytes)

    def of(self, plan: Mapping[Path, Choice]) -> list[tuple[tuple[Array, ...], Affine]]:
        """What each of the plan's kernels reads, and what is to be applied afterwards; one thread at a time."""
        if self._last is not None and self._last[0] is plan:
            return self._last[1]
        self._last = None  # what it holds may have to give way
        self._make_room(plan)
        weights = [self._one(path, choice) for path, choice in plan.items()]
        self._last = plan, weights
        return weights

    def _make_room(self, plan: Mapping[Path, Choice]) -> None:
        sizes = {(path, choice.kernel.name): choice.nbytes for path, choice in plan.items() if choice.nbytes > 0}
        for key in sizes.keys() & self._kept.keys():
            self._kept.move_to_end(key)
        missing = sum(size for key, size in sizes.items() if key not in self._kept)
        while self._kept and self.nbytes + missing > self.limit:
            self._kept.popitem(last=False)

    def _one(self, path: Path, choice: Choice) -> tuple[tuple[Array, ...], Affine]:
        affine = self._affines[path]
        if choice.nbytes == 0:
            return (self._kernels[path],), affine
        key = (path, choice.kernel.name)
        if key not in self._kept:
            # Now, also where the caller's own function is being compiled: what is kept must outlive that.
            with jax.ensure_compile_time_eval():
                scaled = self._kernels[path] if affine.scale is None else self._kernels[path] * affine.scale
                # One after the other: together they would take several times the memory.
                self._kept[key] = jax.block_until_ready(choice.transform(scaled))
        return self._kept[key], Affine(None, affine.shift)


def _bytes(arrays: tuple[Array, ...]) -> int:
    return sum(array.nbytes for array in jax.tree.leaves(arrays))
