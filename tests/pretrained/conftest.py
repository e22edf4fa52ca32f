"""Weights for the tests of conversion and loading, and a small checkpoint that is released."""

from collections.abc import Iterator
from pathlib import Path

import http_server
import numpy as np
import pytest
from http_server import Content
from pth_writer import state_dict, stream_bytes, write_checkpoint
from released_file import FILE

from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import model_config
from panns_jax.pretrained import catalogue, download
from panns_jax.pretrained.catalogue import Released
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.rules import entries, unused_names


def published_weights(config: ModelConfig, seed: int = 1) -> dict[str, np.ndarray]:
    """Random weights and statistics of a model as a released checkpoint holds them, front-end constants included."""
    rng = np.random.default_rng(seed)
    weights = dict(frontend_constants(config))
    for entry in entries(config):
        positive = entry.published.endswith("running_var")
        values = rng.uniform(0.5, 1.5, entry.shape) if positive else 0.05 * rng.standard_normal(entry.shape)
        weights[entry.published] = values.astype(np.float32)
    return {**weights, **{name: np.array(1000) for name in unused_names(config)}}


@pytest.fixture
def make_weights():
    """`published_weights`."""
    return published_weights


@pytest.fixture
def small_weights():
    """Weights of the smallest model, under the published names."""
    return published_weights(model_config("DemoCnn"))


@pytest.fixture
def small_pth(tmp_path, small_weights):
    """A `.pth` file with `small_weights`."""
    return write_checkpoint(tmp_path / "small.pth", small_weights)


@pytest.fixture(scope="module")
def raw() -> bytes:
    """A small checkpoint."""
    from weights import arbitrary

    from panns_jax.pretrained.rules import entries

    config = model_config("DemoCnn")
    arrays = arbitrary(config)
    published = {entry.published: entry.rule.to_published(arrays[entry.ours]) for entry in entries(config)}
    return stream_bytes({"iteration": 1, "model": state_dict(published)})


@pytest.fixture
def server(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Content]:
    """Has the checkpoint, and is the mirror."""
    with http_server.running() as content:
        content.raw = raw
        monkeypatch.setenv("PANNS_JAX_MIRROR", content.url)
        yield content


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which is not there yet; waiting is short."""
    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(download, "UNREACHABLE_WAITS", (0.01,))
    return tmp_path / "cache"


def enter(monkeypatch: pytest.MonkeyPatch, released: Released) -> Released:
    monkeypatch.setattr(catalogue, "RELEASED", (*catalogue.RELEASED, released))
    return released


@pytest.fixture
def released(raw: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Released:
    """The small checkpoint in the catalogue, with all that can be known of it."""
    path = tmp_path / "content"
    path.write_bytes(raw)
    digests = catalogue.digests_of(path)
    return enter(monkeypatch, Released("DemoCnn", FILE, len(raw), digests.md5, digests.sha256))


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Released:
    """The small checkpoint in the catalogue, where neither size nor hash is known."""
    return enter(monkeypatch, Released("DemoCnn", FILE))
