"""`panns-jax download`: the clips of a segments csv from the web, as exact wav files."""

import collections
import contextlib
import dataclasses
import functools
import math
import os
import shutil
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.errors import InputError
from panns_jax.execute import Engine, Outcome, available_workers, counted, for_each, tell_nodes

if TYPE_CHECKING:
    from panns_jax.data.journal import Journal
    from panns_jax.data.metadata import Segment
    from panns_jax.data.youtube import Fetched, Manner

YOUTUBE = "https://www.youtube.com/watch?v={id}"
_SHOWN = 10
_WAV_HEADER = 44  # bytes
_PARTS = ".parts-"
# Outcomes are small: a clip that is waited for long must not keep other workers idle.
_AHEAD = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """Downloads the clips of a segments csv: the best sound there is, its exact seconds, mono, 32 kHz, 16 bits.

    A clip becomes OUT/Y<id>.wav. What is there is not fetched again, so that an interrupted download is gone on with by
    starting it again. What became of each clip stands in OUT/journal.jsonl; clips that are removed, private,
    geo-blocked, without sound or for those who sign in are not asked for again.
    """

    csv: Path
    """Segments csv, as AudioSet publishes: ID, 0.000, 10.000, "/m/09x0r,/m/05zppz"."""
    out: Path
    """Folder of the clips; made where there is none. In a cluster, one that all machines share."""
    url_template: str = YOUTUBE
    """Address of a clip, with {id} in the place of its id: a page or file that yt-dlp can do with."""
    retry_failed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask again also for clips that failed for good."""
    rate_limit: float | None = None
    """Bytes per second that all downloads take together; without limit by default."""
    pause: float = 1.0
    """Seconds that each worker waits between requests, half as long to one and a half times as long."""
    retries: int = 5
    """How often a clip is asked for again after an error that may pass, such as of the network."""
    back_off: float = 2.0
    """Seconds before the first of these; doubled for each further one, up to five minutes."""
    workers: int | None = None
    """Clips at work at a time, 0 for no processes; as many as there are processor cores, here or in the cluster, by
    default."""
    engine: Engine = "local"
    """local: processes of this machine; ray: a cluster."""
    address: str | None = None
    """Of the Ray cluster, auto or host:port; without it, Ray is started on this machine."""

    def run(self) -> int:
        """Downloads and tells what became of the clips; 1 where some are not there."""
        report = download(
            self.csv,
            self.out,
            url_template=self.url_template,
            retry_failed=self.retry_failed,
            rate_limit=self.rate_limit,
            pause=self.pause,
            retries=self.retries,
            back_off=self.back_off,
            workers=self.workers,
            engine=self.engine,
            address=self.address,
        )
        _tell(report, self.out)
        return 1 if report.failed else 0


@dataclasses.dataclass(frozen=True, slots=True)
class DownloadReport:
    """What became of the clips of a segments csv.

    Attributes:
      fetched: number of clips that were downloaded.
      present: number of clips that were there already.
      failed: the clips that are not there, and why; those that were not asked for again among them.
      passed_over: how many these are.
      nodes: clips that each machine of a cluster worked on; empty without one.
    """

    fetched: int
    present: int
    failed: "dict[str, Fetched]"
    passed_over: int
    nodes: dict[str, int]


def download(
    segments_csv: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    url_template: str = YOUTUBE,
    retry_failed: bool = False,
    rate_limit: float | None = None,
    pause: float = 1.0,
    retries: int = 5,
    back_off: float = 2.0,
    workers: int | None = 0,
    engine: Engine = "local",
    address: str | None = None,
) -> DownloadReport:
    """Fetches what is not there of the clips of a csv; the options are those of `Download`.

    Raises:
      InputError: an option or the csv is wrong, a program or package is missing, another process downloads into the
        same folder, or it cannot be written to.
    """
    from panns_jax.data.journal import Journal
    from panns_jax.data.metadata import read_segments
    from panns_jax.data.youtube import fetch_clip
    from panns_jax.files import alone, make_folder

    if rate_limit is not None and engine == "ray" and workers is None:
        raise InputError("--rate-limit in a cluster is shared among its --workers: say how many")
    manner = _manner(url_template, rate_limit, pause, retries, back_off, workers)
    segments = read_segments(segments_csv)
    if not segments:
        raise InputError(f"{segments_csv}: holds no segments")
    out = Path(out).absolute()  # the nodes of a cluster have working folders of their own
    make_folder(out)
    with alone(out / ".lock", f"another process downloads into {out}"), _parts_folder(out) as parts:
        missing = _missing(segments, out)
        failed = {} if retry_failed else _failed_for_good(out)
        wanted = [segment for segment in missing if segment.clip_id not in failed]
        passed_over = len(missing) - len(wanted)
        nodes: dict[str, int] = {}
        fetch = functools.partial(fetch_clip, out=out, parts=parts, manner=manner)
        with (
            Journal(out) as journal,
            for_each(
                fetch,
                wanted,
                workers=workers,
                task="downloading",
                unit="clips",
                engine=engine,
                address=address,
                ahead=_AHEAD,
                failures_in=_is_failed,
            ) as outcomes,
        ):
            failures = _record(counted(outcomes, nodes), journal, out)
    failed |= failures
    return DownloadReport(
        fetched=len(wanted) - len(failures),
        present=len(segments) - len(missing),
        failed={segment.clip_id: failed[segment.clip_id] for segment in missing if segment.clip_id in failed},
        passed_over=passed_over,
        nodes=nodes,
    )


def _record(outcomes: "Iterator[Outcome[Segment, Fetched]]", journal: "Journal", out: Path) -> "dict[str, Fetched]":
    """Enters what becomes of the clips into the journal; returns the failures."""
    failures: dict[str, Fetched] = {}
    for outcome in outcomes:
        clip = outcome.item
        if outcome.result is None:  # nothing to do with this clip: the next ones would fare no better
            raise InputError(outcome.failure or "")
        if outcome.result.reason is not None:
            failures[clip.clip_id] = outcome.result
        elif outcome.node and not (out / clip.audio_name).exists():
            raise InputError(f"{outcome.node} wrote a clip that is not seen here: --out {out} must be shared by all")
        journal.enter(clip.clip_id, outcome.result, outcome.node)
    return failures


def _is_failed(fetched: "Fetched | None") -> bool:
    return fetched is not None and fetched.reason is not None


def _failed_for_good(out: Path) -> "dict[str, Fetched]":
    from panns_jax.data.journal import read_failures

    return {name: failure for name, failure in read_failures(out).items() if failure.reason and failure.reason.final}


def _manner(
    url_template: str, rate_limit: float | None, pause: float, retries: int, back_off: float, workers: int | None
) -> "Manner":
    from panns_jax.data.youtube import Manner

    address = urllib.parse.urlsplit(url_template)
    if "{id}" not in url_template or address.scheme not in ("http", "https") or not address.netloc:
        raise InputError(f"--url-template must be an address with {{id}} in it, such as {YOUTUBE}, not {url_template}")
    if rate_limit is not None and not 0 < rate_limit < math.inf:
        raise InputError(f"--rate-limit must be more than 0 bytes per second, not {rate_limit:g}")
    for option, seconds in (("--pause", pause), ("--back-off", back_off)):
        if not 0 <= seconds < math.inf:
            raise InputError(f"{option} must be 0 seconds or more, not {seconds:g}")
    if retries < 0:
        raise InputError(f"--retries must be 0 or more, not {retries}")
    together = max(1, available_workers() if workers is None else workers)
    return Manner(
        url_template=url_template,
        rate_limit=rate_limit and rate_limit / together,
        pause=pause,
        retries=retries,
        back_off=back_off,
    )


@contextlib.contextmanager
def _parts_folder(out: Path) -> Iterator[Path]:
    """A folder for what is unfinished; that of a process which was killed is removed."""
    for abandoned in out.glob(f"{_PARTS}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    try:
        parts = out / f"{_PARTS}{uuid.uuid4().hex}"
        parts.mkdir()
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to: {error.strerror}") from error
    try:
        yield parts
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _missing(segments: "Sequence[Segment]", out: Path) -> "list[Segment]":
    """The clips without a file. An empty file, as other programs leave them, is none."""
    try:
        with os.scandir(out) as entries:  # one listing: asking for millions of names one by one is slow
            there = {
                entry.name for entry in entries if entry.name.endswith(".wav") and entry.stat().st_size > _WAV_HEADER
            }
    except OSError as error:
        raise InputError(f"--out {out}: cannot be listed: {error.strerror}") from error
    return [segment for segment in segments if segment.audio_name not in there]


def _tell(report: DownloadReport, out: Path) -> None:
    total = report.fetched + report.present + len(report.failed)
    there = f"; {report.present} were there already" if report.present else ""
    print(f"downloaded {report.fetched} of {total} clips into {out}{there}")
    tell_nodes(report.nodes)
    if not report.failed:
        return
    reasons = collections.Counter(str(fetched.reason) for fetched in report.failed.values())
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    print(f"{len(report.failed)} are missing ({counts}); {out / 'journal.jsonl'} tells why:")
    for clip_id, fetched in list(report.failed.items())[:_SHOWN]:
        print(f"  {clip_id}: {fetched.reason}: {fetched.message}")
    if len(report.failed) > _SHOWN:
        print(f"  and {len(report.failed) - _SHOWN} more")
    if report.passed_over:
        print(f"{report.passed_over} of them failed for good before and were not asked for; --retry-failed does")
