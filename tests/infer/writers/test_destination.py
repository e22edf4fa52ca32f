"""Each sound has a file of its own, at a place that can be foretold."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.infer.writers.destination import format_by_ending, names_folder, paths_below

OUT = Path("out")


def test_sounds_of_one_name_and_two_formats_have_files_of_their_own():
    assert paths_below(OUT, ["a.wav", "a.flac"], ".csv") == {"a.wav": OUT / "a.wav.csv", "a.flac": OUT / "a.flac.csv"}


def test_the_tree_below_a_folder_is_kept():
    names = ["recordings/north/a.wav", "recordings/south/a.wav", "recordings/b.wav"]
    expected = [OUT / "north/a.wav.txt", OUT / "south/a.wav.txt", OUT / "b.wav.txt"]
    assert list(paths_below(OUT, names, ".txt", [Path("recordings")]).values()) == expected
    assert list(paths_below(OUT, names, ".txt").values()) == expected


def test_what_is_below_a_folder_has_its_place_whatever_else_is_there():
    assert paths_below(OUT, ["r/north/a.wav"], ".txt", [Path("r")]) == {"r/north/a.wav": OUT / "north/a.wav.txt"}
    assert paths_below(OUT, ["r/north/a.wav"], ".txt") == {"r/north/a.wav": OUT / "a.wav.txt"}


def test_no_file_is_written_outside_of_the_folder():
    paths = paths_below(OUT, ["/recordings/a.wav", "../b.wav", "x/../../c.wav", "d.wav"], ".csv")
    assert all(".." not in path.parts and path.is_relative_to(OUT) for path in paths.values())
    assert len(set(paths.values())) == 4


@given(st.sets(st.text("ab./", min_size=1, max_size=8).map(lambda name: name + "x.wav"), min_size=1, max_size=6))
def test_different_sounds_never_share_a_file(names: set[str]):
    places = {re.sub("^/+", "/", str(Path(name).resolve())) for name in names}
    paths = paths_below(OUT, names, ".csv")
    assert set(paths) == names
    assert len(set(paths.values())) == len(places)
    assert all(path.is_relative_to(OUT) and ".." not in path.parts for path in paths.values())


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("tags.csv", "csv"),
        ("tags.CSV", "csv"),
        ("a.b/tags.json", "json"),
        ("tags.jsonl", "jsonl"),
        ("tags.parquet", "parquet"),
        ("tags.txt", "text"),
        ("street.labels.txt", "audacity"),
        ("street.selections.txt", "raven"),
        ("labels.txt", "text"),
    ],
)
def test_the_ending_tells_the_format(name: str, format: str):
    assert format_by_ending(name) == format


def test_an_ending_that_tells_no_format_is_refused_with_those_that_do():
    with pytest.raises(InputError, match=r"--out tags.xls: its ending tells no format; let it end in \.csv, \.json,"):
        format_by_ending("tags.xls")


def test_a_folder_is_one_that_is_there_or_ends_as_one(tmp_path: Path):
    (tmp_path / "file").touch()
    assert names_folder(str(tmp_path)) and names_folder("new/")
    assert not names_folder("new") and not names_folder(str(tmp_path / "file")) and not names_folder("x" * 300)
