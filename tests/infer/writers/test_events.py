"""Events and scores as other programs read them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from panns_jax.errors import InputError
from panns_jax.infer.event_lists import read_event_list
from panns_jax.infer.score_track import ScoreTrack
from panns_jax.infer.writers.dcase import file_names, writing_dcase
from panns_jax.infer.writers.rttm import writing_rttm
from panns_jax.infer.writers.scores import score_paths, write_scores
from panns_jax.infer.writers.spans import LabelledSound, Span
from panns_jax.labels import audioset

SPEECH = Span(1.28, 3.2, "Inside, small room", "/m/1", 0.875)
DOG = Span(0.32, 7.001, "Dog", "/m/2", 0.5)
SOUNDS = (LabelledSound("x/a.wav", 8.0, (SPEECH, DOG)), LabelledSound("silent.wav", 1.0, ()))


def test_a_dcase_list_has_a_header_and_a_line_per_event_by_time(tmp_path: Path):
    with writing_dcase(tmp_path / "x.tsv", file_names([sound.file for sound in SOUNDS])) as writer:
        for sound in SOUNDS:
            writer.add(sound)
    assert (tmp_path / "x.tsv").read_bytes().decode().split("\n") == [
        "filename\tonset\toffset\tevent_label",
        "a.wav\t0.320\t7.001\tDog",
        "a.wav\t1.280\t3.200\tInside, small room",
        "",
    ]
    (events,) = read_event_list(tmp_path / "x.tsv").values()
    assert [(event.onset, event.offset, event.label) for event in events] == [
        (0.32, 7.001, "Dog"),
        (1.28, 3.2, "Inside, small room"),
    ]


def test_recordings_are_named_without_folders_unless_that_would_make_two_of_them_one():
    assert file_names(["x/a.wav", "y/b.wav"]) == {"x/a.wav": "a.wav", "y/b.wav": "b.wav"}
    assert file_names(["x/a.wav", "y/a.wav", "b.wav"]) == {"x/a.wav": "x/a.wav", "y/a.wav": "y/a.wav", "b.wav": "b.wav"}


def test_rttm_has_ten_fields_in_every_line(tmp_path: Path):
    names = {"x/a.wav": "my recording"}
    with writing_rttm(tmp_path / "x.rttm", names) as writer:
        for sound in SOUNDS:
            writer.add(sound)
    lines = [line.split(" ") for line in (tmp_path / "x.rttm").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        ["SPEAKER", "my_recording", "1", "0.320", "6.681", "<NA>", "<NA>", "Dog", "0.5", "<NA>"],
        ["SPEAKER", "my_recording", "1", "1.280", "1.920", "<NA>", "<NA>", "Inside,_small_room", "0.875", "<NA>"],
    ]


def track_of(steps: int) -> ScoreTrack:
    scores = np.random.default_rng(0).uniform(0, 1, (steps, 527)).astype(np.float32)
    return ScoreTrack(scores, 10240 / 32000, steps * 0.32 + 0.1234)


def test_score_tables_hold_every_step_from_where_the_last_one_ended_and_every_class(tmp_path: Path):
    track = track_of(40)
    write_scores(tmp_path / "x.tsv", track, audioset())
    header, *lines = [line.split("\t") for line in (tmp_path / "x.tsv").read_text(encoding="utf-8").splitlines()]
    assert header == ["onset", "offset", *audioset()]
    assert [line[0] for line in lines[1:]] == [line[1] for line in lines[:-1]]
    assert [float(line[0]) for line in lines] == pytest.approx(track.onsets, abs=1e-6)
    assert float(lines[-1][1]) == pytest.approx(track.duration, abs=1e-6)
    assert (np.array([line[2:] for line in lines]).astype(np.float32) == track.scores).all()


def test_sed_scores_eval_reads_score_tables(tmp_path: Path):
    io = pytest.importorskip(
        "sed_scores_eval.base_modules.io", reason="sed_scores_eval, which needs a C compiler, is not installed"
    )
    tracks = {"a": track_of(40), "b": track_of(3)}
    for name, track in tracks.items():
        write_scores(tmp_path / f"{name}.tsv", track, audioset())
    for name, table in io.read_sed_scores(tmp_path).items():
        assert list(table.columns) == ["onset", "offset", *audioset()]
        assert np.allclose(table.to_numpy()[:, 2:], tracks[name].scores, atol=1e-7)


def test_score_tables_are_named_after_the_recordings_without_their_endings(tmp_path: Path):
    def named(*sounds: str) -> Sequence[str]:
        return [path.name for path in score_paths(tmp_path, sounds).values()]

    assert named("x/a.wav", "y/b.1.flac") == ["a.tsv", "b.1.tsv"]
    with pytest.raises(InputError, match=r"x/a\.wav and y/a\.flac would both have the scores a\.tsv"):
        named("x/a.wav", "y/a.flac")
