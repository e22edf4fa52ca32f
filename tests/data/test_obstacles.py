"""Why a clip cannot be had, from the words of YouTube and the status of servers."""

import io
from typing import Any

import pytest

from panns_jax.data.obstacles import Reason, obstacle_of, reason_of_status, reason_of_words

COOKIES = (
    "Use --cookies-from-browser or --cookies for the authentication. See  "
    "https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies"
)
YOUTUBE = [
    (Reason.REMOVED, "Video unavailable"),
    (Reason.REMOVED, "Video unavailable. This video is no longer available"),
    (Reason.REMOVED, "Video unavailable. This video has been removed by the uploader"),
    (Reason.REMOVED, "This video has been removed for violating YouTube's policy on hate speech."),
    (Reason.REMOVED, "This video has been removed for violating YouTube’s Terms of Service"),
    (Reason.REMOVED, "Video unavailable. This video is no longer available due to a copyright claim by XYZ"),
    (
        Reason.REMOVED,
        "Video unavailable. This video is no longer available because the YouTube account associated with this video "
        "has been terminated.",
    ),
    (Reason.REMOVED, "Video unavailable. This video is no longer available because the uploader has closed their "
     "YouTube account."),
    (Reason.REMOVED, "This video does not exist."),
    (Reason.REMOVED, "This video is not available"),
    (Reason.REMOVED, "This video isn’t available anymore"),
    (Reason.REMOVED, "This live stream recording is not available."),
    (Reason.PRIVATE, f"Private video. Sign in if you've been granted access to this video. {COOKIES}"),
    (Reason.PRIVATE, "This video is private. If the owner of this video has granted you access, please sign in."),
    (Reason.GEO_BLOCKED, "The uploader has not made this video available in your country"),
    (Reason.GEO_BLOCKED, "Video unavailable. The uploader has not made this video available in your country"),
    (
        Reason.GEO_BLOCKED,
        "Video unavailable. This video contains content from SME, who has blocked it in your country on copyright "
        "grounds",
    ),
    (Reason.GEO_BLOCKED, "This video is not available from your location due to geo restriction"),
    (Reason.SIGN_IN, f"Sign in to confirm your age. This video may be inappropriate for some users. {COOKIES}"),
    (Reason.SIGN_IN, "Join this channel to get access to members-only content like this video, and other perks."),
    (Reason.SIGN_IN, "This video is available to this channel's members on level: Fan (or any higher level)."),
    (Reason.SIGN_IN, "This video requires payment to watch."),
    (Reason.SIGN_IN, "This video is only available to Music Premium members"),
    (Reason.SIGN_IN, "This video is only available for registered users"),
    (Reason.NETWORK, f"Sign in to confirm you’re not a bot. {COOKIES}"),
    (Reason.NETWORK, "Video unavailable. This content isn't available, try again later. The current session has been "
     "rate-limited by YouTube for up to an hour."),
    (Reason.NETWORK, "Something went wrong. YouTube is requiring a captcha challenge before playback"),
    (Reason.NETWORK, "The page needs to be reloaded."),
    (Reason.OTHER, "Video unavailable. This content isn’t available."),
    (Reason.OTHER, "Video unavailable. Playback on other websites has been disabled by the video owner"),
    (Reason.OTHER, "Requested format is not available. Use --list-formats for a list of available formats"),
    (Reason.OTHER, "Premieres in 2 hours"),
    (Reason.OTHER, "This video is DRM protected"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "words"), YOUTUBE, ids=lambda value: str(value)[:60])
def test_what_youtube_says_is_sorted(reason, words):
    assert reason_of_words(words) is reason


@pytest.mark.parametrize(("reason", "words"), YOUTUBE, ids=lambda value: str(value)[:60])
def test_an_error_as_yt_dlp_raises_it_is_sorted_and_told_without_advice(reason, words):
    utils = pytest.importorskip("yt_dlp.utils", reason="needs the package yt-dlp")
    import yt_dlp
    from yt_dlp.extractor.common import InfoExtractor

    class YoutubeIE(InfoExtractor):
        _VALID_URL = "clip:.*"

        def _real_extract(self, url) -> Any:
            self.raise_no_formats(words, expected=True, video_id="-abc")

    with yt_dlp.YoutubeDL({"quiet": True, "logger": _Silent()}, auto_init=False) as downloader:  # pyright: ignore
        downloader.add_info_extractor(YoutubeIE())
        with pytest.raises(utils.DownloadError) as raised:
            downloader.extract_info("clip:abc")
    obstacle = obstacle_of(raised.value)
    assert obstacle.reason is reason
    assert obstacle.message.startswith("[Youtube] -abc: ") and "--" not in obstacle.message


class _Silent:
    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def test_a_geo_restriction_is_known_by_its_kind():
    utils = pytest.importorskip("yt_dlp.utils", reason="needs the package yt-dlp")
    error = utils.GeoRestrictedError("Nur für Zuschauer in Japan", countries=["JP"])
    wrapped = utils.DownloadError("ERROR: Nur für Zuschauer in Japan", (type(error), error, None))
    assert obstacle_of(wrapped).reason is Reason.GEO_BLOCKED


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, Reason.REMOVED),
        (410, Reason.REMOVED),
        (401, Reason.SIGN_IN),
        (403, Reason.PRIVATE),
        (451, Reason.GEO_BLOCKED),
        (429, Reason.NETWORK),
        (500, Reason.NETWORK),
        (503, Reason.NETWORK),
        (418, Reason.OTHER),
    ],
)
def test_the_status_of_a_mirror_is_sorted(code, reason):
    assert reason_of_status(code) is reason


@pytest.mark.parametrize("code", [403, 404])
def test_a_status_with_which_youtube_refuses_us_says_nothing_of_the_video(code):
    utils = pytest.importorskip("yt_dlp.utils", reason="needs the package yt-dlp")
    from yt_dlp.networking import Response
    from yt_dlp.networking.exceptions import HTTPError

    refusal = HTTPError(Response(io.BytesIO(), "https://x", {}, status=code))
    on_page = utils.ExtractorError("Unable to download API page", cause=refusal, ie="youtube", video_id="a")
    amidst = utils.DownloadError(f"ERROR: unable to download video data: {refusal}", (HTTPError, refusal, None))
    for error in (utils.DownloadError("ERROR", (type(on_page), on_page, None)), amidst):
        assert obstacle_of(error).reason is Reason.NETWORK


def test_only_what_may_pass_is_tried_again():
    assert [reason for reason in Reason if not reason.final] == [Reason.NETWORK, Reason.OTHER]
