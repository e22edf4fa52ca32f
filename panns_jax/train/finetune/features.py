"""What a frozen body makes of clips: computed once, and kept in memory and on disk."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from panns_jax.data.labelled.batches import evaluation_windows
from panns_jax.data.labelled.clips import Sound
from panns_jax.data.labelled.decoded import Decoded, ahead
from panns_jax.data.labelled.sounds import Kept
from panns_jax.errors import InputError
from panns_jax.files import make_folder, written_aside
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener
from panns_jax.models.heads import DecisionHead
from panns_jax.models.model import Model
from panns_jax.progress import progress_bar

# Clips that are heard, and then kept, at a time.
_GROUP = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What the new layers read of each window of some clips, clip after clip.

    Attributes:
      values: of each window: an embedding (dim,), or of decision-level models a vector for each step (steps, dim).
      counts: number of windows of each clip.
    """

    values: Float[np.ndarray, "windows *shape"]
    counts: Int[np.ndarray, " clips"]

    @property
    def starts(self) -> Int[np.ndarray, " clips"]:
        """The first window of each clip."""
        return np.cumsum(self.counts) - self.counts

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Features":
        """Those of some clips."""
        windows = [np.arange(start, start + count) for start, count in zip(self.starts, self.counts, strict=True)]
        chosen = np.concatenate([windows[row] for row in rows]) if len(rows) else np.zeros(0, np.int64)
        return Features(self.values[chosen], self.counts[rows])


def mean_of_windows(
    values: Float[np.ndarray, "windows classes"], counts: Int[np.ndarray, " clips"]
) -> Float[np.ndarray, "clips classes"]:
    """The mean over the windows of each clip, of which each has at least one."""
    starts = np.cumsum(counts) - counts
    return (np.add.reduceat(values, starts, axis=0) / counts[:, None]).astype(np.float32)


class Body:
    """A frozen model, heard at the speed of `panns-jax embed`.

    Args:
      model: in evaluation mode.
      samples: length of the windows.
    """

    def __init__(self, model: Model, samples: int) -> None:
        self.model = model
        self.samples = samples
        self._listener = Listener(model)

    @functools.cached_property
    def key(self) -> str:
        """A hash of all that decides what is made of a sound: weights, architecture, precision and length."""
        digest = hashlib.sha256()
        for path, leaf in nnx.to_flat_state(nnx.state(self.model)):
            digest.update(str(path).encode())
            digest.update(np.ascontiguousarray(leaf[...]).data)
        told = [self.model.config.to_json(), self.model.precision, self.samples]
        digest.update(json.dumps(told, sort_keys=True).encode())
        return digest.hexdigest()

    def hear(
        self, clips: Iterator[Float[np.ndarray, "windows samples"] | InputError], *, expected: float
    ) -> Iterator[list[np.ndarray] | InputError]:
        """What the new layers are to read of each window of each clip, or why one cannot be heard.

        Args:
          clips: windows of each, or why there are none.
          expected: seconds of sound in all, about.
        """
        counts: list[int | InputError] = []

        def windows() -> Iterator[np.ndarray]:
            for clip in clips:
                counts.append(clip if isinstance(clip, InputError) else len(clip))
                if not isinstance(clip, InputError):
                    yield from clip

        taps = ("pooled",) if self._decides else ()
        answers = self._listener.hear(windows(), taps=taps, expected=expected)
        told = 0
        held: list[Heard | InputError] = []
        for answer in answers:
            held.append(answer)
            while told < len(counts):
                count = counts[told]
                if isinstance(count, InputError):
                    yield count
                elif len(held) >= count:
                    yield self._of(held[:count])
                    held = held[count:]
                else:
                    break
                told += 1
        yield from (count for count in counts[told:] if isinstance(count, InputError))

    def _of(self, heard: Sequence[Heard | InputError]) -> list[np.ndarray] | InputError:
        found = []
        for window in heard:
            if isinstance(window, InputError):
                return window
            value = self._hidden(window.pooled) if self._decides else window.embedding
            assert value is not None
            found.append(np.asarray(value))
        return found

    @property
    def _decides(self) -> bool:
        return isinstance(self.model.config.head, DecisionHead)

    @functools.cached_property
    def _hidden(self) -> Any:
        head: Any = self.model.config.head
        graph, state = nnx.split(self.model)
        run = jax.jit(lambda state, pooled: head.hidden(nnx.merge(graph, state), pooled[None])[0])
        return functools.partial(run, state)


class FeatureStore:
    """Features on disk, in a folder for each body; what clips are in it is told by their files, parts and times.

    Args:
      folder: of all bodies.
      body: what makes them.
    """

    def __init__(self, folder: Path, body: Body) -> None:
        self._folder = folder / body.key[:32]
        self._body = body

    def features(self, decoded: Decoded, rows: Sequence[int], *, task: str) -> tuple[Features, dict[int, str]]:
        """The features of some clips: those that are not kept yet are heard, and kept.

        Args:
          decoded: the clips, at the sample rate of the body.
          rows: which of them.
          task: what the progress bar is headed with.

        Returns:
          The features of all rows but those that cannot be heard, in the order of the rows; and why, by row.

        Raises:
          InputError: none of them can be heard, or the folder cannot be written to.
        """
        names = {row: identity(decoded.labelled.clips[row].sound, decoded.sample_rate) for row in rows}
        kept = self._kept(set(names.values()))
        pending = [row for row in rows if names[row] not in kept]
        failures: dict[int, str] = {}
        if pending:
            make_folder(self._folder, "--cache")
            seconds = self._seconds(decoded, pending)
            with progress_bar("clips", shown=len(pending) > 1) as bar:
                bar_task = bar.add_task(task, total=len(rows), completed=len(rows) - len(pending), note="")
                for first in range(0, len(pending), _GROUP):
                    group = pending[first : first + _GROUP]
                    made = {}
                    for row, heard in zip(group, self._heard(decoded, group, seconds), strict=True):
                        if isinstance(heard, InputError):
                            failures[row] = str(heard)
                        else:
                            made[names[row]] = np.stack(heard)
                        bar.update(bar_task, advance=1, note=f"{len(failures)} failed" if failures else "")
                    self._keep(made)
                    kept |= made
        left = [kept[names[row]] for row in rows if row not in failures]
        if not left:
            raise InputError("\n  ".join(["no clip can be heard:", *failures.values()]))
        return Features(np.concatenate(left), np.array([len(of) for of in left])), failures

    def _heard(self, decoded: Decoded, rows: Sequence[int], seconds: float) -> Iterator[list[np.ndarray] | InputError]:
        def windows(row: int) -> np.ndarray | InputError:
            try:
                return evaluation_windows(decoded.waveform(row), self._body.samples)
            except InputError as error:
                return error

        for row, heard in zip(rows, self._body.hear(ahead(windows, rows), expected=seconds), strict=True):
            name = decoded.labelled.clips[row].sound.name
            is_told = not isinstance(heard, InputError) or str(heard).startswith(name)
            yield heard if is_told else InputError(f"{name}: {heard}")

    def _seconds(self, decoded: Decoded, rows: Sequence[int]) -> float:
        """How much there is to hear, about: what is heard of some clips, times their number."""
        some = rows[:: max(1, len(rows) // 20)]
        lengths = []
        for row in some:
            try:
                lengths.append(max(len(decoded.waveform(row)), self._body.samples) / decoded.sample_rate)
            except InputError:
                continue
        return len(rows) * float(np.mean(lengths)) if lengths else 0.0

    def _kept(self, wanted: set[str]) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError, safe_open

        found: dict[str, np.ndarray] = {}
        for path in sorted(self._folder.glob("*.safetensors")) if self._folder.is_dir() else ():
            try:
                with safe_open(path, framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118
                        if name in wanted and name not in found:
                            found[name] = file.get_tensor(name)
            except (SafetensorError, OSError):  # damaged: heard again
                continue
        return found

    def _keep(self, made: Mapping[str, np.ndarray]) -> None:
        if not made:
            return
        from safetensors.numpy import save_file

        name = hashlib.sha256("".join(sorted(made)).encode()).hexdigest()[:16]
        with written_aside(self._folder / f"{name}.safetensors") as aside:
            save_file(dict(made), aside)


def identity(sound: Sound, sample_rate: int) -> str:
    """A hash that tells a clip from all others, and from what its file was before it changed.

    Raises:
      InputError: the sound is no file, and cannot be read.
    """
    if isinstance(sound, Kept) and Path(sound.recording).is_file():
        stat = Path(sound.recording).stat()
        told = f"{sound.recording} {sound!r} {stat.st_size} {stat.st_mtime_ns}".encode()
    elif isinstance(sound, Kept):
        told = f"{sound.fingerprint()} {sound.part}".encode()
    else:
        told = sound.waveform(sample_rate).tobytes()
    return hashlib.sha256(told).hexdigest()
