"""Classes by index, id and name."""

import pickle

import pytest

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet, audioset, audioset_train_clips, numbered


def test_audioset_has_its_527_classes_in_the_published_order():
    labels = audioset()
    assert len(labels) == len(labels.ids) == len(labels.names) == 527
    assert (labels[0], labels.ids[0]) == ("Speech", "/m/09x0r")
    assert (labels[137], labels.ids[137]) == ("Music", "/m/04rlf")
    assert (labels[526], labels.ids[526]) == ("Field recording", "/m/07hvw1")
    assert labels[1] == "Male speech, man speaking"


def test_training_clips_are_counted_per_class():
    clips = audioset_train_clips()
    assert len(clips) == 527 and min(clips) > 0
    assert max(range(527), key=clips.__getitem__) == audioset().index("Music")


@pytest.mark.parametrize("value", ["Dial tone", "dial TONE", "/m/015jpf"])
def test_a_class_is_found_by_name_or_id_in_any_case(value):
    assert audioset()[audioset().index(value)] == "Dial tone"


def test_an_unknown_class_is_refused_with_the_nearest_ones():
    with pytest.raises(InputError, match=r"'Musik' is no class of audioset; did you mean 'Music'"):
        audioset().index("Musik")
    with pytest.raises(InputError, match=r"'qqqqqqqq' is no class of audioset$"):
        audioset().index("qqqqqqqq")


def test_a_label_set_is_a_sequence_of_names():
    labels = LabelSet("pets", ("d", "c"), ("Dog", "Cat"))
    assert list(labels) == ["Dog", "Cat"] and labels[0:1] == ("Dog",) and "Cat" in labels
    assert labels.index("cat") == 1
    with pytest.raises(InputError):
        labels.index("cat", 0, 1)
    assert repr(labels) == "LabelSet('pets', 2 classes)"


def test_equal_label_sets_are_equal_and_hash_alike():
    first, second = (LabelSet("pets", ("d", "c"), ("Dog", "Cat")) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert first != LabelSet("pets", ("d", "b"), ("Dog", "Bird"))
    assert pickle.loads(pickle.dumps(first)) == first


def test_a_label_set_with_faults_is_refused():
    with pytest.raises(InputError, match="label set pets has 1 ids for 2 names"):
        LabelSet("pets", ("d",), ("Dog", "Cat"))
    with pytest.raises(InputError, match="has the name 'Dog' twice"):
        LabelSet("pets", ("d", "c"), ("Dog", "Dog"))
    with pytest.raises(InputError, match="label set pets has no classes"):
        LabelSet("pets", (), ())


def test_unnamed_classes_are_numbered():
    assert list(numbered(3)) == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["Speech"], ["Speech"]),
        (["/m/09x0r", "MUSIC"], ["Speech", "Music"]),
        (["137"], ["Music"]),
        (["Music", "Speech", "music"], ["Music", "Speech"]),
        (["Child speech, kid speaking"], ["Child speech, kid speaking"]),
        (["child speech kid-speaking"], ["Child speech, kid speaking"]),
        (["kid speaking"], ["Child speech, kid speaking"]),
        (["hi hat"], ["Hi-hat"]),
        (["childrens playing"], None),
        (["Speech,Music"], ["Speech", "Music"]),
        (["Music, Child speech, kid speaking,Dog"], ["Music", "Child speech, kid speaking", "Dog"]),
        (["Dog; Inside, small room;Cat"], ["Dog", "Inside, small room", "Cat"]),
        (["Motor vehicle road"], ["Motor vehicle (road)"]),
        ([" speech , "], ["Speech"]),
        ([], []),
    ],
)
def test_classes_are_selected_by_what_people_type(wanted, expected):
    if expected is None:
        with pytest.raises(InputError):
            audioset().select(wanted)
        return
    assert [audioset()[index] for index in audioset().select(wanted)] == expected


def test_every_class_of_audioset_is_selected_by_name_id_index_and_all_in_one_string():
    labels = audioset()
    for index, (label_id, name) in enumerate(zip(labels.ids, labels.names, strict=True)):
        assert labels.select([name]) == labels.select([label_id]) == labels.select([str(index)]) == (index,)
        assert labels.select([name.upper().replace(",", "").replace("-", " ")]) == (index,)
    assert labels.select([",".join(labels.names)]) == tuple(range(527))
    assert labels.select(["; ".join(labels.ids)]) == tuple(range(527))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("Musik", r"'Musik' is no class of audioset; did you mean 'Music'"),
        ("Speech, Musik", r"'Musik' is no class of audioset; did you mean 'Music'"),
        ("inside", r"'inside' is no class of audioset alone; did you mean 'Inside, small room' or 'Inside, large"),
        ("truck siren", r"did you mean 'Fire engine, fire truck \(siren\)'"),
        ("kid speeking", r"did you mean 'Child speech, kid speaking'"),
        ("acoustic", r"'acoustic' is no class of audioset; did you mean 'Acoustic guitar'"),
        ("527", r"'527' is no class of audioset$"),
        ("-1", r"'-1' is no class of audioset$"),
        ("", r"no class is named in ''"),
        (" , ", r"no class is named in ' , '"),
        ("qqqqqqqq", r"'qqqqqqqq' is no class of audioset$"),
    ],
)
def test_what_is_no_class_is_refused_with_the_nearest_ones(wanted, message):
    with pytest.raises(InputError, match=message):
        audioset().select([wanted])


def test_label_sets_of_other_tasks_are_selected_from_alike():
    labels = LabelSet("own", ("a", "b", "c", "d"), ("a-b", "a b", "7", "x; y"))
    assert labels.select(["A B", "a-b"]) == (1, 0)
    with pytest.raises(InputError, match=r"'\(a/b\)' is no class of own alone; did you mean 'a-b' or 'a b'"):
        labels.select(["(a/b)"])
    assert labels.select(["7", "1"]) == (2, 1)  # a name goes before an index
    assert labels.select(["x; y"]) == (3,)
    assert numbered(12).select(["class 3", "11"]) == (3, 11)
