"""One file over HTTP, whatever cuts the connection: what has come is kept, and the rest is asked for.

pooch does the transfer; what it lacks, going on with a part, is here: a hook that sees each response before its content
decides where that content goes.
"""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from panns_jax.errors import InputError

# Imported where they are used: urllib3 changes the filters of warnings.
if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as cut."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the attempts after one that brought nothing."""
UNREACHABLE_WAITS = WAITS[:1]
"""The same where no server answers at all, as without a network."""

CHUNK = 1 << 15
"""Bytes that are written at a time; of a connection that is cut, what came beyond a multiple of them is lost."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_PASSING = (408, 425, 429, 500, 502, 503, 504)

Report = Callable[[int, int | None, str], None]
"""Told the bytes that are there, the bytes that there are to be where known, and a note such as "trying again"."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What a part is a part of.

    Attributes:
      url: where it comes from.
      total: bytes of the whole; None where the server does not tell.
      etag: the server's mark of this content, if it is a strong one.
      modified: when the content was last modified, as the server tells.
    """

    url: str
    total: int | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes."""
        return self.etag or self.modified

    def agrees(self, other: "Source") -> bool:
        """Whether nothing that both know differs."""
        mine, its = dataclasses.astuple(self), dataclasses.astuple(other)
        return all(None in (one, another) or one == another for one, another in zip(mine, its, strict=True))


class Part:
    """A file that is not whole yet, and beside it (`.json`) what it is a part of: both outlive the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._description = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def source(self) -> Source | None:
        """What it is a part of, where that is known."""
        try:
            return Source(**json.loads(self._description.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, source: Source) -> IO[bytes]:
        """Empties it for content from `source`."""
        self.path.write_bytes(b"")  # first, so that no content is ever said to be of another source
        self._description.write_text(json.dumps(dataclasses.asdict(source)), encoding="utf-8")
        return self.path.open("ab", buffering=0)

    def remove(self) -> None:
        """Removes both files."""
        self.path.unlink(missing_ok=True)
        self._description.unlink(missing_ok=True)


class _Interrupted(Exception):
    """An attempt that another one may better; `waits` are the pauses between such attempts."""

    def __init__(self, reason: str, waits: tuple[float, ...] | None = None, least: float = 0.0) -> None:
        super().__init__(reason)
        self.waits = WAITS if waits is None else waits
        self.least = least


class _Complete(Exception):
    """The server says that what is there is all that there is."""


def download(url: str, part: Part, *, size: int | None, trusting: bool, report: Report) -> bool:
    """Completes a file, from what is there of it.

    Args:
      url: of the file, http or https.
      part: what is there of it; everything in the end.
      size: bytes that the file has to have; None where that is not known.
      trusting: whether to go on with a part of which the server gives no mark of its content. Only where a hash of the
        whole is compared afterwards.
      report: told of the progress.

    Returns:
      Whether all of it came in one answer; else it may be put together of what was different content.

    Raises:
      InputError: the server cannot be reached, does not have the file, has another one, or cuts the connection again
        and again; or the disk is full.
    """
    furthest = failures = 0
    while True:
        try:
            return _attempt(url, part, size, trusting, report)
        except _Interrupted as interruption:
            # A connection that is always cut gets there in the end, as long as every attempt brings something.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures > len(interruption.waits):
                raise InputError(f"{url}: {interruption}") from interruption
            report(part.size, None, "trying again")
            time.sleep(max(interruption.waits[failures - 1], interruption.least))


def _attempt(url: str, part: Part, size: int | None, trusting: bool, report: Report) -> bool:
    import requests
    import urllib3.exceptions
    from pooch import HTTPDownloader

    known = part.source()
    if known is None or known.url != url or not (known.validator or trusting):
        known = Source(url)
        part.remove()
    if known.total is not None and part.size == known.total:
        return False
    transfer = _Transfer(part, known, size, report)
    downloader = HTTPDownloader(
        chunk_size=CHUNK,
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        headers=_headers(known, part.size),
        hooks={"response": transfer.begin},
    )
    try:
        downloader(url, transfer, None)
    except _Complete:
        return False
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _told(url, error) from error
    except OSError as error:
        part.remove()  # it would keep the disk full
        raise InputError(f"cannot write {part.path}: {error.strerror or error}") from error
    finally:
        transfer.close()
    if transfer.total is not None and part.size != transfer.total:
        raise _Interrupted(f"the connection ended after {part.size} of {transfer.total} bytes")
    return transfer.whole


def _headers(known: Source, start: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.validator:
            headers["If-Range"] = known.validator
    return headers


class _Transfer:
    """The file that pooch writes to; where its content belongs is known once there is a response."""

    def __init__(self, part: Part, known: Source, size: int | None, report: Report) -> None:
        self.total: int | None = None
        self.whole = False
        self._part = part
        self._known = known
        self._size = size
        self._report = report
        self._file: IO[bytes] | None = None
        self._response: requests.Response | None = None

    def begin(self, response: "requests.Response", **_: Any) -> None:
        """Looks at a response's headers; its content comes afterwards.

        Raises:
          InputError: it is not the file.
          _Interrupted: it is not what goes on where the part ends.
          _Complete: there is no more to come.
        """
        self._response = response
        if response.is_redirect or (response.status_code >= 400 and response.status_code != 416):
            return  # followed, or raised, by requests
        match response.status_code:
            case 200:
                source = _source(self._known.url, response)
                self._require_size(source.total, response)
                self._file = self._part.begin(source)
                self.whole = True
            case 206 | 416:
                source = self._continued(response)
                self._file = self._part.path.open("ab", buffering=0)
            case code:
                raise InputError(f"{self._known.url}: answers {code} ({response.reason}) instead of the file")
        self.total = source.total
        self._report(self._part.size, self.total, "")

    def write(self, content: bytes) -> None:
        """Appends to the part."""
        assert self._file is not None
        if not self._part.size and content.lstrip()[:1] == b"<":
            raise _web_page(self._known.url)
        while content:  # a write may be a short one, on a disk that is nearly full
            content = content[self._file.write(content) :]
        self._report(self._part.size, self.total, "")

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Closes file and connection."""
        if self._file is not None:
            self._file.close()
        if self._response is not None:
            self._response.close()

    def _continued(self, response: "requests.Response") -> Source:
        told = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        source = _source(self._known.url, response, total=int(told[2]) if told else None)
        start = self._part.size
        if told and self._known.agrees(source):
            if response.status_code == 416 and start == source.total:
                raise _Complete
            if response.status_code == 206 and told[1] == str(start):
                self._require_size(source.total, response)
                return source
        self._part.remove()
        raise _Interrupted("what it gives changes while it is downloaded")

    def _require_size(self, total: int | None, response: "requests.Response") -> None:
        if total is None or self._size is None or total == self._size:
            return
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _web_page(self._known.url)
        raise InputError(f"{self._known.url}: has {total} bytes, where the released file has {self._size}")


def _source(url: str, response: "requests.Response", total: int | None = None) -> Source:
    headers = response.headers
    length = headers.get("Content-Length")
    if length is not None and not length.isdecimal():
        raise InputError(f"{url}: answers with a Content-Length that is no number")
    if headers.get("Content-Encoding", "identity") != "identity":
        return Source(url)  # neither lengths nor ranges are those of the file
    if total is None and response.status_code == 200 and length is not None:
        total = int(length)
    etag = headers.get("ETag")
    return Source(url, total, None if etag is None or etag.startswith("W/") else etag, headers.get("Last-Modified"))


def _web_page(url: str) -> InputError:
    return InputError(f"{url}: gives a web page instead of the file")


def _told(url: str, error: Exception) -> Exception:
    """What went wrong, for people: an _Interrupted where another attempt may help, else an InputError."""
    import requests
    import urllib3.exceptions

    if isinstance(error, requests.HTTPError) and error.response is not None:
        response = error.response
        answer = f"answers {response.status_code} ({response.reason})"
        if response.status_code in _PASSING:
            after = response.headers.get("Retry-After", "")
            return _Interrupted(answer, least=min(float(after), 60) if after.isdecimal() else 0)
        return InputError(f"{url}: {answer}")
    causes = set(_causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if has(urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
        whose = "its proxy" if isinstance(error, requests.exceptions.ProxyError) else "the server"
        why = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "no answer")
        return _Interrupted(f"{whose} cannot be reached ({why})", UNREACHABLE_WAITS)
    if has(requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        return InputError(f"{url}: the server's certificate is not accepted, or it speaks no TLS")
    if has(requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return _Interrupted(f"sends nothing for {READ_TIMEOUT:g} seconds")
    if has(urllib3.exceptions.ProtocolError):
        return _Interrupted("the connection is cut again and again")
    return InputError(f"{url}: cannot be downloaded: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was made of."""
    if error is not None:
        yield error
        inner = {getattr(error, "reason", None), error.__cause__, *error.args}
        for cause in inner - {error}:
            yield from _causes(cause if isinstance(cause, BaseException) else None)
