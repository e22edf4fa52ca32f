"""Why a clip cannot be had from the web: what yt-dlp and servers say, sorted into few reasons."""

import enum
import re
from collections.abc import Iterator


class Reason(enum.StrEnum):
    """Why a clip could not be had."""

    REMOVED = "removed"
    PRIVATE = "private"
    GEO_BLOCKED = "geo-blocked"
    NO_AUDIO = "no audio"
    SIGN_IN = "sign-in"
    """Only for those who sign in: age-restricted, for members, for money."""
    NETWORK = "network"
    """The connection, a server that is overloaded, or one that has had enough of us: passes, so it is tried again."""
    OTHER = "other"

    @property
    def final(self) -> bool:
        """Whether trying again later is in vain."""
        return self not in (Reason.NETWORK, Reason.OTHER)


class Obstacle(Exception):
    """A clip cannot be had.

    Attributes:
      reason: in a word.
      message: in a sentence, as the source told it.
      wait: seconds that the server asked for before the next try; None where it did not.
    """

    def __init__(self, reason: Reason, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.wait = wait


# In this order: what is further up is said in more words, among them some of those further down.
_WORDS = tuple(
    (reason, re.compile(words, re.IGNORECASE))
    for reason, words in (
        (
            Reason.NETWORK,
            r"not a bot|captcha|rate.?limited|try again later|too many requests|page needs to be reloaded"
            r"|timed? ?out|temporary failure|connection (reset|refused|aborted)|failed to resolve|content too short"
            r"|bytes read|got error|unable to download (api|webpage)|unable to download video data",
        ),
        (Reason.OTHER, r"playback on other websites|requested format|premieres? in|live event will begin|DRM"),
        (Reason.PRIVATE, r"private video|video is private"),
        (Reason.GEO_BLOCKED, r"geo.?restrict|(in|from) your (country|region|location)"),
        (
            Reason.SIGN_IN,
            r"confirm your age|age.restricted|inappropriate for some users|members.only|join this channel"
            r"|members on level|requires payment|rent(al)?\b|purchase|music premium|registered users|log ?in|sign ?in",
        ),
        (Reason.NO_AUDIO, r"no (audio|sound)"),
        # Of all videos, when YouTube has blocked a network; of single ones, too, as of late.
        (Reason.OTHER, r"content isn't available"),
        (
            Reason.REMOVED,
            r"removed|deleted|terminated|no longer available|(does not|doesn't) exist|account.*closed"
            r"|copyright (claim|grounds)|video (is |isn't )?(unavailable|not available|available)"
            r"|recording is not available",
        ),
    )
)


def reason_of_words(message: str) -> Reason:
    """Sorts an error of yt-dlp's by its words, which are YouTube's mostly."""
    message = message.replace("’", "'")
    return next((reason for reason, words in _WORDS if words.search(message)), Reason.OTHER)


def reason_of_status(status: int) -> Reason:
    """Sorts the HTTP status with which a mirror refuses a file."""
    if status in (404, 410):
        return Reason.REMOVED
    if status in (401, 402):
        return Reason.SIGN_IN
    if status == 403:
        return Reason.PRIVATE
    if status == 451:
        return Reason.GEO_BLOCKED
    return Reason.NETWORK if status in (408, 425, 429) or status >= 500 else Reason.OTHER


def obstacle_of(error: Exception) -> Obstacle:
    """Sorts an error that yt-dlp raised.

    YouTube tells in words that a video is gone, in answers with status 200; a status that refuses is aimed at us there,
    and passes. So it is with any server that refuses amidst the sound, whose page it has given us.
    """
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import ExtractorError, GeoRestrictedError

    causes = list(_causes(error))
    message = _sentence(error)
    if any(isinstance(cause, GeoRestrictedError) for cause in causes):
        return Obstacle(Reason.GEO_BLOCKED, message)
    answers = [cause for cause in causes if isinstance(cause, HTTPError)]
    if answers:
        extractors = [cause.ie for cause in causes if isinstance(cause, ExtractorError)]
        told = bool(extractors) and "youtube" not in str(extractors[0]).lower()
        reason = reason_of_status(answers[0].status) if told else Reason.NETWORK
        wait = _seconds(answers[0].response.headers.get("Retry-After"))
        for answer in answers:
            answer.close()  # else its connection stays open until the collector finds it
        return Obstacle(reason, message, wait)
    if any(isinstance(cause, TransportError) for cause in causes):
        return Obstacle(Reason.NETWORK, message)
    return Obstacle(reason_of_words(message), message)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it came from, the outermost first."""
    seen: set[int] = set()
    waiting: list[object] = [error, error.__context__]  # yt-dlp carries on the innermost, and raises from within
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            carried = getattr(cause, "exc_info", None) or (None, None)
            waiting += [carried[1], getattr(cause, "cause", None), cause.__cause__]


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ADVICE = re.compile(r"(; please report this issue on|\s*\(caused by |\. *Use --| *Use --cookies).*", re.DOTALL)


def _sentence(error: Exception) -> str:
    """What an error says, on one line, without the advice for those who run yt-dlp by hand."""
    told = _COLOURS.sub("", str(error)).removeprefix("ERROR: ")
    return " ".join(_ADVICE.sub("", told).split()) or type(error).__name__


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.strip().isdecimal() else None
