"""Data sets of Python: arrays, `tf.data`, `PyDataset`, pairs as torch has them, against the arrays they are made of."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nasnet_keras import fine_tune, load_data
from nasnet_keras.data.images import read_image
from nasnet_keras.data.objects import read_object_data
from nasnet_keras.models.network import NASNet

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), np.uint8)
LABELS = np.arange(30) % 3
MARKS = np.random.default_rng(1).random((30, 3)) < 0.5


class Pairs:
    """What torch calls a data set."""

    def __init__(self, images, labels, **names):
        self.images, self.labels = images, labels
        vars(self).update(names)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class InBatches(keras.utils.PyDataset):
    """Keras' kind."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        own = slice(8 * index, 8 * index + 8)
        return IMAGES[own].astype("float32"), LABELS[own]


class Weighted(InBatches):
    """With a weight for each image."""

    def __getitem__(self, index):
        return *super().__getitem__(index), np.ones(8)


def objects(values):
    """An array that holds anything."""
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


class Frame:
    """What numpy makes rows of, and a loop the names of columns, as pandas' frames; where pandas is not installed."""

    iloc = None

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __iter__(self):
        return iter(self.columns)

    def __array__(self, dtype=None, copy=None):
        kinds = {np.asarray(column).dtype for column in self.columns.values()}
        columns = [np.asarray(column, object if len(kinds) > 1 else None) for column in self.columns.values()]
        return np.stack(columns, 1)


FORMS = {
    "arrays": lambda: (IMAGES, LABELS),
    "floats": lambda: (IMAGES.astype("float32"), LABELS.astype("float32")),
    "shares": lambda: (IMAGES / 255.0, LABELS),
    "columns": lambda: (IMAGES, LABELS[:, None]),
    "one-hot": lambda: (IMAGES, np.eye(3, dtype="float32")[LABELS]),
    "one-hot of bool": lambda: (IMAGES, np.eye(3, dtype=bool)[LABELS]),
    "one-hot of bool in pairs": lambda: Pairs(IMAGES, np.eye(3, dtype=bool)[LABELS].tolist()),
    "pairs": lambda: Pairs(IMAGES, LABELS),
    "list": lambda: list(zip(IMAGES, LABELS.tolist(), strict=True)),
    "pillow": lambda: Pairs([Image.fromarray(image) for image in IMAGES], LABELS),
    "channels first": lambda: Pairs(np.moveaxis(IMAGES, -1, 1).astype("float32") / 255, LABELS),
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)),
    "tf.data in batches": lambda: tf.data.Dataset.from_tensor_slices((IMAGES / np.float32(255), LABELS)).batch(7),
    "PyDataset": lambda: InBatches(),
    "lists": lambda: (list(IMAGES), LABELS.tolist()),
    "arrays of objects": lambda: (objects(IMAGES), objects(LABELS.tolist())),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_images_and_labels(form):
    parts, names = read_object_data(FORMS[form]())
    images, labels = parts["train"]
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.dtype == np.int32 and labels.tolist() == LABELS.tolist() and names == ("0", "1", "2")


def test_they_are_divided_like_other_data():
    one, other = load_data((IMAGES, LABELS), seed=3), load_data(FORMS["tf.data in batches"](), seed=3)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part).images, getattr(other, part).images)
    assert sum(map(len, (one.train, one.validation, one.test))) == 30 and one.name == "a tuple"


@pytest.mark.parametrize(
    "labels",
    [MARKS, MARKS.astype("float32"), [[name for name, own in zip("abc", row, strict=True) if own] for row in MARKS]],
)
def test_several_labels(labels):
    parts, names = read_object_data(Pairs(IMAGES, labels))
    assert parts["train"][1].dtype == bool and len(names) == 3
    np.testing.assert_array_equal(parts["train"][1], MARKS)


def test_names_of_labels():
    words = np.array(["cat", "dog", "owl"])[LABELS].tolist()
    for data, expected in (
        (Pairs(IMAGES, words), ("cat", "dog", "owl")),
        (Pairs(IMAGES, LABELS, class_names=["x", "y", "z"]), ("x", "y", "z")),
        (Pairs(IMAGES, LABELS, classes=["x", "y", "z"]), ("x", "y", "z")),
        (Pairs(IMAGES, LABELS, classes=LABELS, class_indices={"z": 2, "x": 0, "y": 1}), ("x", "y", "z")),  # Keras'
        (Pairs(IMAGES, LABELS, class_to_idx={"z": np.int64(2), "x": 0, "y": 1}), ("x", "y", "z")),
        (Pairs(IMAGES, LABELS, dataset=Pairs([], [], classes=["x", "y", "z"]), indices=[]), ("x", "y", "z")),  # torch's
        (Pairs(IMAGES, LABELS, class_to_idx={"x": 1, "y": 2, "z": 3}), ("0", "1", "2")),  # of other numbers
        (Pairs(IMAGES, LABELS, class_to_idx={"x": 0, "y": "1", "z": None}), ("0", "1", "2")),
        ((IMAGES, Frame(x=LABELS == 0, y=LABELS == 1, z=LABELS == 2)), ("x", "y", "z")),
    ):
        parts, names = read_object_data(data)
        assert names == expected and parts["train"][1].tolist() == LABELS.tolist()
    parts, _ = read_object_data(Pairs(IMAGES, words), class_names=("owl", "dog", "cat"))
    assert parts["train"][1].tolist() == (2 - LABELS).tolist()


def test_paths_and_bytes_stay_files(tmp_path):
    paths = []
    for number, image in enumerate(IMAGES):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    (tmp_path / "3.png").write_bytes(b"none")
    for sources in (paths, [Path(path).read_bytes() for path in paths]):
        data = load_data(list(zip(sources, LABELS.tolist(), strict=True)), test=0, validation=0)
        assert len(data.left_out) == 1 and len(data.train) == 29
        np.testing.assert_array_equal(data.train.images, np.delete(IMAGES, 3, 0))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "at least one image"),
        ([1, 2], r"\(image, label\) pairs"),
        ([(IMAGES[0], 1, 1.0)], "weights of images are not used"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat(), "repeats for ever"),
        ((IMAGES, LABELS[:-1]), "a label for each image. Received: 29 for 30"),
        ((IMAGES - 300.0, LABELS), "images in 0–255"),
        ((np.full((2, 4, 4, 3), np.nan), [0, 1]), "images in 0–"),
        (Pairs([IMAGES[0], IMAGES[1][:4]], [0, 1]), "images of one size"),
        (Pairs([IMAGES[0], "a.png"], [0, 1]), "arrays or files"),
        ((IMAGES, LABELS + 0.5), "labels that are integers, names"),
        ((IMAGES, LABELS - 1), "labels from 0"),
        (Pairs(IMAGES[:2], [{}, {}]), "labels that are integers"),
        ([(IMAGES[0][0, 0], 1)], r"\[height, width, channels\]"),
        ((list(IMAGES), LABELS[:-1]), "a label for each image. Received: 29 for 30"),
        ((IMAGES, np.full(30, 2_000_000_000)), "labels below 50,000. Received: 2000000000"),
        ((IMAGES / 255.0 * 1.01, LABELS), "images in 0–255 or in 0–1. Received: 0 to 1.01"),
        (tf.data.Dataset.from_tensor_slices((IMAGES[..., 0], LABELS % 2)).batch(3), "may be 3 greys or one image"),
        (Weighted(), "weights of images are not used"),
        ((pair for pair in zip(IMAGES, LABELS, strict=True)), "Received: a generator"),
        (np.zeros((2, 4, 4, 3)), "Received: a ndarray"),
    ],
)
def test_what_cannot_be_told_is_one_line(data, says):
    with pytest.raises(ValueError, match=f"`data`.*{says}") as error:
        load_data(data)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.long
@pytest.mark.usefixtures("eager")
def test_fine_tune_takes_them_and_learns_the_same():
    found = []
    for train in ((IMAGES, LABELS), FORMS["tf.data in batches"](), Pairs(IMAGES, LABELS)):
        keras.utils.set_random_seed(0)
        source = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(6, 5, 3), classes=2)
        model = fine_tune(source, train, None, ["a", "b", "c"], weights="none", epochs=1, recipe="micro")
        found.append(model.predict(IMAGES[:3] / np.float32(127.5) - 1, verbose=0))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)
    several = fine_tune(source, (IMAGES, MARKS), (IMAGES, MARKS), ["a", "b", "c"], weights="none", epochs=1)
    assert several.architecture.classifier_activation == "sigmoid" and len(several.thresholds) == 3
    with pytest.raises(ValueError, match="`train` and `validation` must both"):
        fine_tune(source, (IMAGES, MARKS), (IMAGES, LABELS), ["a", "b", "c"], weights="none", epochs=1)
    with pytest.raises(ValueError, match="`classifier_activation` must be sigmoid"):
        fine_tune(source, (IMAGES, MARKS), None, 3, weights="none", epochs=1, classifier_activation="softmax")


GREYS = {
    "arrays": lambda own: (own, LABELS % 2),
    "pairs": lambda own: Pairs(own, LABELS % 2),
    "in batches": lambda own: tf.data.Dataset.from_tensor_slices((own, LABELS % 2)).batch(9),
    "in batches of one": lambda own: tf.data.Dataset.from_tensor_slices((own, LABELS % 2)).batch(1),
    "columns in batches": lambda own: tf.data.Dataset.from_tensor_slices((own, LABELS[:, None] % 2)).batch(4),
    "with an axis": lambda own: (own[..., None], LABELS % 2),
    "channels first": lambda own: Pairs(own[:, None], LABELS % 2),
}


@pytest.mark.parametrize("form", GREYS)
def test_greys_are_images_and_not_channels(form):
    """The last of the batches has three of them, as many as there are colours."""
    parts, names = read_object_data(GREYS[form](IMAGES[..., 0]))
    images, labels = parts["train"]
    np.testing.assert_array_equal(images, IMAGES[..., :1])
    assert labels.tolist() == (LABELS % 2).tolist() and names == ("0", "1")


def test_lists_of_names_beside_all_images():
    lists = [[name for name, own in zip("abc", row, strict=True) if own] for row in MARKS]
    for own in (lists, objects(lists)):
        parts, names = read_object_data((IMAGES, own))
        assert names == ("a", "b", "c")
        np.testing.assert_array_equal(parts["train"][1], MARKS)
    parts, names = read_object_data(Pairs(IMAGES, LABELS, class_names=np.array(["x", "y", "z"])))
    assert names == ("x", "y", "z")


def test_a_pair_of_paths_and_labels(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, image in zip(paths, IMAGES, strict=False):
        Image.fromarray(image).save(path)
    for own in (paths, np.array(paths)):
        parts, names = read_object_data((own, ["cat", "dog"]))
        np.testing.assert_array_equal(parts["train"][0][:], IMAGES[:2])
        assert names == ("cat", "dog")


def test_labels_go_by_the_names_that_a_data_set_has():
    """A folder without one of the classes counts the others from 0 as well."""
    own = Pairs(IMAGES, LABELS % 2, class_names=["cat", "owl"])
    found, names = read_object_data(own, class_names=("owl", "dog", "cat"))
    assert names == ("owl", "dog", "cat")
    np.testing.assert_array_equal(found["train"][1], np.array([2, 0])[LABELS % 2])
    marks = Pairs(IMAGES, MARKS, class_names=["a", "b", "c"])
    found, _ = read_object_data(marks, class_names=("c", "x", "a", "b"))
    np.testing.assert_array_equal(found["train"][1][:, [2, 3, 0]], MARKS)
    with pytest.raises(ValueError, match="`validation` must have the classes cat, dog. Received: cat, owl"):
        read_object_data(own, class_names=("cat", "dog"), label="validation")
    columns = Frame(cat=LABELS == 0, dog=LABELS > 0)
    for own in (Pairs(IMAGES, np.minimum(LABELS, 1), class_indices={"cat": 0, "dog": 1}), (IMAGES, columns)):
        found, _ = read_object_data(own, class_names=("dog", "cat"))
        assert found["train"][1].tolist() == (LABELS == 0).tolist()
        with pytest.raises(ValueError, match="`data` must have the classes ant, bee. Received: cat, dog"):
            read_object_data(own, class_names=("ant", "bee"))


def test_rows_of_bool_with_one_1_each_are_told_to_be_classes(caplog):
    ones = np.eye(3, dtype=bool)[LABELS]
    for labels, several, count in ((ones, None, 1), (ones, True, 0), (ones, False, 0), (ones.astype(int), None, 0)):
        caplog.clear()
        read_object_data((IMAGES, labels), label="train", several=several)
        says = "`train`: rows of bool with one 1 each are read as classes; lists of names say that an image may have "
        assert [record.message.startswith(says) for record in caplog.records] == [True] * count


def part(labels, **names):
    """A part of a data set, as torch's `Subset`, within another one."""
    inner = Pairs([], [], dataset=Pairs([], [], **names), indices=[])
    return Pairs(IMAGES, labels, dataset=inner, indices=[])


def test_a_part_of_fewer_classes_is_not_called_as_the_whole():
    few, names = np.minimum(LABELS, 1), [f"class {number}" for number in range(10)]
    for labels in (few, np.eye(2, dtype=int)[few]):
        found, told = read_object_data(part(labels, classes=names))
        assert found["train"][1].tolist() == few.tolist() and told == ("0", "1")
        found, told = read_object_data(part(labels, classes=names), class_names=("airplane", "automobile"))
        assert found["train"][1].tolist() == few.tolist() and told == ("airplane", "automobile")
    found, told = read_object_data(part(LABELS, classes=names[:3]))
    assert found["train"][1].tolist() == LABELS.tolist() and told == tuple(names[:3])
    # As many as the whole has are meant, whichever of them the part has.
    found, told = read_object_data(part(few, classes=names), class_names=10)
    assert found["train"][1].tolist() == few.tolist() and told == tuple(names)
    with pytest.raises(ValueError, match="must have the classes"):
        read_object_data(part(few, classes=["cat", "dog", "horse"]), class_names=("dog", "cat", "horses"))
    found, told = read_object_data(part(few, classes=["a", "b", "c"]), class_names=("c", "b", "a"))
    assert found["train"][1].tolist() == (2 - few).tolist() and told == ("c", "b", "a")


def test_pillow_images_are_read_as_their_files_are(tmp_path):
    shape = np.zeros((8, 6, 4), np.uint8)
    shape[:4, :, 3], shape[..., 0] = 255, 200
    clear, turned = Image.fromarray(shape, "RGBA"), Image.fromarray(IMAGES[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    clear.save(tmp_path / "clear.png")
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(8, 6) * 1000).save(tmp_path / "deep.png")
    for name in ("clear", "turned", "deep"):
        path = tmp_path / f"{name}.png"
        found, _ = read_object_data(Pairs([Image.open(path)] * 2, [0, 1]))
        np.testing.assert_array_equal(found["train"][0][0], read_image(path))


NAN = float("nan")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat", None, "dog"], r"a name for each image\. Received: None for image 1"),
        (["cat", "dog", NAN], r"a name for each image\. Received: nan for image 2"),
        ([NAN, "cat", "dog"], r"a name for each image\. Received: nan for image 0"),
        (["cat", 3, "dog"], r"a name for each image\. Received: 3 for image 1"),
        (["cat", "dog", " "], r"a name for each image\. Received: ' ' for image 2"),
        (["cat", ["cat", "dog"], "dog"], r"a name for each image\. Received: \['cat', 'dog'\] for image 1"),
        ([["cat", "dog"], "cat", ["dog"]], r"a list of names for each image\. Received: 'cat' for image 1"),
        ([["cat"], None, ["dog"]], r"a list of names for each image\. Received: None for image 1"),
        ([["cat"], ["dog"], NAN], r"a list of names for each image\. Received: nan for image 2"),
        ([[], ["cat", None], ["dog"]], r"a list of names for each image\. Received: \['cat', None\] for image 1"),
        ([0, 1, None], r"labels that are integers.* Received: None for image 2"),
        ([0, NAN, 1], r"labels that are integers.* Received: nan for image 1"),
        ([0, float("inf"), 1], r"labels that are integers.* Received: inf for image 1"),
        ([[0, 1], [1, 0], [1, 2]], r"labels that are integers.* Received: \[1, 2\] for image 2"),
    ],
)
def test_gaps_and_mixtures_are_no_classes(labels, says):
    """Whichever comes first, and however the labels are packed."""
    for data in ((IMAGES[:3], objects(labels)), Pairs(IMAGES[:3], labels), list(zip(IMAGES, labels, strict=False))):
        with pytest.raises(ValueError, match=f"`data` must have {says}$"):
            read_object_data(data)


def test_names_are_those_of_tables(caplog):
    """Blanks around a name are no part of it, and names that differ only in case are told."""
    found, names = read_object_data(Pairs(IMAGES[:4], ["cat", "Cat", "cat ", b"dog"]))
    assert names == ("Cat", "cat", "dog") and found["train"][1].tolist() == [1, 0, 1, 2]
    assert "`data`: classes whose names differ only in upper and lower case" in caplog.text
    assert "Cat and cat" in caplog.text
    caplog.clear()
    found, names = read_object_data(Pairs(IMAGES[:2], ["cat ", "dog"]), class_names=("dog", "cat"))
    assert found["train"][1].tolist() == [1, 0] and not caplog.text
    found, _ = read_object_data(Pairs(IMAGES[:2], ["cat ", "cat"]), class_names=("cat", "cat "))
    assert found["train"][1].tolist() == [1, 0]
    read_object_data(Pairs(IMAGES[:3], np.array(["cat", "dog", NAN])))
    assert "nan: a class of its own, although programs write that for a label" in caplog.text
    with pytest.raises(ValueError, match="among the classes. Received: 'owl'"):
        read_object_data(Pairs(IMAGES[:2], ["cat", "owl"]), class_names=("cat", "dog"))


@pytest.mark.parametrize("high", [1, 16, 63])
def test_arrays_that_use_few_of_all_values_are_told(caplog, high):
    dark = np.minimum(IMAGES, high)
    for data in ((dark, LABELS), Pairs(dark.astype("float64") if high > 1 else dark, LABELS)):
        caplog.clear()
        found, _ = read_object_data(data, label="train")
        np.testing.assert_array_equal(found["train"][0], dark)
        assert f"`train`: images go up to {high} of 255" in caplog.text
    caplog.clear()
    read_object_data(([*dark, IMAGES[0]], [*LABELS, 0]))
    read_object_data((np.minimum(IMAGES / 255, 1), LABELS))
    assert not caplog.text


def test_labels_that_count_from_one_are_told(caplog):
    data = load_data((IMAGES, LABELS + 1))
    assert data.class_names == ("0", "1", "2", "3") and data.train.counts(4)[0] == 0
    assert "no image has the labels 0: labels count from 0" in caplog.text
    caplog.clear()
    read_object_data((IMAGES, LABELS))
    read_object_data((IMAGES[:2], LABELS[:2]), class_names=("a", "b", "c"))
    assert not caplog.text


def test_tensors_of_paths_are_paths(tmp_path):
    """TensorFlow's texts are bytes; one of a file that is not there is a missing file, and no image of 9 bytes."""
    paths = [str(tmp_path / f"{number} ö.png") for number in range(4)]
    for path, image in zip(paths, IMAGES, strict=False):
        Image.fromarray(image).save(path)
    whole = tf.data.Dataset.from_tensor_slices((paths, [0, 1, 0, 1]))
    for data in (whole, whole.batch(3), [(paths[:3], [0, 1, 0]), (paths[3:], [1])]):
        found, names = read_object_data(data)
        assert list(found["train"][0].sources) == paths and names == ("0", "1")
        np.testing.assert_array_equal(found["train"][0][:], IMAGES[:4])
        assert found["train"][1].tolist() == [0, 1, 0, 1]
    Path(paths[2]).unlink()
    data = load_data(whole.batch(2), test=0, validation=0)
    assert len(data.train) == 3 and data.left_out[paths[2]].endswith("No such file or directory")
    encoded = [Path(path).read_bytes() for path in paths[:2]]
    found, _ = read_object_data(tf.data.Dataset.from_tensor_slices((encoded, [0, 1])).batch(2))
    np.testing.assert_array_equal(found["train"][0][:], IMAGES[:2])


@pytest.mark.parametrize("kind", ["plain", "pandas"])
def test_labels_as_a_frame_of_columns(kind, tmp_path):
    frame = Frame
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")

        def frame(**columns):
            return pandas.DataFrame(columns, index=range(7, 7 + len(next(iter(columns.values())))))

    def read(images, labels):
        parts, names = read_object_data((images, labels))
        return parts["train"], names

    marks = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0], [0, 1]])
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (4, 4), (number, 0, 0)).save(paths[-1])
    for images in (paths, np.zeros((6, 4, 4, 3), np.uint8)):
        for one in (frame(a=marks[:, 0], b=marks[:, 1]), frame(a=marks[:, 0] == 1, b=marks[:, 1])):
            (_, labels), names = read(images, one)
            assert labels.tolist() == (marks == 1).tolist() and names == ("a", "b")
        for ones in (marks[[0, 2] * 3], marks[[0, 2] * 3] == 1):  # as pandas' `get_dummies` gives them, of bool
            (_, labels), _ = read(images, frame(a=ones[:, 0], b=ones[:, 1]))
            assert labels.tolist() == [0, 1] * 3
        (_, labels), names = read(images, frame(a=["cat", "dog"] * 3))
        assert labels.tolist() == [0, 1] * 3 and names == ("cat", "dog")
        (_, labels), names = read(images, frame(a=np.array(["3", "7"] * 3, object)))  # names, as a list of them is
        assert names == ("3", "7") and labels.tolist() == [0, 1] * 3
        assert read(images, frame(a=np.array([0, 2, 1] * 2, object)))[0][1].tolist() == [0, 2, 1] * 2
        assert read(images, frame(a=[0, 2, 1] * 2))[0][1].tolist() == [0, 2, 1] * 2
    with pytest.raises(ValueError, match="must have a label for each image. Received: 3 for 6"):
        read(paths, frame(a=[0, 1, 0]))
