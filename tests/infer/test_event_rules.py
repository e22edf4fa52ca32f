"""Rules of single classes from files, and lengths of median filters."""

from pathlib import Path

import pytest

from panns_jax.errors import InputError
from panns_jax.infer.event_rules import RuleOptions, median_steps
from panns_jax.labels import audioset

SPEECH, MUSIC, DOG = (audioset().index(name) for name in ("Speech", "Music", "Dog"))


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ("0", 1),
        ("0.3", 1),
        ("0.64", 3),
        ("0.96", 3),
        ("1.2", 3),
        ("1.3", 5),
        ("1steps", 1),
        ("7steps", 7),
        ("1step", 1),
    ],
)
def test_a_median_filter_spans_the_nearest_odd_number_of_steps(length: str, steps: int):
    assert median_steps(length, 0.32) == steps


@pytest.mark.parametrize("length", ["-1", "nan", "inf", "much", "steps", "2.5steps", "4steps", "-1steps"])
def test_a_median_filter_of_no_length_is_refused(length: str):
    with pytest.raises(InputError, match="a median filter"):
        median_steps(length, 0.32)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_gives_single_classes_rules_of_their_own_by_name_or_id(tmp_path: Path):
    file = write(
        tmp_path / "x.csv",
        "class,threshold,low,median,min_duration,min_gap\nspeech,0.3,0.2,3steps,1,\n/m/04rlf,0.4,,,,2.5\n",
    )
    rules = RuleOptions(threshold=0.6, low=0.5, median="1.6", min_gap=1, thresholds=file).rules(audioset(), 0.32)

    def of(index: int) -> list[float]:
        return [
            float(values[index])  # type: ignore[index]
            for values in (rules.high, rules.low, rules.median, rules.min_duration, rules.min_gap)
        ]

    assert of(SPEECH) == [0.3, 0.2, 3, 1, 1]
    assert of(MUSIC) == [0.4, 0.4, 5, 0, 2.5]  # the low threshold of all would be above its own
    assert of(DOG) == [0.6, 0.5, 5, 0, 1]


def test_json_says_the_same_as_csv(tmp_path: Path):
    table = write(tmp_path / "x.csv", "label\tthreshold\tmin_gap\nSpeech\t0.3\t\nMusic\t0.4\t1\n")
    told = write(tmp_path / "x.json", '{"Speech": 0.3, "Music": {"threshold": 0.4, "min_gap": 1}}')
    of_table, of_json = (RuleOptions(thresholds=file).rules(audioset(), 0.32) for file in (table, told))
    for name in ("high", "low", "median", "min_duration", "min_gap"):
        assert (getattr(of_table, name) == getattr(of_json, name)).all()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.csv", "class,threshold\nSpeach,0.3\n", r"x\.csv: 'Speach' is no class of audioset; did you mean 'Speech'"),
        ("x.csv", "class,threshold\nSpeech,high\n", r"x\.csv, Speech: threshold must be a number, not 'high'"),
        ("x.csv", "class,threshold\nSpeech,3\n", r"x\.csv, Speech: a threshold must be in"),
        ("x.csv", "class,threshold\nSpeech,0.3\nSpeech,0.4\n", r"x\.csv: has Speech twice"),
        ("x.csv", "class,threshold,low\nSpeech,0.3,0.4\n", "must not be above the threshold"),
        ("x.csv", "class,median\nSpeech,4steps\n", "odd number of steps"),
        ("x.csv", "Speech,0.3\n", r'x\.csv: must have a column "class"'),
        ("x.csv", "class,weight\nSpeech,0.3\n", "some of threshold, low, median"),
        ("x.csv", "class,threshold\n", "tells the rules of no class"),
        ("x.csv", "", r'x\.csv: must have a column "class"'),
        ("x.json", '{"Speech": }', r"x\.json: is no JSON"),
        ("x.json", "[1]", r"x\.json: must be one JSON object"),
        ("x.json", '{"Speech": {"treshold": 0.3}}', r"x\.json, Speech: 'treshold' is none of threshold, low"),
        ("x.json", '{"Speech": null}', "threshold must be a number, not None"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_a_sentence(tmp_path: Path, name: str, text: str, told: str):
    with pytest.raises(InputError, match=told):
        RuleOptions(thresholds=write(tmp_path / name, text)).rules(audioset(), 0.32)


def test_options_that_cannot_be_are_refused_even_where_a_file_overrides_them(tmp_path: Path):
    file = write(tmp_path / "x.csv", "class,threshold\nSpeech,0.3\n")
    with pytest.raises(InputError, match="the options: a threshold must be in"):
        RuleOptions(threshold=2, thresholds=file).rules(audioset(), 0.32)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such file"):
        RuleOptions(thresholds=tmp_path / "x.csv").rules(audioset(), 0.32)
    (tmp_path / "x.csv").write_bytes(b"class,threshold\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="no text in UTF-8"):
        RuleOptions(thresholds=tmp_path / "x.csv").rules(audioset(), 0.32)
