"""`panns-jax detect`: sound events, from where to where they are heard."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.errors import InputError, require_extra
from panns_jax.files import is_folder, make_folder, require_parent
from panns_jax.infer.event_rules import RuleOptions
from panns_jax.infer.files import HeardSound, SoundFiles, hear_sounds
from panns_jax.infer.writers.destination import names_folder, paths_below
from panns_jax.infer.writers.event_files import EventFormat, EventOutput

if TYPE_CHECKING:
    from panns_jax.infer.events import Event
    from panns_jax.infer.score_track import ScoreTrack, Stepping
    from panns_jax.infer.sources import Source
    from panns_jax.labels import LabelSet

_FIGURES = (".png", ".pdf", ".svg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detect(RuleOptions, SoundFiles):
    """Finds sound events: what is heard in sound files, and from where to where.

    Decision-level models (Cnn14_DecisionLevelMax, Avg and Att) score their own time steps of 0.32 s; any other model
    scores windows of the recording, by default consecutive ones of 2 s. The time step is told on standard error. Files
    that cannot be read are named at the end (exit code 1), and the others done.
    """

    window: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="(default: 2)")] = None
    """What a clip-level model hears for each time step, around its middle."""
    hop: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="(default: the window)")] = None
    """Time step of a clip-level model; a shorter one tells onsets and offsets more exactly, and takes longer."""
    classes: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="CLASS...", help_behavior_hint="(default: all)"),
    ] = ()
    """Names or ids of the classes that are wanted."""
    format: Annotated[
        EventFormat | None, tyro.conf.arg(help_behavior_hint="(default: as --out ends; dcase in a folder; else text)")
    ] = None
    """text for people; dcase is a TSV of filename, onset, offset and event_label; rttm, audacity and raven are for
    other programs; json is one list and jsonl one line per file; csv and parquet have a row per event."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """The file to write, or a folder (one that is there, or with a / at its end) for a file per recording; standard
    output by default."""
    scores: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Also write the scores that the events were found in, a TSV per recording for sed_scores_eval: onset, offset, and
    a column for each class."""
    plot: Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Also draw the log spectrogram over the scores of the top classes: a .png, .pdf or .svg file, or a folder for a
    .png per recording."""
    plot_classes: int = 10
    """Classes in the figure, those with the highest scores."""

    def run(self) -> int:
        """Writes the events of every file; the exit code is 0, or 1 where some files failed.

        Raises:
          InputError: an option cannot be used, or no file could be read.
        """
        sources = self.sources
        names = [source.name for source in sources]
        output = EventOutput(names, self.format, self.out, [path for path in self.files if is_folder(path)])
        tables, figures = self._score_paths(names), self._figure_paths(names)
        listener = self.load()
        from panns_jax.infer.events import find_events
        from panns_jax.infer.score_track import Stepping

        labels = listener.config.labels
        stepping = Stepping.of(listener.config, listener.step, self.window, self.hop)
        wanted = self._wanted(labels)
        rules = self.rules(labels, stepping.step)
        _tell(listener.config.name, stepping)
        with (
            output.writing(listener.config, stepping.step) as writer,
            hear_sounds(
                _watched(sources) if figures else sources,
                listener,
                task="detecting",
                windows=stepping.windows,
                taps=stepping.taps,
            ) as hearing,
        ):
            for sound in hearing:
                track = stepping.track(sound.excerpts, sound.duration)
                events = find_events(track, rules, wanted)
                if path := tables.get(sound.source.name):
                    _write_scores(path, track, labels, wanted)
                if path := figures.get(sound.source.name):
                    self._draw(path, sound, track, events, labels, wanted)
                writer.add(sound.source.name, sound.duration, events)
            return hearing.report()

    def _wanted(self, labels: "LabelSet") -> tuple[int, ...]:
        named = [name for names in self.classes for name in names]
        if self.classes and not named:
            raise InputError("--classes needs a value: the name or id of a class")
        return labels.select(named) if named else tuple(range(len(labels)))

    def _score_paths(self, names: Sequence[str]) -> dict[str, Path]:
        from panns_jax.infer.writers.scores import score_paths

        if self.scores is None:
            return {}
        paths = score_paths(self.scores, names)
        make_folder(self.scores, "--scores")
        return paths

    def _figure_paths(self, names: Sequence[str]) -> dict[str, Path]:
        if self.plot is None:
            return {}
        require_extra("--plot", "plots", "matplotlib")
        if self.plot_classes < 1:
            raise InputError(f"--plot-classes must be at least 1, not {self.plot_classes}")
        if names_folder(self.plot):
            return paths_below(Path(self.plot), names, ".png")
        if not self.plot.lower().endswith(_FIGURES):
            raise InputError(f"--plot {self.plot}: a figure ends in {', '.join(_FIGURES)}, a folder in /")
        if len(names) > 1:
            raise InputError(f"--plot {self.plot} is one figure, and there are {len(names)} files: name a folder")
        require_parent(self.plot)
        return dict.fromkeys(names, Path(self.plot))

    def _draw(
        self,
        path: Path,
        sound: HeardSound,
        track: "ScoreTrack",
        events: "Sequence[Event]",
        labels: "LabelSet",
        wanted: Sequence[int],
    ) -> None:
        from panns_jax.plots.events import plot_events
        from panns_jax.plots.spectrogram import WatchedSource

        assert isinstance(sound.source, WatchedSource)
        make_folder(path.parent, "--plot")
        spectrogram = sound.source.take_spectrogram()
        plot_events(path, sound.source.name, spectrogram, track, events, labels, wanted, top=self.plot_classes)


def _watched(sources: "Sequence[Source]") -> "list[Source]":
    """The sounds, with spectrograms that are computed while they are read."""
    from panns_jax.plots.spectrogram import WatchedSource

    return [WatchedSource(source) for source in sources]


def _tell(model: str, stepping: "Stepping") -> None:
    """The true time step, on standard error."""
    windows = stepping.windows
    heard = f", from windows of {windows.length:g} s" if windows else ""
    print(f"{model}: time step {stepping.step:g} s{heard}", file=sys.stderr)


def _write_scores(path: Path, track: "ScoreTrack", labels: "LabelSet", wanted: Sequence[int]) -> None:
    from panns_jax.infer.writers.scores import write_scores

    chosen = dataclasses.replace(track, scores=track.scores[:, list(wanted)])
    write_scores(path, chosen, [labels[index] for index in wanted])
