"""`panns-jax distance`: how far a set of sounds is from another one, by the recipes of the tools that measure it."""

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from panns_jax.errors import InputError
from panns_jax.infer.model_options import ModelOptions
from panns_jax.infer.recipes import RECIPES, RecipeName

if TYPE_CHECKING:
    from panns_jax.infer.clip_sets import ClipSet
    from panns_jax.infer.listener import Listener

# As in audioldm_eval: clips are pairs where nearly all names are on both sides.
_SHARED = 0.99

_NAMED = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance(ModelOptions):
    """Tells how far a set of sounds is from another one.

    Fréchet distance (FAD) of the embeddings; with --recipe audioldm-eval also the Kullback-Leibler divergence of clips
    with the same names, and the inception score of B. Silent clips, and too few of them, are warned of.
    """

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A", help_behavior_hint="")]
    """The reference: a folder of sounds, also of those in the folders in it, or a file that panns-jax embed wrote."""
    judged: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B", help_behavior_hint="")]
    """What is judged, such as generated sounds: likewise."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it. Without a checkpoint, the released one of this
    model (Cnn14_16k where none is named) is downloaded the first time, and kept."""
    recipe: RecipeName = "fad"
    """fad: the mean of the channels, the whole file, embedding; Cnn14_16k, Cnn14_8k or Cnn14. audioldm-eval: the first
    channel less its mean, padded to 32,000 samples, embedding and logits; Cnn14_16k or Cnn14."""
    extrapolate: bool = False
    """Tell also the Fréchet distance that infinitely many clips would have, from that of 25 numbers of clips above 500
    (FAD∞)."""
    format: Literal["text", "json"] = "text"
    """text for people, json for programs."""

    def run(self) -> int:
        """Prints the distances; the exit code is 0, or 1 where some files could not be heard.

        Raises:
          InputError: an option cannot be used, or the sets cannot be read or compared.
        """
        from panns_jax.infer.clip_sets import clip_set, require_clips

        for path in (self.reference, self.judged):
            require_clips(path)
        recipe = RECIPES[self.recipe]
        listener = functools.cache(self._listener)
        reference, judged = (clip_set(path, recipe, listener) for path in (self.reference, self.judged))
        _require_comparable(reference, judged)
        told = self._told(reference, judged)
        told["warnings"] = _warnings(reference, judged, recipe.models)
        for warning in told["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
        print(json.dumps(told, indent=2) if self.format == "json" else _text(told))
        return max(reference.exit_code, judged.exit_code)

    def _listener(self) -> "Listener":
        from panns_jax.infer.listener import load_listener

        model = self.model
        if model is None and self.checkpoint is None:
            model = RECIPES[self.recipe].models[0]
        listener = load_listener(model, self.checkpoint, self.mirror, self.precision)
        if listener.config.embedding_dim is None:
            raise InputError(f"{listener.config.name} makes no embedding: choose a model with one, such as Cnn14_16k")
        return listener

    def _told(self, reference: "ClipSet", judged: "ClipSet") -> dict[str, Any]:
        from panns_jax.infer.divergences import inception_score, kullback_leibler
        from panns_jax.infer.gaussians import Gaussian, extrapolated_distance, frechet_distance

        told: dict[str, Any] = {"recipe": self.recipe, "model": reference.model or judged.model}
        for name, clips in (("reference", reference), ("judged", judged)):
            told[name] = {"path": str(clips.path), "clips": len(clips), "silent": clips.silent}
        embeddings = reference.arrays["embedding"], judged.arrays["embedding"]
        told["dimensions"] = embeddings[0].shape[1]
        gaussians = [Gaussian.of(vectors) for vectors in embeddings]
        told["frechet_distance"] = frechet_distance(*gaussians)
        if self.extrapolate:
            told["extrapolated_frechet_distance"] = extrapolated_distance(gaussians[0], embeddings[1])
        if "logits" not in RECIPES[self.recipe].taps:
            return told
        if "logits" not in reference.arrays or "logits" not in judged.arrays:
            raise InputError(
                "the files hold no logits, which --recipe audioldm-eval needs: embed with --tap logits too"
            )
        pairs, reason = _pairs(reference.names, judged.names)
        told |= {"pairs": len(pairs), "kl_softmax": None, "kl_sigmoid": None}
        if reason:
            told["kl_undefined"] = reason
        else:
            logits = (
                clips.arrays["logits"][list(rows)]
                for clips, rows in zip((reference, judged), zip(*pairs, strict=True), strict=True)
            )
            told["kl_softmax"], told["kl_sigmoid"] = kullback_leibler(*logits)
        score = inception_score(judged.arrays["logits"])
        told["inception_score_mean"], told["inception_score_std"] = score or (None, None)
        return told


def _require_comparable(reference: "ClipSet", judged: "ClipSet") -> None:
    if reference.model and judged.model and reference.model != judged.model:
        raise InputError(
            f"{reference.path} has vectors of {reference.model} and {judged.path} of {judged.model}, which cannot be"
            " compared"
        )
    for tap in reference.arrays.keys() & judged.arrays.keys():
        widths = [clips.arrays[tap].shape[1:] for clips in (reference, judged)]
        if widths[0] != widths[1]:
            raise InputError(f"{tap} has {widths[0]} values in {reference.path} and {widths[1]} in {judged.path}")
    for clips in (reference, judged):
        if len(clips) < 2:
            raise InputError(f"{clips.path}: has one clip alone, and a covariance needs two at least")
        for tap, vectors in clips.arrays.items():
            if not bool((abs(vectors) < float("inf")).all()):
                raise InputError(f"{clips.path}: {tap} holds values that are no finite numbers")


def _pairs(reference: "Any", judged: "Any") -> tuple[list[tuple[int, int]], str]:
    """Rows of the clips with the same names, and why they do not count as pairs, if so."""
    places = {name: row for row, name in enumerate(reference)}
    if len(places) < len(reference) or len(set(judged)) < len(judged):
        return [], "names occur twice"
    pairs = [(places[name], row) for row, name in enumerate(judged) if name in places]
    if min(len(pairs) / len(reference), len(pairs) / len(judged)) <= _SHARED:
        return pairs, f"only {len(pairs)} names are in both sets"
    return pairs, ""


def _warnings(reference: "ClipSet", judged: "ClipSet", models: tuple[str, ...]) -> list[str]:
    warnings = []
    for clips in (reference, judged):
        dimensions = clips.arrays["embedding"].shape[1]
        if clips.silent:
            more = f" and {len(clips.silent) - _NAMED} more" if len(clips.silent) > _NAMED else ""
            named = ", ".join(clips.silent[:_NAMED])
            warnings.append(f"{clips.path}: silent clips, which count like the others: {named}{more}")
        if len(clips) <= dimensions:
            warnings.append(
                f"{clips.path}: {len(clips)} clips are too few for {dimensions} dimensions: the distance is too large,"
                " and comparable only with that of as many clips"
            )
    model = reference.model or judged.model
    if model is not None and model not in models:
        warnings.append(
            f"the recipe is one for {', '.join(models)}: distances by {model} compare with each other alone"
        )
    return warnings


def _text(told: dict[str, Any]) -> str:
    lines = [f"Fréchet distance: {told['frechet_distance']:.6g}"]
    if "extrapolated_frechet_distance" in told:
        lines.append(f"extrapolated to infinitely many clips: {told['extrapolated_frechet_distance']:.6g}")
    if told.get("kl_softmax") is not None:
        divergences = f"softmax {told['kl_softmax']:.6g}, sigmoid {told['kl_sigmoid']:.6g}"
        lines.append(f"Kullback-Leibler divergence: {divergences} ({told['pairs']} pairs)")
    elif "kl_undefined" in told:
        lines.append(f"Kullback-Leibler divergence: not defined, as {told['kl_undefined']}")
    if told.get("inception_score_mean") is not None:
        lines.append(f"inception score: {told['inception_score_mean']:.6g} ± {told['inception_score_std']:.3g}")
    elif "inception_score_mean" in told:
        lines.append("inception score: not defined for fewer than 10 clips")
    sides = [f"{told[side]['path']} ({told[side]['clips']} clips)" for side in ("judged", "reference")]
    lines.append(
        f"of {sides[0]} from {sides[1]}, by {told['model'] or 'a model that is not told'}, recipe {told['recipe']}"
    )
    return "\n".join(lines)
