"""What is known of the released files."""

import json
import math

import jax
import pytest
import recipe
from flax import nnx

from panns_jax.models.abstract import abstract_model
from panns_jax.models.registry import REGISTRY, list_models, model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.paper import FIGURES

FACTS = json.loads((recipe.GOLDEN / "released_checkpoints.json").read_text())["checkpoints"]


def test_every_released_file_is_in_the_catalogue_with_what_is_known_of_it():
    ours = {entry.file: entry for entry in catalogue.RELEASED}
    assert len(ours) == len(catalogue.RELEASED) == 22
    assert ours.keys() == {fact["file"] for fact in FACTS}
    for fact in FACTS:
        entry = ours[fact["file"]]
        known = {"model": entry.model, "bytes": entry.size, "md5": entry.md5, "sha256": entry.sha256}
        assert known == {key: fact[key] for key in known}


def test_every_released_file_is_of_a_model_that_is_here():
    for fact in FACTS:
        state = nnx.state(abstract_model(REGISTRY[fact["model"]]), nnx.Param)
        assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state)) == fact["parameters"]


def test_a_url_is_percent_encoded():
    released = catalogue.of_model("Cnn14")
    assert released is not None
    assert released.url == "https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1"


@pytest.mark.parametrize(
    ("model", "of_the_file", "of_the_paper"),
    [
        ("Cnn14", 0.431, 0.431),
        ("Cnn14_16k", 0.438, 0.427),
        ("Cnn14_8k", 0.416, 0.406),
        ("Cnn14_emb32", 0.364, 0.364),
        ("Cnn14_DecisionLevelAtt", 0.425, None),
    ],
)
def test_the_scores_of_file_and_paper_stand_side_by_side(model, of_the_file, of_the_paper):
    released = catalogue.of_model(model)
    assert released is not None
    assert released.mean_average_precision == of_the_file
    assert (released.paper and released.paper.mean_average_precision) == of_the_paper


def test_the_papers_figures_agree_with_one_another_and_are_of_models_that_are_here():
    assert FIGURES.keys() <= set(list_models())
    assert {entry.model for entry in catalogue.RELEASED} - FIGURES.keys() == {
        "Cnn14_DecisionLevelMax",
        "Cnn14_DecisionLevelAtt",
    }
    for name, figures in FIGURES.items():
        if figures.d_prime is not None:  # printed from an AUC that was not rounded to three digits
            auc = jax.scipy.stats.norm.cdf(figures.d_prime / math.sqrt(2))
            assert auc == pytest.approx(figures.mean_auc, abs=6e-4), name


def test_the_figures_of_the_files_are_the_papers_but_for_the_lower_sampling_rates():
    for entry in catalogue.RELEASED:
        if entry.paper is not None:
            agrees = entry.mean_average_precision == entry.paper.mean_average_precision
            assert agrees == (entry.model not in ("Cnn14_16k", "Cnn14_8k")), entry.model


def test_training_settings_are_told_where_the_paper_tells_them():
    for entry in catalogue.RELEASED:
        assert entry.frontend == model_config(entry.model).frontend
        assert (entry.training is None) == ("DecisionLevel" in entry.model)
        if entry.training is not None:  # all heard recordings of 32 kHz
            assert entry.training.decimation * entry.frontend.sample_rate == 32000
            assert entry.training.batch_size == 32


def test_a_hash_that_is_known_tells_whether_content_is_a_released_files(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    digests = catalogue.digests_of(path)
    assert digests.md5 == "900150983cd24fb0d6963f7d28e17f72"
    for md5, sha256, expected in (
        ("0", digests.sha256, True),
        (digests.md5, None, True),
        (digests.md5, "0", False),
        (None, None, None),
    ):
        assert catalogue.Released("Cnn6", "x.pth", md5=md5, sha256=sha256).matches(digests) is expected
