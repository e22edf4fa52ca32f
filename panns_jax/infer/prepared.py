"""Models made ready to infer much, with everything computed once that does not depend on the waveform."""

import collections
import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
from flax import nnx
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.infer.folding import Affine, Path, layers_of, normalised_convolutions, put, shapes_of
from panns_jax.infer.rows import Rows, Steps, steps
from panns_jax.infer.transformed import TransformedWeights
from panns_jax.kernels.choice import Choice, choose, gain
from panns_jax.kernels.direct import Direct
from panns_jax.kernels.processor import multiplies_bfloat16
from panns_jax.kernels.shape import Size
from panns_jax.models.clips import Clips
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.layers import BatchNorm, Conv
from panns_jax.models.model import Model, checked_waveform, sample_counts

Memory = Literal["fast", "low"]

# All that a prepared model holds, in sizes of the model's own weights.
MOST = 3

# A kernel for each convolution, in the order of the model's layers.
Plan = Mapping[Path, Choice]

# How often the weights of a shape may give way to those of others before kernels are taken that can stay beside them.
_PATIENCE = 2


@dataclasses.dataclass(frozen=True)
class _Case:
    """What a program is compiled for.

    Attributes:
      batch: number of clips.
      samples: of each.
      with_lengths: whether their lengths differ.
      bin_size: samples of a bin, where clips lie in rows (`Clips`) and are not pooled over time; else 0.
      plan: number of the plan; a shape may get another one.
    """

    batch: Size
    samples: Size
    with_lengths: bool
    bin_size: int = 0
    plan: int = 0


def prepare(model: Model, *, memory: Memory = "fast") -> "PreparedModel":
    """Makes a model ready to infer much: on CPU, whole models then take about half their time.

    Batch normalisation becomes part of the convolutions, and their weights are transformed for the kernels that are
    fastest (`panns_jax.kernels`). Which these are depends on the shape of the waveform: when one of a new shape comes,
    its program is compiled, and weights are transformed that were not yet. On GPU and TPU convolutions stay XLA's own.
    Results differ from the model's by rounding, about 1e-6 on probabilities.

    Args:
      model: as `load_model` returns it. Its weights are shared, not copied, and changes to it later on are not seen.
        What is prepared is its evaluation mode.
      memory: "fast" holds up to three times the model's weights, those themselves among them; "low" holds nothing
        beside them, and takes only kernels that read them as they are.

    Raises:
      InputError: there is no such `memory`; or the model computes in bfloat16, and this processor is slower in that
        than in float32, or was not measured to be faster.
    """
    return PreparedModel(model, memory=memory)


class PreparedModel:
    """A model in evaluation mode, made ready by `prepare`; called as the model itself is.

    Attributes:
      config: the model's.
      memory: "fast" or "low".
    """

    def __init__(self, model: Model, *, memory: Memory = "fast") -> None:
        if memory not in get_args(Memory):
            raise InputError(f'memory must be "fast" or "low", got {memory!r}')
        self.config: ModelConfig = model.config
        self.memory: Memory = memory
        self._model = _in_evaluation(model)
        self._graph, state = nnx.split(self._model)
        self._platform = _platform(state)
        if model.precision == "bfloat16" and self._platform == "cpu":
            _require_fast_bfloat16()
        convs, norms = dict(layers_of(self._model, Conv)), dict(layers_of(self._model, BatchNorm))
        follows = normalised_convolutions(self._model, self.config.min_samples)
        followed = {path: norms[follows[path]] if path in follows else None for path in convs}
        self._own = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self._weights = TransformedWeights(
            {path: conv.kernel[...] for path, conv in convs.items()},
            {path: _afterwards(conv, followed[path]) for path, conv in convs.items()},
            limit=(MOST - 1) * self._own if memory == "fast" else 0,
        )
        self._norms = {path: Affine.of(norm) for path, norm in norms.items() if path not in follows.values()}
        replaced = {*convs, *norms}
        leaves = nnx.to_flat_state(state)
        self._rest = [(path, leaf) for path, leaf in leaves if path[:-1] not in replaced]
        self._absent = [(path, jax.eval_shape(lambda x=leaf: x)) for path, leaf in leaves if path[:-1] in replaced]
        self._plans: dict[_Case, Plan] = {}
        self._latest: dict[_Case, _Case] = {}
        self._displaced: collections.Counter[_Case] = collections.Counter()
        self._lock = threading.Lock()  # of plans and weights, which calls of many threads share
        self._run = jax.jit(self._output, static_argnames=("case", "taps"))

    @property
    def nbytes(self) -> int:
        """Bytes of all weights that are held now, those of the model itself among them."""
        return self._own + self._weights.nbytes

    def __call__(
        self,
        waveform: ArrayLike,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        taps: str | Collection[str] = (),
    ) -> Output:
        """Tags a batch of clips, as `Model.__call__` does: with its arguments, results and errors."""
        checked = checked_waveform(waveform)
        counts = None if lengths is None else sample_counts(lengths, checked)
        case = _Case(checked.shape[0], checked.shape[1], counts is not None)
        named = (taps,) if isinstance(taps, str) else tuple(sorted(taps))
        return self._call(case, checked, counts, named)

    def steps(self, rows: Rows, names: Collection[str]) -> Steps:
        """What the model makes of clips in rows before it pools over time, as `panns_jax.infer.rows.steps` does."""
        case = _Case(*rows.waveform.shape, with_lengths=True, bin_size=rows.bin_size)
        return self._call(case, rows.waveform, (rows.lengths, rows.starts), tuple(sorted(names)))

    def _call(self, case: _Case, waveform: ArrayLike, lengths: Any, names: tuple[str, ...]) -> Any:
        with self._lock:
            case = self._planned(case)
            weights = self._weights.of(self._plans[case])
        arrays = [leaf for _, leaf in self._rest], weights, list(self._norms.values())
        return self._run(*arrays, waveform, lengths, case=case, taps=names)

    def _planned(self, case: "_Case") -> "_Case":
        """The case with a plan for it: another one where shapes that come in turns keep taking each other's room.

        Else weights would be transformed in each of these turns, which takes as long as to hear seconds of sound.
        """
        case = self._latest.get(case, case)
        held = {}
        if case in self._plans and not self._weights.holds(self._plans[case]):
            self._displaced[case] += 1
            if self._displaced[case] == _PATIENCE:
                held = self._weights.held()
                first, case = dataclasses.replace(case, plan=0), dataclasses.replace(case, plan=case.plan + 1)
                self._latest[first] = case
        if case not in self._plans:
            shapes = shapes_of(self._model, case.batch, case.samples, with_lengths=case.with_lengths)
            self._plans[case] = choose(shapes, self._weights.limit, platform=self._platform, held=held)
        return case

    def _output(
        self,
        rest: list[Any],
        weights: list[tuple[tuple[Array, ...], Affine]],
        norms: list[Affine],
        waveform: Float[Array, "batch samples"],
        lengths: Any,
        *,
        case: _Case,
        taps: tuple[str, ...],
    ) -> Output | Steps:
        leaves = [(path, leaf) for (path, _), leaf in zip(self._rest, rest, strict=True)]
        model: Model = nnx.merge(self._graph, nnx.from_flat_state([*leaves, *self._absent]))
        layers = dict(layers_of(model, Conv))
        for path, _ in list(layers_of(model, BatchNorm)):
            put(model, path, lambda x: x)
        for path, norm in zip(self._norms, norms, strict=True):
            put(model, path, lambda x, norm=norm: x.each(norm))
        for (path, choice), (arrays, affine) in zip(self._plans[case].items(), weights, strict=True):
            put(model, path, _prepared(layers[path], choice, arrays, affine))
        if case.bin_size:
            return steps(model, Rows(waveform, *lengths, bin_size=case.bin_size), taps)
        return model(waveform, lengths=lengths, taps=taps)


def _require_fast_bfloat16() -> None:
    if not multiplies_bfloat16():
        raise InputError(
            "this processor has no matrix instructions for bfloat16 (amx_bf16), so it is slower in it than in"
            " float32: prepare the model in float32"
        )
    if (gain("bfloat16") or 0) <= 1:
        raise InputError(
            "the table of kernels has no measurement by which this processor is faster in bfloat16 than in float32"
            " (scripts/bench/tune.py makes one): prepare the model in float32"
        )


def _prepared(layer: Conv, choice: Choice, weights: tuple[Array, ...], affine: Affine) -> Callable[[Clips], Clips]:
    """The convolution `layer` by another kernel, and what follows it."""
    kernel = choice.kernel
    if isinstance(kernel, Direct):  # the others are for CPUs, whose products of float32 values are whole
        kernel = dataclasses.replace(kernel, precision=lax.Precision(layer.precision))

    def convolved(x: Clips) -> Clips:
        values = x.own() if layer.window.reaches else x.values
        return x.through(layer.window, kernel(values, weights, choice.shape)).each(affine)

    return convolved


def _afterwards(conv: Conv, norm: BatchNorm | None) -> Affine:
    """The bias of a convolution, and the normalisation that follows it."""
    bias = None if conv.bias is None else conv.bias[...]
    return Affine(None, bias) if norm is None else Affine.of(norm, bias)


def _in_evaluation(model: Model) -> Model:
    """The same model in evaluation mode, on the same arrays; the caller's own is not switched."""
    copied: Model = nnx.merge(*nnx.split(model))
    copied.eval()
    return copied


def _platform(state: Any) -> str:
    """The kind of device that the weights are on."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
    return next((device.platform for leaf in leaves for device in leaf.devices()), jax.default_backend())
