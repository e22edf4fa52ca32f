"""`panns-jax listen`: names what is heard at a microphone, or comes by standard input, while it goes on."""

import contextlib
import dataclasses
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from panns_jax.errors import InputError
from panns_jax.infer.model_options import ModelOptions

if TYPE_CHECKING:
    from panns_jax.infer.live import LiveListener
    from panns_jax.infer.stream import Stream
    from panns_jax.infer.tags import Choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen(ModelOptions):
    """Names what is heard at a microphone, or comes by standard input, while it goes on.

    Every --hop seconds the model hears the latest --window seconds: in the beginning what there is, at the end what has
    come since. Where it is late for sound of a microphone, windows are dropped and counted. Standard input is read at
    the pace of the model instead, and nothing is dropped. It ends with the sound (exit code 0), or by Ctrl-C (130).
    """

    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="-", help_behavior_hint="")] = None
    """- for standard input: a wav file, or raw samples with --raw-rate. Without it a microphone is heard."""

    window: float = 2.0
    """Seconds of sound that the model hears at a time. Longer ones are surer, and forget later."""
    hop: float = 0.5
    """Seconds from one window to the next; at most the window."""
    top: int = 10
    """Number of classes that are shown, the most probable first."""
    min_confidence: float = 0.0
    """Only classes of at least this probability are shown."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CLASS...", help_behavior_hint="")] = ()
    """Only these classes are shown, by name or id; all where none is named."""
    jsonl: bool = False
    """Print a JSON object per window, a line each, instead of the screen: for programs."""

    device: Annotated[str | None, tyro.conf.arg(metavar="NAME|N", help_behavior_hint="")] = None
    """The microphone, by number or a part of its name; the system's default where none is named."""
    devices: bool = False
    """List the microphones, and do nothing else."""
    channel: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """The channel to hear, counted from 1; by default the mean of all, of a microphone that of the first two."""
    realtime: bool = False
    """Take standard input for a microphone: it is read at the pace of the clock, and windows that the model is late for
    are dropped and counted."""
    raw_rate: Annotated[int | None, tyro.conf.arg(metavar="HZ", help_behavior_hint="")] = None
    """Sample rate of raw samples on standard input."""
    raw_format: Literal["s16le", "s24le", "s32le", "f32le"] = "s16le"
    """What a raw sample is: a signed integer or a float, of so many bits, the lowest byte first."""
    raw_channels: int = 1
    """Channels of raw samples."""

    def run(self) -> int:
        """Listens until the sound ends.

        Raises:
          InputError: an option cannot be used, there is no such sound, or it breaks off.
        """
        from panns_jax.infer.windows import Windows

        if self.devices:
            return _list_devices()
        windows = Windows(self.window, self.hop)
        if self.top < 1:
            raise InputError(f"--top must be at least 1, not {self.top}")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"--min-confidence must be from 0 to 1, not {self.min_confidence:g}")
        if self.channel is not None and self.channel < 1:
            raise InputError(f"channels are counted from 1, and there is no channel {self.channel}")
        stream = self._stream()

        from panns_jax.infer.listener import DEFAULT_MODEL
        from panns_jax.infer.live import LiveListener
        from panns_jax.infer.tags import Choice
        from panns_jax.pretrained.load import load_model

        named = DEFAULT_MODEL if self.model is None and self.checkpoint is None else self.model
        model = load_model(named, self.checkpoint, mirror=self.mirror, precision=self.precision)
        labels = model.config.labels
        classes = labels.select(self.classes) if self.classes else None
        choice = Choice(labels, classes, self.top, self.min_confidence)
        listener = LiveListener(model, windows)
        with _told(f"preparing {model.config.name}"):
            listener.prepare()
        self._listen(stream, listener, choice)
        return 0

    def _stream(self) -> "Stream":
        if self.source == "-":
            if self.device is not None:
                raise InputError("--device names a microphone, and - asks for standard input: leave one of them out")
            if sys.stdin.isatty():
                raise InputError(
                    "standard input is the terminal: pipe sound into it, as in arecord | panns-jax listen -"
                )
            from panns_jax.infer.stream import StandardInput

            return StandardInput(raw=self._raw(), channel=self.channel, realtime=self.realtime)
        if self.source is not None:
            raise InputError(
                f"listen hears a microphone or, with -, standard input: name no file ({self.source}), or put it there,"
                f" as in panns-jax listen - < {shlex.quote(self.source)}"
            )
        if self.realtime or self.raw_rate is not None:
            raise InputError("--realtime and --raw-rate are for standard input: panns-jax listen -")
        from panns_jax.infer.microphone import Microphone

        return Microphone(self.device, self.channel)

    def _raw(self) -> "dict[str, Any] | None":
        if self.raw_rate is None:
            return None
        if self.raw_rate < 1 or self.raw_channels < 1:
            raise InputError("--raw-rate and --raw-channels must be at least 1")
        subtype = {"s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}
        return {
            "samplerate": self.raw_rate,
            "channels": self.raw_channels,
            "subtype": subtype[self.raw_format],
            "endian": "LITTLE",
        }

    def _listen(self, stream: "Stream", listener: "LiveListener", choice: "Choice") -> None:
        from panns_jax.infer.live import answers
        from panns_jax.infer.ring import Ring
        from panns_jax.infer.screen import Tally, display

        ring = Ring(listener.windows, listener.config.sample_rate, keeps_all=self.source == "-" and not self.realtime)
        tally = Tally()
        heading = f"{stream.name}, heard by {listener.config.name}: {self.window:g} s every {self.hop:g} s"
        try:
            with display(heading, min(self.top, len(choice.indices)), jsonl=self.jsonl) as screen, stream.into(ring):
                for answer in answers(listener, ring):
                    tally.add(answer)
                    screen.show(answer, choice.tags(answer.clipwise), tally)
        except KeyboardInterrupt:
            print(tally.told(stream.lost), file=sys.stderr)
            raise
        print(tally.told(stream.lost), file=sys.stderr)


def _list_devices() -> int:
    from panns_jax.infer.microphone import input_devices

    lines = input_devices()
    print("\n".join(lines) if lines else "there is no microphone on this machine")
    return 0


@contextlib.contextmanager
def _told(what: str) -> "Any":
    """Tells on a terminal what is going on, which may take a while the first time."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
