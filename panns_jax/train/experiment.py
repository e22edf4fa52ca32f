"""From the options of a run to all that it needs, opened and found to fit together; nothing is made yet."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from panns_jax.data.index import ClipIndex, read_index
from panns_jax.data.metadata import PUBLISHED_BLACK_LIST, read_black_list
from panns_jax.data.sampling import Sampler, drawn_share, make_sampler
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError, require_extra
from panns_jax.frontend import FrontendConfig
from panns_jax.models.config import ModelConfig, require_precision
from panns_jax.models.registry import model_config
from panns_jax.models.transfer import Pretrained
from panns_jax.train.options import option
from panns_jax.train.step import data_mesh, require_divisible

if TYPE_CHECKING:
    from panns_jax.train.options import Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that a run needs, opened and found to fit together.

    Attributes:
      options: as given.
      model: what is trained.
      mesh: the devices.
      train: the clips that are trained on.
      bal: the balanced training set, scored.
      test: the evaluation set, scored.
      sampler: the order of the clips trained on.
    """

    options: "Train"
    model: ModelConfig
    mesh: Mesh
    train: ClipSource
    bal: ClipSource
    test: ClipSource
    sampler: Sampler

    @property
    def batch_rows(self) -> int:
        """Clips read for each step."""
        return batch_rows(self.options)

    @property
    def run_name(self) -> str:
        """Name of the run's folders, of what tells experiments apart."""
        options = self.options
        share = "" if options.data_fraction == 1 else f"{options.data_fraction:g}"
        hop = self.model.frontend.hop_size
        other = hop != model_config(options.model_type).frontend.hop_size
        model = (options.model_type, f"hop{hop}") if other else (options.model_type,)
        data = (f"{share}{options.data_type}", options.balanced, options.augmentation)
        return "-".join([*model, *data, f"batch{options.batch_size}"])

    def resolved(self) -> dict[str, Any]:
        """The options with nothing left open, and what else decides the weights, ready for JSON."""
        given = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(self.options).items()}
        given["precision"] = require_precision(self.options.precision)
        frontend = dataclasses.asdict(self.model.frontend)
        return {**given, **frontend, "classes": self.model.num_classes, "training_clips": len(self.train)}


def prepare(options: "Train") -> Experiment:
    """Opens and checks everything that the options name, and makes nothing.

    Raises:
      InputError: something is missing or does not fit.
    """
    options.check()
    require_extra("training", "train", "grain", "sklearn", "tensorboardX")
    index = _read(options, options.data_type)
    model = configured_model(options, index.targets.num_classes)
    mesh = checked_mesh(options)
    train_source = ClipSource(index, model.sample_rate)
    scored = []
    for name in ("balanced_train", "eval"):
        other = _read(options, name)
        if other.targets.num_classes != model.num_classes:
            raise InputError(f"{other.path} has {other.targets.num_classes} classes, {index.path} {model.num_classes}")
        scored.append(ClipSource(other, model.sample_rate))
    return Experiment(
        options=options,
        model=model,
        mesh=mesh,
        train=train_source,
        bal=scored[0],
        test=scored[1],
        sampler=_sampler(options, index),
    )


def index_places(workspace: Path, name: str) -> tuple[Path, Path]:
    """Where a set's index file may be: in the published layout, and in that of before 2020."""
    hdf5s = workspace / "hdf5s"
    return hdf5s / "indexes" / f"{name}.h5", hdf5s / "targets" / f"{name}.h5"


def _read(options: "Train", name: str) -> ClipIndex:
    hdf5s, places = options.workspace / "hdf5s", index_places(options.workspace, name)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        if name == "full_train":
            indexes = hdf5s / "indexes"
            parts = f"--combine {indexes / 'balanced_train.h5'} {indexes / 'unbalanced_train' / '*.h5'}"
        else:
            parts = str(hdf5s / "waveforms" / f"{name}.h5")
        raise InputError(
            f"{places[0]}: there is no such index file; make it by panns-jax index {parts} --out {places[0]}"
        )
    index = read_index(path)
    if not len(index):
        raise InputError(f"{path}: lists no clips")
    return index


def configured_model(options: "Train", num_classes: int) -> ModelConfig:
    """The model that is trained, with the front end that the options ask for.

    Raises:
      InputError: there is no such model, or it cannot have such a front end.
    """
    config = model_config(options.model_type).with_classes(num_classes)
    if isinstance(config.body, Pretrained):
        raise InputError(
            f"--model-type {options.model_type}: a new last layer needs a model that has weights below it; training"
            f" begins with none. Name {config.body.base.name}"
        )
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(FrontendConfig)}
    settings = {name: value for name, value in given.items() if value is not None}
    if not config.body.reads_logmel:
        _require_built_in(config, settings)
    try:
        return dataclasses.replace(config, frontend=dataclasses.replace(config.frontend, **settings))
    except InputError as error:
        raise InputError(f"{_typed(settings)}: {error}") from error


def _require_built_in(config: ModelConfig, settings: dict[str, Any]) -> None:
    """Of a model that makes no spectrogram, the sampling rate alone can be chosen, and what limits it; the published
    tool's scripts give the other settings all the same, as they are."""
    own = {name: getattr(config.frontend, name) for name in ("hop_size", "window_size", "mel_bins")}
    other = {name: settings[name] for name in own if settings.get(name, own[name]) != own[name]}
    if other:
        raise InputError(
            f"{_typed(other)}: {config.name} reads the waveform itself, in steps that are built in; leave"
            f" {' and '.join(map(option, other))} away"
        )


def _typed(settings: dict[str, Any]) -> str:
    return " ".join(f"{option(name)} {value}" for name, value in settings.items())


def checked_mesh(options: "Train") -> Mesh:
    """The devices, among which the batches can be split.

    Raises:
      InputError: they cannot be, or a GPU is demanded and there is none.
    """
    if options.cuda and jax.default_backend() != "gpu":
        raise InputError(
            f'--cuda: JAX finds no GPU, only {jax.default_backend()}; install pip install "panns_jax[cuda]", or leave'
            " --cuda away"
        )
    mesh = data_mesh()
    require_divisible(options.batch_size, mesh, accumulation_steps=options.accumulation_steps)
    return mesh


def _sampler(options: "Train", index: ClipIndex) -> Sampler:
    excluded = ~drawn_share(len(index), options.data_fraction, seed=options.seed)
    if options.black_list != "none":
        path = PUBLISHED_BLACK_LIST if options.black_list == "dcase2017task4" else Path(options.black_list)
        excluded |= index.listed(read_black_list(path))
    rows = batch_rows(options)
    return make_sampler(options.balanced, index.targets, seed=options.seed, batch_rows=rows, excluded=excluded)


def batch_rows(options: "Train") -> int:
    """Clips read for each step: mixup makes one of two."""
    return options.batch_size * (2 if options.augmentation == "mixup" else 1)
