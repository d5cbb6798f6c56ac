"""Arrays as KerasTuner's `search` takes them."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras.data.arrays import data_of_arrays, data_of_parts
from nasnet_keras.data.loading import load_data

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(4)[LABELS]], ids=["plain", "column", "one-hot"])
def test_labels_in_each_form_are_the_same(labels):
    data = data_of_arrays(IMAGES, labels, validation_data=(IMAGES[:8], LABELS[:8]))
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.train.images, IMAGES)
    np.testing.assert_array_equal(data.validation.labels, LABELS[:8])
    assert data.class_names == ("0", "1", "2", "3") and data.image_shape == (6, 6, 3) and not len(data.test)


def test_a_share_is_held_out_of_each_class_by_the_seed():
    one, same, other = (data_of_arrays(IMAGES, LABELS, validation_split=0.2, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(one.validation.labels).tolist() == [2] * 4 and len(one.train) == 32
    np.testing.assert_array_equal(one.validation.images, same.validation.images)
    assert not np.array_equal(one.validation.images, other.validation.images)


def test_greys_without_an_axis_and_classes_that_only_the_validation_has():
    data = data_of_arrays(IMAGES[..., 0], LABELS % 2, validation_data=(IMAGES[..., 0] / 255.0, LABELS))
    assert data.image_shape == (6, 6, 1) and len(data.class_names) == 4
    np.testing.assert_array_equal(data.validation.images[..., 0], IMAGES[..., 0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((IMAGES, LABELS), "`validation_data` must be"),
        ((IMAGES, LABELS, IMAGES), "`validation_data` must be"),
        ((IMAGES, LABELS, (IMAGES, LABELS, LABELS)), "`validation_data` must be .* Received: a tuple of 3"),
        ((IMAGES, LABELS, None, 1.5), "`validation_split` a share"),
        ((IMAGES, None, None, 0.2), "`x` must be.*no labels"),
        ((IMAGES, 5, None, 0.2), "`x` must have a label for each image. Received: int"),
        ((list(IMAGES), None, None, 0.2), "`x` must give .* pairs"),
        ((tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), LABELS, None, 0.2), "`y` must be left out"),
        ((IMAGES[0, 0], LABELS, None, 0.2), "`x` must be.*shape"),
        ((IMAGES, LABELS[:-1], None, 0.2), "`x` must have a label for each"),
        ((IMAGES, LABELS - 1, None, 0.2), "`x` must have labels"),
        ((IMAGES, LABELS, (IMAGES[:, :4], LABELS)), "size of `x`"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, says):
    with pytest.raises(ValueError, match=says) as caught:
        data_of_arrays(*arguments)
    assert "\n" not in str(caught.value)


def test_a_share_beside_validation_data_is_told_as_keras_takes_both(caplog):
    assert len(data_of_arrays(IMAGES, LABELS, (IMAGES, LABELS), 0.2).validation) == len(LABELS)
    assert caplog.messages == ["`validation_split` 0.2 is not used: rewards come from `validation_data`"]


def test_names_mean_the_same_on_both_sides():
    names = np.array(["a", "b", "c", "d"])[LABELS]
    held = np.array(["b", "d"])[LABELS % 2]
    data = data_of_arrays(IMAGES, names, validation_data=(IMAGES, held))
    assert data.class_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(data.validation.labels, np.array([1, 3])[LABELS % 2])
    lists = [[] if label == 0 else ["abcd"[label]] for label in LABELS]
    several = data_of_arrays(IMAGES, lists, validation_data=(IMAGES[:2], [["d"], ["b", "c"]]))
    assert several.class_names == ("b", "c", "d") and several.validation.labels.tolist() == [[0, 0, 1], [1, 1, 0]]
    for wrong in (LABELS, np.array(["z"] * 40), np.eye(4)[LABELS] + np.eye(4)[LABELS - 1]):
        with pytest.raises(ValueError, match="`validation_data`"):
            data_of_arrays(IMAGES, names, validation_data=(IMAGES, wrong))


def test_columns_of_a_frame_are_the_names_of_classes():
    pandas = pytest.importorskip("pandas")
    marks = pandas.get_dummies(pandas.Series(np.array(["ant", "bee", "cat", "dog"])[LABELS]))
    data = data_of_arrays(IMAGES, marks, validation_data=(IMAGES, marks[["dog", "cat", "bee", "ant"]]))
    assert data.class_names == ("ant", "bee", "cat", "dog")
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.validation.labels, LABELS)


def test_the_kind_of_labels_is_that_of_the_training_images():
    """Rows of 0 and 1 may happen to have one 1 each in one part alone."""
    x, marks = np.zeros((4, 8, 8, 3), "uint8"), np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]])
    data = data_of_arrays(x, marks, (x[2:], marks[2:]))
    assert data.several and data.validation.labels.tolist() == (marks[2:] > 0).tolist()
    for own in (marks, marks > 0):
        with pytest.raises(ValueError, match="of the same kind as `y`; rows of none or several 1s say that"):
            data_of_arrays(x[2:], own[2:], (x, own))


@pytest.mark.parametrize("labels", [LABELS, np.array(["a", "b", "c", "d"])[LABELS]], ids=["numbers", "names"])
def test_data_sets_lists_and_tensors_are_the_same_as_arrays(labels):
    whole = tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(16)
    others = {
        "tf.data": (whole, None, whole.take(1)),
        "a data set beside arrays": (whole, None, (IMAGES[:16], labels[:16])),
        "a pair": ((IMAGES, labels), None, whole.take(1)),
        "lists": (list(IMAGES), list(labels), (list(IMAGES[:16]), list(labels[:16]))),
        "tensors": (tf.constant(IMAGES), tf.constant(labels), (tf.constant(IMAGES[:16]), tf.constant(labels[:16]))),
    }
    expected = data_of_arrays(IMAGES, labels, (IMAGES[:16], labels[:16]))
    for what, (x, y, held) in others.items():
        data = data_of_arrays(x, y, validation_data=held)
        assert data.class_names == expected.class_names, what
        assert data.content == expected.content and data.validation.digest() == expected.validation.digest(), what


def test_labels_may_be_a_series_or_a_frame():
    pandas = pytest.importorskip("pandas")
    data = data_of_arrays(IMAGES, pandas.Series(LABELS), (IMAGES[:16], pandas.DataFrame({"label": LABELS[:16]})))
    expected = data_of_arrays(IMAGES, LABELS, (IMAGES[:16], LABELS[:16]))
    assert data.content == expected.content and data.validation.digest() == expected.validation.digest()


def test_a_data_set_of_some_classes_only_has_them_by_their_names():
    train = tf.data.Dataset.from_tensor_slices((IMAGES, np.array(["a", "b", "c", "d"])[LABELS]))
    held = tf.data.Dataset.from_tensor_slices((IMAGES, np.array(["b", "d"])[LABELS % 2]))
    np.testing.assert_array_equal(data_of_arrays(train, None, held).validation.labels, np.array([1, 3])[LABELS % 2])


class Named:
    """A data set of (image, label) pairs that says what its classes are called, or does not."""

    def __init__(self, labels, names=None, images=IMAGES):
        self.images, self.labels = images, labels
        if names:
            self.class_names = names

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


ANIMALS = ["ant", "bee", "cat", "dog"]
FEW, DIGITS = LABELS[:6], np.array(["0", "1", "2", "3"])


@pytest.mark.parametrize(
    ("x", "held", "names"),
    [
        (Named(LABELS), Named(FEW, ANIMALS), ANIMALS),  # a data set that was mapped has lost its names
        (Named(LABELS, ANIMALS), Named(FEW), ANIMALS),
        (Named(LABELS, ANIMALS), (IMAGES[:6], FEW), ANIMALS),
        (Named(LABELS, ANIMALS), Named(np.array(ANIMALS)[FEW]), ANIMALS),
        (Named(np.array(ANIMALS)[LABELS]), Named(FEW, ANIMALS), ANIMALS),
        (Named(np.eye(4)[LABELS]), Named(FEW, ANIMALS), ANIMALS),
        (Named(LABELS, list("0123")), (IMAGES[:6], FEW), list("0123")),
        (Named(DIGITS[LABELS]), (IMAGES[:6], DIGITS[FEW]), list("0123")),
        (Named(DIGITS[LABELS]), Named(DIGITS[FEW]), list("0123")),
        (Named(LABELS), Named(FEW), list("0123")),
    ],
)
def test_numbers_count_by_the_names_of_either_data_set(x, held, names):
    data = data_of_arrays(x, None, held)
    assert list(data.class_names) == names
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.validation.labels, FEW)


@pytest.mark.parametrize(
    ("x", "held", "says"),
    [
        (Named(LABELS), Named(FEW % 2, ["ant", "bee"]), "`x` must have labels from 0 to 1, as there are 2 classes"),
        (Named(LABELS, ["ant", "bee", "cat", "dog"]), Named(FEW + 1), "`validation_data` must have labels from 0 to 3"),
        (Named(DIGITS[LABELS]), Named(FEW), "`validation_data` must have labels of the same kind"),
        (Named(LABELS), Named(DIGITS[FEW]), "`validation_data` must have labels of the same kind"),
        (
            Named(np.eye(4)[LABELS] + np.eye(4)[LABELS - 1]),
            Named(np.eye(3)[FEW % 3]),
            "`validation_data` must have 4 columns of labels. Received: 3",
        ),
    ],
)
def test_labels_that_are_not_those_of_the_other_side_are_refused(x, held, says):
    with pytest.raises(ValueError, match=says):
        data_of_arrays(x, None, held)


def test_a_black_image_says_nothing_of_the_range():
    floats = IMAGES.astype("float32")
    floats[0] = 0
    expected = np.rint(floats).astype(np.uint8)
    for x in (list(floats), Named(LABELS, images=floats)):
        labels = None if isinstance(x, Named) else LABELS
        np.testing.assert_array_equal(
            data_of_arrays(x, labels, validation_data=x if labels is None else (x, labels)).train.images, expected
        )
    floats[1] = 1  # nearly black, which all together tell
    x = list(floats[..., 0])
    data = data_of_arrays(x, LABELS, validation_data=(x, LABELS))
    np.testing.assert_array_equal(data.train.images, np.rint(floats[..., :1]).astype(np.uint8))


def test_held_out_images_follow_from_what_they_are():
    order = np.random.default_rng(1).permutation(40)
    one = data_of_arrays(IMAGES, LABELS, None, 0.2, 3, True)
    other = data_of_arrays(IMAGES[order], LABELS[order], None, 0.2, 3, True)
    for part in ("train", "validation"):
        first, second = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)
    splits = [data_of_arrays(IMAGES[own], LABELS[own], (IMAGES, LABELS)).train for own in (np.arange(40), order)]
    assert splits[0].content() == splits[1].content() and splits[0].digest() != splits[1].digest()
    other = data_of_arrays(IMAGES, (LABELS + 1) % 4, (IMAGES, LABELS)).train
    assert other.content() != splits[0].content()


def test_parts_of_load_data_keep_the_names_of_their_classes(caplog):
    """A class that one of them lacks shifts no label, nor does another order of the names."""

    def named(*names):
        return load_data((IMAGES[:30], [names[number % len(names)] for number in range(30)]), validation=0.2, test=0.2)

    whole, lacking = named("cat", "dog", "emu"), named("cat", "emu")
    assert whole.train.take(5, 0).class_names == ("cat", "dog", "emu") == whole.test.class_names
    found = data_of_parts(whole.train, lacking.validation, ["emu", "dog", "cat"])
    for part, source in (("train", whole), ("validation", lacking)):
        labels = [found.class_names[number] for number in getattr(found, part).labels]
        assert labels == [source.class_names[number] for number in getattr(source, part).labels]
    assert data_of_parts(whole.train, lacking.validation, 3).class_names == ("cat", "dog", "emu")
    renamed = data_of_parts(whole.train, None, ["ant", "bee", "cow"])  # none of them is another one's name
    np.testing.assert_array_equal(renamed.train.labels, whole.train.labels)
    assert renamed.class_names == ("ant", "bee", "cow")
    assert "what `train` calls cat, dog, emu is called ant, bee, cow, one after the other" in caplog.text
    for parts, classes in (
        ((lacking.train, whole.validation), 2),
        ((whole.train, None), ["ant", "dog", "cow"]),
        ((whole.train, None), 4),
    ):
        with pytest.raises(ValueError, match="which it calls its classes"):
            data_of_parts(*parts, classes)
    # Numbers are nobody's names, and labels of one's own have none.
    numbers = load_data((IMAGES, LABELS)).train
    own = replace(whole.train, labels=(whole.train.labels + 1) % 3, class_names=None)
    for split, names in ((numbers, list("abcd")), (own, list("abc"))):
        assert (data_of_parts(split, None, names).train.labels == split.labels).all()


def test_labels_of_parts_in_several_columns_go_by_name_too():
    marks = np.arange(120).reshape(40, 3) % 5 < 2
    split = replace(load_data((IMAGES, marks.astype(int))).train, class_names=("cat", "dog", "emu"))
    found = data_of_parts(split, None, ["emu", "dog", "ant", "cat"])
    assert (found.train.labels[:, [3, 1, 0]] == split.labels).all() and not found.train.labels[:, 2].any()
