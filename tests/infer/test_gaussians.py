"""Fréchet distances, beside closed forms and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax import InputError
from panns_jax.infer.gaussians import Gaussian, extrapolated_distance, frechet_distance


def vectors(count: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(dimensions, dimensions))
    return rng.normal(size=(count, dimensions)) @ mixed + rng.normal(size=dimensions)


def with_moments(mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    """A Gaussian of exactly these moments."""
    root = np.linalg.cholesky(covariance).T * np.sqrt(len(mean))
    return Gaussian.of(np.concatenate([mean + root, mean - root]) * 1.0)


@given(st.integers(2, 300), st.integers(1, 40), st.integers(0, 99), st.lists(st.integers(1, 299), max_size=3))
def test_mean_and_covariance_are_numpys_in_whatever_parts_the_vectors_come(count, dimensions, seed, cuts):
    all_of_them = vectors(count, dimensions, seed)
    gaussian = Gaussian(dimensions)
    for part in np.split(all_of_them, sorted(cut for cut in cuts if cut < count)):
        gaussian.add(part)
    assert gaussian.count == count
    np.testing.assert_allclose(gaussian.mean, all_of_them.mean(axis=0), atol=1e-12)
    deviation = gaussian.deviation()
    covariance = np.cov(all_of_them, rowvar=False).reshape(dimensions, dimensions)
    np.testing.assert_allclose(deviation.T @ deviation, covariance, rtol=1e-9, atol=1e-9)


def test_memory_grows_with_the_dimensions_and_not_with_the_vectors():
    gaussian = Gaussian(5)
    for seed in range(50):
        gaussian.add(vectors(100, 5, seed))
    assert gaussian.root.shape == (5, 5)


def test_gaussians_whose_axes_agree_have_the_distance_of_the_closed_form():
    mean, other_mean = np.array([0.0, 1.0, -2.0]), np.array([3.0, 1.0, 2.0])
    deviations, other_deviations = np.array([1.0, 2.0, 0.5]), np.array([4.0, 0.25, 0.5])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    one = with_moments(mean, rotation @ np.diag(deviations**2) @ rotation.T)
    other = with_moments(other_mean, rotation @ np.diag(other_deviations**2) @ rotation.T)
    scale = 6 / 5  # two rows per axis have that much more variance without bias
    expected = 9 + 16 + scale * ((deviations - other_deviations) ** 2).sum()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("count", "others"), [(400, 300), (30, 50), (5, 400)])
def test_the_distance_is_that_of_scipys_matrix_root(count: int, others: int):
    linalg = pytest.importorskip("scipy.linalg", reason="SciPy is not installed")
    one, other = vectors(count, 20, 1), vectors(others, 20, 2)
    covariances = [np.cov(v, rowvar=False) for v in (one, other)]
    # Where a covariance is singular, SciPy's root of the product is wrong from the fifth digit on.
    values, axes = linalg.eigh(covariances[0])
    half = (axes * np.sqrt(np.clip(values, 0, None))) @ axes.T
    shared = np.sqrt(np.clip(linalg.eigvalsh(half @ covariances[1] @ half), 0, None)).sum()
    difference = one.mean(axis=0) - other.mean(axis=0)
    expected = difference @ difference + sum(map(np.trace, covariances)) - 2 * shared
    distance = frechet_distance(Gaussian.of(one), Gaussian.of(other))
    assert distance == pytest.approx(expected, rel=1e-5)
    if count > 20 and others > 20:
        direct = np.trace(linalg.sqrtm(covariances[0] @ covariances[1])).real
        assert distance == pytest.approx(expected + 2 * shared - 2 * direct, rel=1e-6)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 30), st.integers(0, 99))
def test_a_set_is_at_no_distance_from_itself_and_as_far_there_as_back(count, others, dimensions, seed):
    one, other = Gaussian.of(vectors(count, dimensions, seed)), Gaussian.of(vectors(others, dimensions, seed + 1))
    size = (one.deviation() ** 2).sum() + (other.deviation() ** 2).sum()
    assert frechet_distance(one, one) <= 1e-12 * size
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9, abs=1e-12 * size)
    assert frechet_distance(one, other) >= 0


def test_a_shift_adds_its_square_and_a_rotation_nothing():
    one, other = vectors(50, 8, 1), vectors(70, 8, 2)
    before = frechet_distance(Gaussian.of(one), Gaussian.of(other))
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    assert frechet_distance(Gaussian.of(one @ rotation), Gaussian.of(other @ rotation)) == pytest.approx(before)
    assert frechet_distance(Gaussian.of(one), Gaussian.of(one + 3)) == pytest.approx(72)


def test_vectors_that_agree_but_for_their_mean_keep_their_digits():
    """As where all clips sound alike: variances of 1e-12 beside a mean of 1000."""
    rng = np.random.default_rng(0)
    one = 1000 + 1e-6 * rng.normal(size=(100, 3))
    gaussian = Gaussian.of(one)
    np.testing.assert_allclose((gaussian.deviation() ** 2).sum(), one.var(axis=0, ddof=1).sum(), rtol=1e-6)


def test_one_clip_has_no_covariance():
    with pytest.raises(InputError, match="a covariance needs two clips at least, and there is 1"):
        Gaussian.of(np.ones((1, 3))).deviation()


def test_the_extrapolated_distance_is_nearer_to_the_true_one():
    """Two draws from one Gaussian: the true distance is 0."""
    rng = np.random.default_rng(0)
    one, other = Gaussian.of(rng.normal(size=(50_000, 20))), rng.normal(size=(1500, 20))
    plain = frechet_distance(one, Gaussian.of(other))
    extrapolated = extrapolated_distance(one, other)
    assert abs(extrapolated) < 0.3 * plain
    assert extrapolated == extrapolated_distance(one, other)
    with pytest.raises(InputError, match="from more than 500 clips, and there are 500"):
        extrapolated_distance(one, other[:500])
