"""Segments csv files and black lists."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.data.metadata import PUBLISHED_BLACK_LIST, Segment, read_black_list, read_segments, segment_targets
from panns_jax.errors import InputError
from panns_jax.labels import audioset

HEAD = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)


@pytest.fixture
def segments_file(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "segments.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_published_segments_file_is_read(segments_file):
    path = segments_file(
        HEAD + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n-0vPFx-wRRI, 0.000, 10.000, "/m/05zppz"\n'
    )
    labels = audioset()
    assert read_segments(path) == [
        Segment("--PJHxphWEs", 30.0, 40.0, (0, labels.ids.index("/t/dd00088"))),
        Segment("-0vPFx-wRRI", 0.0, 10.0, (1,)),
    ]
    assert read_segments(path)[0].audio_name == "Y--PJHxphWEs.wav"


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff# head\nabc, 0, 10, "/m/09x0r,/m/05zppz"',
        '# head\r\nabc, 0, 10, "/m/09x0r,/m/05zppz"\r\n\r\n',
        '"abc",0.0,10.0,"/m/09x0r, /m/05zppz"\n',
        '\n  abc ,\t0 , 10 , "/m/09x0r,/m/05zppz,/m/09x0r" \n   \n# tail\n',
    ],
    ids=["byte order mark", "CRLF and a blank line", "quoted id, no blanks", "blanks everywhere, a label twice"],
)
def test_variants_of_the_format_read_alike(segments_file, text):
    assert read_segments(segments_file(text)) == [Segment("abc", 0.0, 10.0, (0, 1))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abc, 0, 10", "expected ID, start, end"),
        ("abc, 0, 10, /m/09x0r, /m/05zppz", "found 5"),
        ('abc, 0, 10, "/m/09x0r', "unexpected end of data"),
        ("abc, zero, 10, /m/09x0r", "'zero' is no time in seconds"),
        ("abc, nan, 10, /m/09x0r", "'nan' is no time in seconds"),
        ("abc, 10, 10, /m/09x0r", "ends at 10 s, not after its start at 10 s"),
        ("abc, 0, 10, /m/nothing", "the label '/m/nothing' is none of the 527 classes of audioset"),
        ('abc, 0, 10, ""', "the clip abc has no labels"),
        (", 0, 10, /m/09x0r", "'' is no clip id"),
        ("../abc, 0, 10, /m/09x0r", "'../abc' is no clip id"),
        (R"a\bc, 0, 10, /m/09x0r", R"'a\\bc' is no clip id"),
        ("a bc, 0, 10, /m/09x0r", "'a bc' is no clip id"),
        ("a\u2003bc, 0, 10, /m/09x0r", R"'a\u2003bc' is no clip id"),
        ("a\0bc, 0, 10, /m/09x0r", "is no clip id"),
        ('first, 0, 10, "/m/09x0r"', "the clip first is in line 2 already"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(segments_file, line, message):
    path = segments_file(f'# head\nfirst, 0, 10, "/m/09x0r"\n\n{line}\n')
    with pytest.raises(InputError) as error:
        read_segments(path)
    assert str(error.value).startswith(f"{path}, line 4: ")
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", None], ids=["binary", "missing"])
def test_a_file_that_is_no_text_is_named(segments_file, tmp_path, content):
    path = tmp_path / "none.csv" if content is None else segments_file(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_segments(path)


CLIP_IDS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=11)
# Plain tuples: the type checks of the project's classes draw random numbers, which strategies must not.
ROWS = st.lists(
    st.tuples(
        CLIP_IDS,
        st.integers(0, 20_000),
        st.integers(1, 10),
        st.lists(st.integers(0, 526), min_size=1, max_size=6, unique=True),
    ),
    unique_by=lambda row: row[0],
    max_size=20,
)


@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_what_is_written_as_published_is_read_back(tmp_path_factory, rows, newline, mark, quote_ids):
    segments = [
        Segment(name, float(start), float(start + length), tuple(labels)) for name, start, length, labels in rows
    ]
    ids = audioset().ids
    quote = '"' if quote_ids else ""
    lines = [
        f'{quote}{s.clip_id}{quote}, {s.start:.3f}, {s.end:.3f}, "{",".join(ids[label] for label in s.labels)}"\n'
        for s in segments
    ]
    path = tmp_path_factory.mktemp("round_trip") / "segments.csv"
    path.write_bytes(("\ufeff" * mark + (HEAD + "".join(lines)).replace("\n", newline)).encode())
    assert read_segments(path) == segments


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_by_name(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "segments.csv"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read_segments(path)
    except InputError as error:
        assert str(path) in str(error)


def test_targets_hold_each_label_of_each_clip():
    targets = segment_targets([Segment("a", 0, 10, (2, 0)), Segment("b", 0, 10, (1,))], 4)
    assert targets.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_the_published_black_list_is_shipped():
    ids = read_black_list()
    assert len(ids) == 1591
    assert {"-lTs1dxhU", "--lTs1dxhU$"} & ids == set() and "---lTs1dxhU" in ids
    assert PUBLISHED_BLACK_LIST.name == "dcase2017task4_blacklist.txt"


def test_a_black_list_names_clips_by_id_or_by_file(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# no such clips\n--330hg-Ocw\nY--73E04RpiQ.wav\nY-0w1YA1Hm4A\nYbeginsWith_\n\nYtone.wav\nYes\n")
    assert read_black_list(path) == {"--330hg-Ocw", "--73E04RpiQ", "-0w1YA1Hm4A", "beginsWith_", "tone", "Yes"}


def test_an_id_that_begins_with_y_keeps_it(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("Y2345678901\n")
    assert read_black_list(path) == {"Y2345678901"}


def test_a_line_of_a_black_list_with_more_than_an_id_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("abc\nabc, 0, 10\n")
    with pytest.raises(InputError, match=r"list\.txt, line 2: expected one clip id"):
        read_black_list(path)
