"""The parts of a model by depth, and which of them learn when."""

from typing import Any

import pytest
from small_models import SMALL

from panns_jax import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import REGISTRY
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import entries
from panns_jax.train.finetune.depth import EMBEDDING, NEW, Plan, frozen_parts, parts_of, switched


def tuned(config: ModelConfig) -> ModelConfig:
    return config if config.embedding_dim is None else transfer(config)


@pytest.mark.parametrize("config", [*REGISTRY.values(), *SMALL.values()], ids=lambda config: config.name)
def test_every_array_is_in_one_part_but_those_that_nothing_reads(config: ModelConfig):
    config = tuned(config)
    parts = parts_of(config)
    assert [part.name for part in parts[-2:]] == [EMBEDDING, NEW]
    for entry in entries(config):
        holding = [part for part in parts if part.holds(tuple(entry.ours.split(".")))]
        assert len(holding) == (0 if entry.ours.startswith("base.fc_audioset") else 1), entry.ours


def test_parts_are_the_blocks_from_the_input_on():
    names = [part.name for part in parts_of(transfer(REGISTRY["Cnn14"]))]
    assert names == [*(f"conv_block{i}" for i in range(1, 7)), EMBEDDING, NEW]
    assert parts_of(transfer(REGISTRY["Cnn14"]))[0].holds(("base", "bn0", "scale"))


def test_one_more_part_learns_after_so_many_epochs_up_to_those_that_are_frozen():
    parts = parts_of(transfer(REGISTRY["Cnn6"]))
    plan = Plan(parts, frozen=3, unfreezing=2)
    learning = [[part.name for part in plan.at(epoch)] for epoch in range(7)]
    assert learning[0] == learning[1] == [NEW]
    assert learning[2] == [EMBEDDING, NEW]
    assert learning[4] == learning[6] == ["conv_block4", EMBEDDING, NEW]


def test_the_learning_rate_falls_with_each_part_further_from_the_output():
    parts = parts_of(transfer(REGISTRY["Cnn6"]))
    plan = Plan(parts, decay=0.5)
    assert [plan.rate(part) for part in parts] == [0.5**n for n in (5, 4, 3, 2, 1, 0)]


def test_more_blocks_than_there_are_cannot_be_frozen():
    parts = parts_of(transfer(REGISTRY["Cnn6"]))
    assert frozen_parts(parts, 4, "Cnn6") == 4
    with pytest.raises(InputError, match="--freeze-depth 5: Cnn6 has 4 blocks"):
        frozen_parts(parts, 5, "Cnn6")


def test_what_is_frozen_is_in_evaluation_mode_and_the_rest_is_not():
    config = transfer(SMALL["cnn"])
    parts = parts_of(config)
    model: Any = abstract_model(config)
    switched(model, parts[1:], parts, spec_augment=True)
    assert model.base.bn0.use_running_average and model.base.conv_block1.bn2.use_running_average
    assert not model.base.conv_block2.bn1.use_running_average and not model.base.head_dropout.deterministic
    assert not model.base.spec_augmenter.deterministic
    whole: Any = abstract_model(config)
    switched(whole, parts[-1:], parts, spec_augment=False)
    assert whole.base.head_dropout.deterministic and whole.base.spec_augmenter.deterministic
