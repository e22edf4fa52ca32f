"""Sets of vectors as Gaussians, and the Fréchet distance of these."""

import numpy as np
from jaxtyping import Float, Float64

from panns_jax.errors import InputError

# Rows that are taken in at a time.
_ROWS = 4096


class Gaussian:
    """Mean and covariance of vectors that come in parts, in memory that does not grow with their number.

    The covariance is held as a root of the scatter: `root.T @ root` is the sum of the outer products of the vectors'
    differences from their mean. Nothing is squared that way, so that small variances keep all their digits.

    Attributes:
      count: number of vectors.
      mean: of them.
      root: of their scatter; at most as many rows as there are dimensions.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean: Float64[np.ndarray, " dimensions"] = np.zeros(dimensions)
        self.root: Float64[np.ndarray, "rows dimensions"] = np.zeros((0, dimensions))

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "vectors dimensions"]) -> "Gaussian":
        """That of all the vectors."""
        gaussian = cls(vectors.shape[1])
        gaussian.add(vectors)
        return gaussian

    def add(self, vectors: Float[np.ndarray, "vectors dimensions"]) -> None:
        """Takes in more vectors."""
        for at in range(0, len(vectors), _ROWS):
            self._add(vectors[at : at + _ROWS].astype(np.float64))

    def _add(self, vectors: Float64[np.ndarray, "vectors dimensions"]) -> None:
        mean, count = vectors.mean(axis=0), len(vectors)
        # The two means differ from the common one: what that adds to the scatter is one row more.
        between = np.sqrt(self.count * count / (self.count + count)) * (mean - self.mean)
        stacked = np.concatenate([self.root, vectors - mean, between[None]])
        self.root = np.asarray(np.linalg.qr(stacked, mode="r")) if len(stacked) > stacked.shape[1] else stacked
        self.mean = self.mean + (mean - self.mean) * (count / (self.count + count))
        self.count += count

    def deviation(self) -> Float64[np.ndarray, "rows dimensions"]:
        """A root of the covariance: `deviation().T @ deviation()`, without bias (by the count less one).

        Raises:
          InputError: there are fewer than two vectors.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs two clips at least, and there is {self.count or 'none'}")
        return self.root / np.sqrt(self.count - 1)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Fréchet distance |m - n|² + tr(S + T - 2 (S T)^½) of two Gaussians.

    With S = A'A and T = B'B, the trace of (S T)^½ is the sum of the singular values of A B': no matrix has a root taken
    that may be singular, as where there are fewer clips than dimensions.

    Raises:
      InputError: one has fewer than two vectors.
    """
    a, b = one.deviation(), other.deviation()
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = ((one.mean - other.mean) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * shared
    return max(0.0, float(distance))


def extrapolated_distance(
    one: Gaussian, vectors: Float[np.ndarray, "vectors dimensions"], *, least: int = 500, steps: int = 25, seed: int = 0
) -> float:
    """The Fréchet distance that infinitely many vectors would have (FAD∞), by a line through those of fewer.

    The distance of n vectors is too large, by about c/n. It is taken for several n, and the line through these over 1/n
    is followed to 0; where the true distance is small, that may be below 0. The n vectors are drawn without
    replacement. fadtk draws with it, which leads to the distance from the vectors that there are, bias and all.

    Args:
      one: the reference.
      vectors: what is judged.
      least: the smallest n.
      steps: how many n, evenly from `least` to the number of vectors.
      seed: of the draw.

    Raises:
      InputError: there are no more than `least` vectors.
    """
    if len(vectors) <= least:
        raise InputError(f"the distance is extrapolated from more than {least} clips, and there are {len(vectors)}")
    rng = np.random.default_rng(seed)
    counts = np.linspace(least, len(vectors), steps).astype(int)
    distances = [frechet_distance(one, Gaussian.of(vectors[rng.permutation(len(vectors))[:n]])) for n in counts]
    return float(np.polyfit(1 / counts, distances, 1)[1])
