"""Which experiment of the paper statistics are of, told by the name of a published file or by a run's options."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(
    r"statistics_sr(?P<rate>\d+)_window(?P<window>\d+)_hop(?P<hop>\d+)_mel(?P<mel>\d+)_fmin\d+_fmax\d+"
    r"_(?P<data>[\d.]*(?:full|balanced)_train)_(?P<model>\w+?)_(?P<balanced>balanced|nobalanced)"
    r"_(?P<mixup>nomixup|mixup_timedomain|mixup)_bs(?P<batch>\d+)\.pkl"
)
_PUBLISHED_MODELS = {"WavegramLogmelCnn": "Wavegram_Logmel_Cnn14"}
"""Models that the published files call otherwise than we do."""
_RATES = {"Cnn14_16k": 16000, "Cnn14_8k": 8000}
"""The published names always tell 32 kHz, also of models that heard less."""
_VARIANTS = {
    **dict.fromkeys([*_RATES, "Cnn14_mel32", "Cnn14_mel128", "Cnn14_mixup_time_domain"], "Cnn14"),
    "Wavegram_Logmel128_Cnn14": "Wavegram_Logmel_Cnn14",
}
"""Models that are another one with another front end or mixup, which a recipe tells by themselves."""
_MIXUPS = {"none": "no mixup", "mixup_timedomain": "mixup of waveforms"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What tells the paper's experiments apart; the defaults are those of Cnn14 as published.

    Attributes:
      model: by our name, without what the other attributes tell.
      data: the training set, "full_train" or "balanced_train", behind the share of it where that is not all of it.
      balanced: how clips are sampled, "balanced", "none" or "alternate".
      mixup: "none", "mixup", or "mixup_timedomain" where waveforms of a model over spectrograms are blended.
      sample_rate: Hz.
      mel_bins: of the front end.
      hop: of the front end, ms.
      batch_size: clips per iteration; experiments that differ by it alone stand for each other.
    """

    model: str = "Cnn14"
    data: str = "full_train"
    balanced: str = "balanced"
    mixup: str = "mixup"
    sample_rate: int = 32000
    mel_bins: int = 64
    hop: float = 10.0
    batch_size: int = dataclasses.field(default=32, compare=False)

    def __str__(self) -> str:
        rate = f", {self.sample_rate / 1000:g} kHz" if self.sample_rate != 32000 else ""
        bins = f", {self.mel_bins} mel bins" if self.mel_bins != 64 else ""
        sampling = "not balanced" if self.balanced == "none" else self.balanced
        return f"{self.model}{rate}{bins}, {self.data}, {sampling}, {_MIXUPS.get(self.mixup, self.mixup)}"


def published_recipe(file_name: str) -> Recipe | None:
    """The recipe of a published statistics file; None where the name is none of theirs."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    model: str = _PUBLISHED_MODELS.get(found["model"], found["model"])
    return Recipe(
        model=_VARIANTS.get(model, model),
        data=found["data"],
        balanced="none" if found["balanced"] == "nobalanced" else "balanced",
        mixup="none" if found["mixup"] == "nomixup" else found["mixup"],
        sample_rate=_RATES.get(model, int(found["rate"])),
        mel_bins=int(found["mel"]),
        hop=1000 * int(found["hop"]) / int(found["rate"]),
        batch_size=int(found["batch"]),
    )


def published_name(recipe: Recipe) -> str:
    """The name under which the statistics of an experiment of the paper were published."""
    names = {ours: theirs for theirs, ours in _PUBLISHED_MODELS.items()}
    rates = {(_VARIANTS[model], rate): model for model, rate in _RATES.items()}
    model = rates.get((recipe.model, recipe.sample_rate), names.get(recipe.model, recipe.model))
    balanced = "nobalanced" if recipe.balanced == "none" else recipe.balanced
    mixup = "nomixup" if recipe.mixup == "none" else recipe.mixup
    return (
        f"statistics_sr32000_window1024_hop{round(32 * recipe.hop)}_mel{recipe.mel_bins}_fmin50_fmax14000"
        f"_{recipe.data}_{model}_{balanced}_{mixup}_bs{recipe.batch_size}.pkl"
    )


def recipe_of_run(options: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a run by its saved options; None where they are of a run that is none of the paper's kind."""
    try:
        model, share = str(options["model_type"]), float(options.get("data_fraction", 1))
        mixes = options["augmentation"] == "mixup"
        return Recipe(
            model=_VARIANTS.get(model, model),
            data=options["data_type"] if share == 1 else f"{share:g}{options['data_type']}",
            balanced=options["balanced"],
            mixup="mixup_timedomain" if mixes and model == "Cnn14_mixup_time_domain" else options["augmentation"],
            sample_rate=int(options["sample_rate"]),
            mel_bins=int(options["mel_bins"]),
            hop=1000 * options["hop_size"] / options["sample_rate"],
            batch_size=int(options["batch_size"]),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
