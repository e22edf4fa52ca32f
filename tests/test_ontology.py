"""Which class is a kind of which."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet, audioset
from panns_jax.ontology import Ontology


def entry(node_id: str, name: str, *child_ids: str, restrictions: tuple[str, ...] = ()) -> dict[str, Any]:
    """As Google's file has them."""
    return {
        "id": node_id,
        "name": name,
        "description": f"What {name} is.",
        "citation_uri": "",
        "positive_examples": ["youtu.be/abcdefghijk?start=30&end=40"],
        "child_ids": list(child_ids),
        "restrictions": list(restrictions),
    }


# Of AudioSet's own ids and names; a bark is a kind of two, and two nodes go in a circle.
ENTRIES = [
    entry("/m/0dgw9r", "Human sounds", "/m/09l8g", restrictions=("abstract",)),
    entry("/m/09l8g", "Human voice", "/m/09x0r", restrictions=("abstract",)),
    entry("/m/09x0r", "Speech", "/m/05zppz", "/m/02zsn", "/m/0ytgt"),
    entry("/m/05zppz", "Male speech, man speaking"),
    entry("/m/02zsn", "Female speech, woman speaking"),
    entry("/m/0ytgt", "Child speech, kid speaking"),
    entry("/m/0jbk", "Animal", "/m/068hy", "/m/circle"),
    entry("/m/068hy", "Domestic animals, pets", "/m/0bt9lr", "/m/01yrx"),
    entry("/m/0bt9lr", "Dog", "/m/05tny_"),
    entry("/m/05tny_", "Bark"),
    entry("/m/01yrx", "Cat"),
    entry("/t/two", "Guards", "/m/05tny_", "/m/0dgw9r", restrictions=("abstract",)),
    entry("/m/circle", "Round", "/m/0jbk", restrictions=("abstract", "blacklist")),
    entry("/t/none", "Sound of nothing", "/t/silent", restrictions=("abstract",)),
    entry("/t/silent", "Silent thing"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ontology.json"
    path.write_text(json.dumps(ENTRIES, indent=2))
    return path


@pytest.fixture
def ontology(file: Path) -> Ontology:
    return Ontology.read(file)


def names(indices: tuple[int, ...]) -> list[str]:
    return [audioset()[index] for index in indices]


SPEECH = ["Speech", "Male speech, man speaking", "Female speech, woman speaking", "Child speech, kid speaking"]
ANIMALS = ["Animal", "Domestic animals, pets", "Dog", "Bark", "Cat"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["Human sounds"], SPEECH),
        (["human-sounds"], SPEECH),
        (["/m/09l8g"], SPEECH),
        (["Speech"], SPEECH),
        (["Animal"], ANIMALS),
        (["round"], ANIMALS),
        (["Domestic animals"], ANIMALS[1:]),
        (["pets, Bark"], ANIMALS[1:]),
        (["Guards"], [*SPEECH, "Bark"]),
        (["Bark", "Animal"], ["Bark", "Animal", "Domestic animals, pets", "Dog", "Cat"]),
        (["Music, kid speaking"], ["Music", "Child speech, kid speaking"]),  # one that is not in the ontology
    ],
)
def test_a_parent_is_all_classes_at_and_below_it(ontology: Ontology, wanted: list[str], expected: list[str]):
    assert names(audioset().select(wanted, ontology)) == expected


def test_without_the_ontology_a_name_is_that_class_alone():
    assert names(audioset().select(["Animal"])) == ["Animal"]
    with pytest.raises(InputError, match="'Human sounds' is no class of audioset"):
        audioset().select(["Human sounds"])


def test_parents_without_classes_and_unknown_names_are_refused(ontology: Ontology):
    with pytest.raises(InputError, match="no class of audioset is at or below 'Sound of nothing' in the ontology"):
        audioset().select(["sound of nothing"], ontology)
    with pytest.raises(InputError, match="'Human sound' is no class of audioset; did you mean 'Human sounds'"):
        audioset().select(["Human sound"], ontology)


def test_parents_score_as_the_surest_of_what_is_below_them(ontology: Ontology):
    labels = audioset()
    roll_up = ontology.roll_up(labels)
    parents = ("Human sounds", "Human voice", "Guards", "Round")
    assert set(roll_up.labels.names) == {*parents, *labels}
    assert roll_up.labels.names[0] == "Human sounds" and roll_up.labels.names[-1] == "Field recording"
    clipwise = np.zeros((2, 3, 527), np.float32)
    clipwise[..., labels.index("Bark")] = 0.75
    clipwise[0, 1, labels.index("Cat")] = 0.875
    clipwise[..., labels.index("Music")] = 1
    scores = roll_up(clipwise)
    assert scores.shape == (2, 3, len(roll_up.labels)) and scores.dtype == np.float32
    assert (scores[..., roll_up.labels.index("Music")] == 1).all()
    of = {name: scores[..., index] for index, name in enumerate(roll_up.labels)}
    for name in ("Animal", "Domestic animals, pets", "Round"):
        np.testing.assert_array_equal(of[name], [[0.75, 0.875, 0.75], [0.75] * 3])
    for name in ("Dog", "Bark", "Guards"):
        assert (of[name] == 0.75).all()
    assert (of["Human sounds"] == 0).all()


def test_label_sets_of_other_tasks_are_found_by_id_or_else_by_name(ontology: Ontology):
    labels = LabelSet("own", ("0", "1", "/m/01yrx"), ("bark", "Engine", "Kitty"))
    assert labels.select(["Animal"], ontology) == (0, 2)
    assert labels.select(["engine"], ontology) == (1,)
    roll_up = ontology.roll_up(labels)
    scores = dict(zip(roll_up.labels, roll_up(np.array([0.25, 1, 0.5], np.float32)), strict=True))
    assert scores == {
        "Animal": 0.5,
        "Domestic animals, pets": 0.5,
        "Dog": 0.25,
        "Bark": 0.25,
        "Cat": 0.5,
        "Guards": 0.25,
        "Round": 0.5,
        "Engine": 1,
    }
    with pytest.raises(InputError, match="no class of rooms is in the ontology"):
        ontology.roll_up(LabelSet("rooms", ("k",), ("Kitchen",)))


def test_nodes_of_one_name_are_told_apart_by_their_ids(tmp_path: Path):
    (tmp_path / "o.json").write_text(
        json.dumps([entry("a", "Bell", "c"), entry("b", "Bell", "c"), entry("c", "Chime")])
    )
    ontology = Ontology.read(tmp_path / "o.json")
    labels = LabelSet("own", ("c",), ("Chime",))
    assert ontology.roll_up(labels).labels.names == ("Bell (a)", "Bell (b)", "Chime")
    assert ontology.find("Bell") is None and ontology.find("b") == 1


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=10, max_size=10))
def test_what_is_below_is_what_can_be_come_to(children: list[list[int]]):
    ids = tuple(map(str, range(10)))
    ontology = Ontology(ids, ids, tuple(map(tuple, children)))
    for node in range(10):
        reached = {node}
        for _ in range(10):
            reached |= {child for other in reached for child in children[other]}
        below = ontology.below(node)
        assert set(below) == reached and len(below) == len(reached)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON, and AudioSet's ontology.json is expected"),
        ("[" * 100_000, "is no JSON"),
        ("{}", "is no list of objects with id, name and child_ids"),
        ("[]", "the ontology has no entries"),
        ("[1]", "entry 1 has no id or no name"),
        ('[{"id": "a", "name": "A"}, {"id": "b"}]', "entry 2 has no id or no name"),
        ('[{"id": "a", "name": "A", "child_ids": "b"}]', r"entry 1 \(A\) has child_ids that are no list of ids"),
        ('[{"id": "a", "name": "A", "child_ids": ["b"]}]', "A has the child 'b', of which there is no entry"),
        ('[{"id": "a", "name": "A"}, {"id": "a", "name": "B"}]', "the ontology has the id 'a' twice"),
        ("\udcff", "is no JSON"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(tmp_path: Path, content: str, message: str):
    path = tmp_path / "o.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"o\.json: {message}"):
        Ontology.read(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"o\.json: cannot be read: No such file"):
        Ontology.read(tmp_path / "o.json")
