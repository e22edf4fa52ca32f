"""`panns-jax tag`: what is heard in sound files, by name and probability."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panns_jax.errors import InputError
from panns_jax.files import is_folder, make_folder, require_parent
from panns_jax.infer.files import HeardSound, SoundFiles, hear_sounds
from panns_jax.infer.tags import Choice, Only, Tagged, top_tags
from panns_jax.infer.windows import Windows
from panns_jax.infer.writers.destination import ENDINGS, Format, format_by_ending, names_folder, paths_below
from panns_jax.infer.writers.tables import require_parquet
from panns_jax.infer.writers.tag_files import Layout, writing_tags
from panns_jax.ontology import Ontology, RollUp

if TYPE_CHECKING:
    from panns_jax.labels import LabelSet
    from panns_jax.models.config import ModelConfig

__all__ = ["Tag", "Tagged", "top_tags"]

DEFAULT_TOP = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tag(SoundFiles):
    """Names what is heard in sound files.

    Each file is heard as a whole, or window by window. Files that cannot be read are named at the end (exit code 1),
    and the others done.
    """

    window: Annotated[
        float | Literal["trained"] | None,
        tyro.conf.arg(metavar="SECONDS|trained", help_behavior_hint="(default: the whole)"),
    ] = None
    """Length of the parts that long recordings are heard in, each by itself; the last one ends with the recording. The
    windows are followed by two summaries: max, the highest probability of each class in any window, and mean, the
    average over the windows, in which each counts by its length. trained: as long as the clips that the model was
    fine-tuned on."""
    hop: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="(default: the window)")] = None
    """From the beginning of a window to that of the next; shorter ones overlap."""
    only: Annotated[Only | None, tyro.conf.arg(metavar="windows|max|mean", help_behavior_hint="(default: all)")] = None
    """Of windows, max and mean, this alone. Audacity's and Raven's files have the windows alone by default."""
    classes: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="CLASS...", help_behavior_hint="(default: all)"),
    ] = ()
    """Names or ids of the classes that are told; all of them are, unless --top or --min-confidence leaves some out.
    A part of a name will do, and several may stand between commas."""
    ontology: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """AudioSet's ontology.json (https://github.com/audioset/ontology), or a file of its form: what --classes names are
    then all classes at and below it, as Animal."""
    roll_up: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Tells the parents that the ontology has, too, with the highest probability of the classes below them; what
    --classes names is then that parent or class alone."""
    min_confidence: Annotated[float, tyro.conf.arg(metavar="PROBABILITY")] = 0.0
    """Classes that are less probable are not told; all others are, unless --top leaves some out."""
    top: Annotated[int | Literal["all"] | None, tyro.conf.arg(metavar="N|all", help_behavior_hint="(default: 10)")] = (
        None
    )
    """Number of classes per file or window, the most probable first. With --classes or --min-confidence, all that they
    let through are told by default."""
    format: Annotated[
        Format | None,
        tyro.conf.arg(
            metavar="text|json|jsonl|csv|parquet|audacity|raven",
            help_behavior_hint="(default: as --out ends; csv in a folder; else text)",
        ),
    ] = None
    """text for people; json is one list, jsonl one line per file or window, csv and parquet have a row per class,
    audacity is a label track, raven a selection table."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """A file for what is heard in all sound files (.txt, .json, .jsonl, .csv, .parquet, .labels.txt for audacity,
    and .selections.txt for raven), or a folder, one that is there or with a / at its end, for a file for each, in the
    tree that the sound files are in. What is there is replaced. By default, standard output."""
    wide: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Tables (csv, parquet) with a row per file or window, and a column for each class."""
    merge: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Makes one span of windows in a row that have the same class, with the highest of their probabilities as its
    score; in csv, parquet, json and jsonl: file, start, end, label, id, score."""

    def run(self) -> int:
        """Writes the tags of every file; the exit code is 0, or 1 where some files failed.

        Raises:
          InputError: an option cannot be used, or no file could be read.
        """
        windows = self._windows()  # what is wrong with them is told before the model is loaded
        format = self._format()
        self._check(format)
        sources = self.sources
        if format == "audacity" and len(sources) > 1 and not self._folder:
            raise InputError(
                "an Audacity label track belongs to one recording: name a folder with --out, for a label track for each"
            )
        ontology = None if self.ontology is None else Ontology.read(self.ontology)
        listener = self.load()
        if self.window == "trained":
            windows = self._windows_as_trained(listener.config)
        labels = listener.config.labels
        roll_up = ontology.roll_up(labels) if ontology is not None and self.roll_up else None
        layout = Layout(
            format=format,
            choice=self._choice(labels, ontology) if roll_up is None else self._choice(roll_up.labels),
            windowed=self.window is not None,
            only=self.only,
            wide=self.wide,
            merge=self.merge,
            headings=len(sources) > 1 and not self._folder,
            frequencies=_frequencies(listener.config),
        )
        hears = hear_sounds(sources, listener, task="tagging", windows=windows)
        if self._folder is None:
            # The report has its say before the end is written: where every file failed, nothing is.
            with writing_tags(None if self.out is None else Path(self.out), layout) as writer:
                with hears as hearing:
                    for sound in _rolled_up(hearing, roll_up):
                        writer.add(sound)
                return hearing.report()
        roots = [path for path in self.files if is_folder(path)]
        paths = paths_below(self._folder, [source.name for source in sources], ENDINGS[format], roots)
        with hears as hearing:
            for sound in _rolled_up(hearing, roll_up):
                path = paths[sound.source.name]
                make_folder(path.parent)
                with writing_tags(path, layout) as writer:
                    writer.add(sound)
        return hearing.report()

    @property
    def _folder(self) -> Path | None:
        return Path(self.out) if self.out is not None and names_folder(self.out) else None

    def _windows_as_trained(self, config: "ModelConfig") -> Windows:
        if config.tuning is None:
            raise InputError(
                f"--window trained is for files that panns-jax finetune made: {config.name} does not tell the length of"
                " the clips that it was trained on; give the window in seconds"
            )
        length = config.tuning.clip_seconds
        return Windows(length, length if self.hop is None else self.hop)

    def _windows(self) -> Windows | None:
        if self.window == "trained":
            return None  # the model tells
        if self.window is not None:
            return Windows(self.window, self.window if self.hop is None else self.hop)
        for option, given, meaning in (
            ("hop", self.hop is not None, "from one window to the next"),
            ("only", self.only is not None, "which of windows, max and mean"),
            ("merge", self.merge, "windows in a row with the same class"),
        ):
            if given:
                raise InputError(f"--{option} ({meaning}) needs --window, the length of the windows in seconds")
        return None

    def _format(self) -> Format:
        if self.format is not None:
            return self.format
        if self.out is None:
            return "text"
        return "csv" if self._folder else format_by_ending(self.out, ENDINGS)

    def _check(self, format: Format) -> None:
        """Refuses, before any work is done, options that cannot be used together, and files that cannot be written."""
        taken = next((name for names in self.classes for name in names if Path(name).exists()), None)
        if not self.files and not self.lists and taken is not None:
            raise InputError(
                f"--classes takes all names after it, and {taken} is a file: name files before --classes, or after --"
            )
        if self.roll_up and self.ontology is None:
            raise InputError("--roll-up needs --ontology, the file that tells which class is a kind of which")
        if self.ontology is not None and not self.roll_up and not self.classes:
            raise InputError("--ontology is for --classes, whose parents it tells, or for --roll-up")
        if isinstance(self.top, int) and self.top < 1:
            raise InputError(f"--top must be at least 1, not {self.top}")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"--min-confidence must be between 0 and 1, not {self.min_confidence:g}")
        if self.wide and format not in ("csv", "parquet"):
            raise InputError(f"--wide is for tables: name one with --format csv or parquet, not {format}")
        if self.wide and (self.top is not None or self.min_confidence or self.merge):
            raise InputError(
                "--wide has a column for each class, whatever its probability: leave out --top, --min-confidence and"
                " --merge (--classes tells which)"
            )
        if self.merge and format == "text":
            raise InputError("--merge is for labels and tables: name one with --format audacity, raven, csv or another")
        if self.merge and self.only in ("max", "mean"):
            raise InputError(f"--merge joins windows, of which --only {self.only} leaves none: leave one of them out")
        if format == "parquet":
            require_parquet(None if self.out is None else Path(self.out))
        if self._folder:
            make_folder(self._folder)
        elif self.out is not None:
            require_parent(self.out)

    def _choice(self, labels: "LabelSet", ontology: Ontology | None = None) -> Choice:
        wanted = [name for names in self.classes for name in names]
        if self.classes and not wanted:
            raise InputError("--classes needs a value: the name or id of a class")
        top = DEFAULT_TOP if self.top is None and not wanted and not self.min_confidence else self.top
        return Choice(
            labels,
            labels.select(wanted, ontology) if wanted else None,
            top if isinstance(top, int) else None,
            self.min_confidence,
        )


def _rolled_up(sounds: Iterable[HeardSound], roll_up: RollUp | None) -> Iterator[HeardSound]:
    """The sounds with the probabilities of parents in place of those of classes."""
    for sound in sounds:
        if roll_up is None:
            yield sound
            continue
        excerpts = [
            dataclasses.replace(
                excerpt, heard=dataclasses.replace(excerpt.heard, clipwise=roll_up(excerpt.heard.clipwise))
            )
            for excerpt in sound.excerpts
        ]
        yield dataclasses.replace(sound, excerpts=excerpts)


def _frequencies(config: "ModelConfig") -> tuple[float, float]:
    """Hz, the lowest and the highest that the model hears."""
    if not config.body.reads_logmel:
        return 0.0, config.sample_rate / 2
    return float(config.frontend.fmin), float(config.frontend.fmax)
