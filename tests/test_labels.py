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
