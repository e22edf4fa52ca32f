"""`panns-jax split`: part files of a segments csv."""

import pytest

from panns_jax.data.metadata import read_segments
from panns_jax.data.split import split
from panns_jax.errors import InputError

HEAD = [
    "# Segments csv created Sun Mar  5 10:56:58 2017",
    "# num_ytids=7",
    "# YTID, start_seconds, end_seconds, positive_labels",
]
ROWS = [f'-id{number}, 30.000, 40.000, "/m/09x0r,/m/05zppz"' for number in range(7)]


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "unbalanced_train_segments.csv"
    path.write_text("\n".join([*HEAD, *ROWS, ""]))
    return path


def test_parts_have_the_published_names_and_all_head_lines(csv, tmp_path, run_task):
    out = tmp_path / "parts"
    done = run_task("split", "--csv", csv, "--out", out, "--rows-per-part", 3)
    assert (done.returncode, done.stderr) == (0, "")
    names = [f"unbalanced_train_segments_part0{number}.csv" for number in range(3)]
    assert sorted(path.name for path in out.iterdir()) == names
    for number, name in enumerate(names):
        assert (out / name).read_text().splitlines() == HEAD + ROWS[3 * number : 3 * number + 3]
    assert [segment for name in names for segment in read_segments(out / name)] == read_segments(csv)
    assert "into 3 of 3 rows at most" in done.stdout


def test_a_letter_that_other_programs_end_lines_at_splits_no_comment(csv, tmp_path):
    head = "# made by hand\u2028and not looked at\x0cagain"
    csv.write_text("\n".join([head, *ROWS, ""]), encoding="utf-8")
    parts = split(csv, tmp_path, rows_per_part=4)
    assert [part.read_text(encoding="utf-8").split("\n")[0] for part in parts] == [head, head]
    assert [len(read_segments(part)) for part in parts] == [4, 3]


@pytest.mark.slow
def test_a_part_has_50_000_rows_by_default(tmp_path):
    path = tmp_path / "large.csv"
    path.write_text("".join(f'id{number}, 0.000, 10.000, "/m/09x0r"\n' for number in range(100_001)))
    parts = split(path, tmp_path)
    assert [len(part.read_text().splitlines()) for part in parts] == [50_000, 50_000, 1]


def test_parts_that_are_there_stay_and_others_are_not_replaced_unasked(csv, tmp_path):
    parts = split(csv, tmp_path, rows_per_part=4)
    before = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    split(csv, tmp_path, rows_per_part=4)
    assert parts[0].stat().st_mtime_ns == before[0] and parts[1].exists()
    parts[0].write_text("mine")
    with pytest.raises(InputError, match=r"part00\.csv exists already and differs; --force replaces it"):
        split(csv, tmp_path, rows_per_part=4)
    assert parts[0].read_text() == "mine"
    split(csv, tmp_path, rows_per_part=4, replace=True)
    assert parts[0].read_text().splitlines() == HEAD + ROWS[:4]


def test_a_part_of_another_split_is_not_left_among_them(csv, tmp_path):
    split(csv, tmp_path, rows_per_part=3)
    with pytest.raises(InputError, match=r"part02\.csv is of a split into other parts; remove it first"):
        split(csv, tmp_path, rows_per_part=4, replace=True)


@pytest.mark.parametrize(("rows", "sentence"), [(0, "--rows-per-part must be 1 or more"), (3, "line 3: the label")])
def test_a_wrong_input_is_refused_before_anything_is_written(csv, tmp_path, rows, sentence):
    if rows:
        csv.write_text("# head\n" + ROWS[0] + "\n" + ROWS[1].replace("/m/09x0r", "speech") + "\n")
    with pytest.raises(InputError, match=sentence):
        split(csv, tmp_path / "out", rows_per_part=rows)
    assert not (tmp_path / "out").exists()
