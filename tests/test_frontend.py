"""The front end against the published figures, against independent formulas, and at its edges."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.frontend import (
    FrontendConfig,
    Stripes,
    hann_window,
    log_mel,
    mel_matrix,
    mixup,
    power_spectrogram,
    spec_augment,
)

PRESETS = ("Cnn14", "Cnn14_16k", "Cnn14_8k", "Cnn14_mel32", "Cnn14_mel128")
MEL_32K = FrontendConfig()
SMALL = FrontendConfig(sample_rate=8000, window_size=256, hop_size=80, mel_bins=64, fmin=50, fmax=4000)


def preset(name: str) -> FrontendConfig:
    return FrontendConfig(**recipe.manifest()[name]["frontend"])


def golden_waveform(config: FrontendConfig) -> np.ndarray:
    waveform = recipe.waveform(2, config.sample_rate, config.sample_rate, 1)
    waveform[1, : config.sample_rate // 2] = 0
    return waveform


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return recipe.golden("frontend.npz")


@pytest.mark.parametrize("name", PRESETS)
def test_log_mel_is_the_published_one(name: str, golden: dict[str, np.ndarray]):
    config = preset(name)
    ours, published = np.asarray(log_mel(golden_waveform(config), config)), golden[f"{name}_logmel"]
    assert ours.shape == published.shape
    assert ours.dtype == np.float32
    audible = published > tolerances.LOGMEL_FLOOR_DB
    assert audible.mean() > 0.5
    assert np.abs(ours - published)[audible].max() < tolerances.LOGMEL_DB
    assert ours[~audible].max() < tolerances.LOGMEL_FLOOR_DB + tolerances.LOGMEL_DB


@pytest.mark.parametrize("name", PRESETS)
def test_power_spectrum_is_the_published_one(name: str, golden: dict[str, np.ndarray]):
    config = preset(name)
    ours = np.asarray(power_spectrogram(golden_waveform(config), config))[:, 40]
    published = golden[f"{name}_power_frame_40"]
    assert np.abs(ours - published).max() < 1e-5 * published.max()


@pytest.mark.parametrize("name", PRESETS)
def test_digital_silence_is_exactly_minus_100_db(name: str):
    config = preset(name)
    silence = np.zeros((2, config.sample_rate), np.float32)
    assert (np.asarray(log_mel(silence, config)) == -100).all()
    assert (np.asarray(log_mel(-silence, config)) == -100).all()


def test_silence_within_a_clip_is_exactly_minus_100_db(golden: dict[str, np.ndarray]):
    ours = np.asarray(log_mel(golden_waveform(MEL_32K), MEL_32K))
    silent = golden["Cnn14_logmel"] == -100
    assert silent.any()
    assert (ours[silent] == -100).all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("period", [2, 50, 4000])
def test_a_full_scale_square_wave_stays_finite(name: str, period: int):
    config = preset(name)
    square = np.where(np.arange(config.sample_rate) % period < period // 2, 1, -1).astype(np.float32)[None]
    ours = np.asarray(log_mel(square, config))
    assert np.isfinite(ours).all()
    assert ours.min() >= -100
    assert ours.max() < 60


def test_a_full_scale_tone_has_the_power_of_its_window():
    tone = np.sin(2 * np.pi * 1000 * np.arange(32000) / 32000).astype(np.float32)[None]
    power = np.asarray(power_spectrogram(tone, MEL_32K))[0, 50]
    # A Hann window of n samples sums to n / 2, and half of a real tone lies at the positive frequency.
    assert power.argmax() == 32
    assert power[32] == pytest.approx((1024 / 4) ** 2, rel=1e-3)


@pytest.mark.parametrize("quiet", [0.0, 1e-30, 1e-7])
def test_gradients_are_finite_on_silence_and_near_it(quiet: float):
    waveform = quiet * recipe.waveform(1, 4000, 8000, 1)
    gradient = jax.grad(lambda x: log_mel(x, SMALL).sum())(jnp.asarray(waveform))
    assert np.isfinite(np.asarray(gradient)).all()


def test_gradients_are_those_of_finite_differences():
    waveform = jnp.asarray(recipe.waveform(1, 2000, 8000, 1))
    direction = jnp.asarray(recipe.waveform(1, 2000, 8000, 2))
    _, ours = jax.jvp(lambda x: log_mel(x, SMALL).mean(), (waveform,), (direction,))
    step = 1e-3
    ahead, behind = (log_mel(waveform + sign * step * direction, SMALL).mean() for sign in (1, -1))
    assert float(ours) == pytest.approx(float(ahead - behind) / (2 * step), rel=0.05)
    gradient = jax.grad(lambda x: log_mel(x, SMALL).mean())(waveform)
    assert float((gradient * direction).sum()) == pytest.approx(float(ours), rel=1e-3)


@st.composite
def small_configs(draw: st.DrawFn) -> FrontendConfig:
    sample_rate = draw(st.integers(4000, 48000))
    window_size = 2 * draw(st.integers(8, 128))
    fmax = draw(st.floats(0.2, 0.5)) * sample_rate
    return FrontendConfig(
        sample_rate=sample_rate,
        window_size=window_size,
        hop_size=draw(st.integers(1, window_size)),
        mel_bins=draw(st.integers(1, 40)),
        fmin=draw(st.floats(0, 0.15)) * sample_rate,
        fmax=fmax,
    )


def spectrogram_in_float64(waveform: np.ndarray, config: FrontendConfig) -> np.ndarray:
    half = config.window_size // 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window_size) / config.window_size)
    padded = np.pad(waveform.astype(np.float64), ((0, 0), (half, half)), mode="reflect")
    starts = range(0, waveform.shape[1] + 1, config.hop_size)
    frames = np.stack([padded[:, start : start + config.window_size] for start in starts], axis=1)
    return np.abs(np.fft.rfft(frames * hann)) ** 2


@settings(max_examples=20, deadline=None, derandomize=True)
@given(config=small_configs(), more=st.integers(0, 700), seed=st.integers(0, 99))
def test_spectrogram_is_that_of_the_formula_for_any_settings_and_length(config: FrontendConfig, more: int, seed: int):
    waveform = np.random.default_rng(seed).uniform(-1, 1, (2, config.min_samples + more)).astype(np.float32)
    ours, expected = np.asarray(power_spectrogram(waveform, config)), spectrogram_in_float64(waveform, config)
    frames = waveform.shape[1] // config.hop_size + 1
    assert ours.shape == expected.shape == (2, frames, config.window_size // 2 + 1)
    assert config.frames(waveform.shape[1]) == frames
    np.testing.assert_allclose(ours, expected, atol=1e-5 * expected.max())


@settings(max_examples=10, deadline=None, derandomize=True)
@given(rows=st.integers(2, 5), seed=st.integers(0, 99))
def test_a_clip_does_not_depend_on_its_batch(rows: int, seed: int):
    batch = np.random.default_rng(seed).uniform(-1, 1, (rows, 2000)).astype(np.float32)
    together = np.asarray(log_mel(batch, SMALL))
    for i in range(rows):
        np.testing.assert_allclose(np.asarray(log_mel(batch[i : i + 1], SMALL))[0], together[i], atol=1e-4)


def test_a_frame_depends_on_its_window_alone():
    waveform = recipe.waveform(1, 8000, 8000, 1)
    changed = waveform.copy()
    changed[:, 5000:] = 0
    before = (5000 - SMALL.window_size // 2) // SMALL.hop_size
    one, other = np.asarray(log_mel(waveform, SMALL)), np.asarray(log_mel(changed, SMALL))
    np.testing.assert_allclose(one[:, :before], other[:, :before], atol=1e-3)
    assert np.abs(one[:, 65:] - other[:, 65:]).max() > 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sample_rate=st.integers(2000, 96000),
    half_window=st.integers(16, 2048),
    mel_bins=st.integers(1, 256),
    low=st.floats(0, 0.9),
    high=st.floats(0.05, 1),
)
def test_mel_matrix_is_librosas_for_any_settings(
    sample_rate: int, half_window: int, mel_bins: int, low: float, high: float
):
    librosa_filters = pytest.importorskip("librosa.filters")
    fmax = high * sample_rate / 2
    config = FrontendConfig(
        sample_rate=sample_rate, window_size=2 * half_window, mel_bins=mel_bins, fmin=low * fmax, fmax=fmax
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bands narrower than a bin are empty, which librosa remarks upon
        librosas = librosa_filters.mel(
            sr=sample_rate, n_fft=config.window_size, n_mels=mel_bins, fmin=config.fmin, fmax=config.fmax
        ).T
    np.testing.assert_allclose(mel_matrix(config), librosas, rtol=1e-4, atol=1e-6 * max(librosas.max(), 1e-9))


def test_hann_window_is_periodic():
    window = hann_window(1024)
    assert window[0] == 0
    assert window[512] == 1
    np.testing.assert_allclose(window[1:], window[:0:-1], atol=1e-7)
    np.testing.assert_allclose(window + np.roll(window, 512), 1, atol=1e-6)


def test_a_waveform_too_short_to_be_reflected_is_refused():
    assert log_mel(np.zeros((1, 513), np.float32), MEL_32K).shape == (1, 2, 64)
    with pytest.raises(ValueError, match="at least 513 samples, got 512"):
        log_mel(np.zeros((1, 512), np.float32), MEL_32K)


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("sample_rate", 0, "sample_rate"),
        ("window_size", 0, "window_size"),
        ("window_size", 511, "even"),
        ("hop_size", 0, "hop_size"),
        ("mel_bins", 0, "mel_bins"),
        ("fmin", -1.0, "fmin"),
        ("fmin", 14000.0, "fmin"),
        ("fmax", 16001.0, "fmax"),
        ("fmax", float("nan"), "fmax"),
    ],
)
def test_settings_out_of_their_range_are_refused_by_name(setting: str, value: float, named: str):
    with pytest.raises(InputError, match=named):
        dataclasses.replace(MEL_32K, **{setting: value})


def test_settings_are_hashable_data():
    assert hash(FrontendConfig()) == hash(MEL_32K)
    assert FrontendConfig(mel_bins=128) != MEL_32K


# SpecAugment


augmented_by = jax.jit(spec_augment, static_argnames="stripes")


def masked(clips: int, frames: int, mels: int, seed: int, **widths: int) -> np.ndarray:
    ones = jnp.ones((clips, frames, mels))
    return np.asarray(augmented_by(ones, jax.random.key(seed), Stripes(**widths))) == 0


def runs(flags: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(edges[1::2] - edges[::2])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), frames=st.sampled_from([7, 64, 101, 400]))
def test_spec_augment_masks_two_stripes_of_time_and_two_of_frequency(seed: int, frames: int):
    for clip in masked(8, frames, 64, seed):
        in_time, in_mel = clip.all(axis=1), clip.all(axis=0)
        np.testing.assert_array_equal(clip, in_time[:, None] | in_mel[None, :])
        assert len(runs(in_time)) <= 2
        assert len(runs(in_mel)) <= 2
        assert in_time.sum() <= 2 * min(63, frames - 1)
        assert in_mel.sum() <= 2 * 7
        # Two stripes that touch make a run of at most both widths.
        assert max(runs(in_time), default=0) <= 126


def test_the_width_of_a_stripe_is_uniform_below_its_bound():
    stripes = masked(6400, 200, 8, 0, time_stripes=1, mel_stripes=0)[:, :, 0]
    widths = stripes.sum(axis=1)
    counts = np.bincount(widths, minlength=64)
    assert len(counts) == 64
    # Chi-square with 63 degrees of freedom exceeds 120 once in 20,000 draws.
    assert ((counts - 100) ** 2 / 100).sum() < 120


def test_the_start_of_a_stripe_is_uniform_over_what_fits():
    stripes = masked(6400, 200, 8, 1, time_stripes=1, mel_stripes=0)[:, :, 0]
    stripes = stripes[stripes.any(axis=1)]
    widths, starts = stripes.sum(axis=1), stripes.argmax(axis=1)
    room = 200 - widths
    assert (starts < room).all()
    place = (starts + 0.5) / room
    counts, _ = np.histogram(place, bins=20, range=(0, 1))
    expected = len(place) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 60  # 19 degrees of freedom
    assert abs(np.corrcoef(widths, place)[0, 1]) < 0.05


def test_every_clip_draws_its_own_stripes_from_the_key():
    once, again, other = masked(8, 101, 64, 3), masked(8, 101, 64, 3), masked(8, 101, 64, 4)
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    assert len({clip.tobytes() for clip in once}) == 8


def test_spec_augment_leaves_what_it_does_not_mask():
    features = jax.random.normal(jax.random.key(0), (4, 101, 64)) + 10
    augmented = np.asarray(augmented_by(features, jax.random.key(1), Stripes()))
    kept = augmented != 0
    assert 0.3 < kept.mean() < 1
    np.testing.assert_array_equal(augmented[kept], np.asarray(features)[kept])


# mixup

pairs_of_rows = st.integers(1, 4).flatmap(
    lambda pairs: st.tuples(
        st.lists(st.floats(0, 1, width=32), min_size=pairs, max_size=pairs), st.integers(0, 99), st.integers(1, 3)
    )
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pairs_of_rows)
def test_mixup_blends_neighbours_by_the_weight_of_the_first(drawn: tuple[list[float], int, int]):
    weights, seed, rank = drawn
    x = np.random.default_rng(seed).standard_normal((2 * len(weights), *(3, 2)[: rank - 1])).astype(np.float32)
    blended = np.asarray(mixup(jnp.asarray(x), jnp.asarray(weights, jnp.float32)))
    assert blended.shape == (len(weights), *x.shape[1:])
    for k, weight in enumerate(weights):
        np.testing.assert_allclose(blended[k], weight * x[2 * k] + (1 - weight) * x[2 * k + 1], atol=1e-6)
        low, high = np.minimum(x[2 * k], x[2 * k + 1]), np.maximum(x[2 * k], x[2 * k + 1])
        assert ((low - 1e-5 <= blended[k]) & (blended[k] <= high + 1e-5)).all()


def test_mixup_of_equal_rows_is_the_row_and_weights_of_1_and_0_choose():
    x = jnp.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(mixup(jnp.repeat(x, 2, axis=0), jnp.full(4, 0.3)), x)
    np.testing.assert_array_equal(mixup(x, jnp.ones(2)), x[0::2])
    np.testing.assert_array_equal(mixup(x, jnp.zeros(2)), x[1::2])


@pytest.mark.parametrize("rows", [1, 3, 5, 8])
def test_mixup_refuses_rows_that_are_no_pairs(rows: int):
    with pytest.raises(ValueError, match=f"needs 4 rows, got {rows}"):
        mixup(jnp.zeros((rows, 3)), jnp.ones(2))
