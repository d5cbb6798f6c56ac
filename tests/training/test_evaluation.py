"""Figures class by class, against counting by hand, and the picture of what is confused."""

import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
from PIL import Image

from nasnet_keras.data.images import luma
from nasnet_keras.data.loading import Split
from nasnet_keras.data.splits import separator_of
from nasnet_keras.pictures.confusion import MOST, confusion_svg, most_confused
from nasnet_keras.training.evaluation import evaluate_classes


class Answers:
    """A model that takes the n-th image for the class that it was told."""

    def __init__(self, answers, classes):
        self.scores = np.full((len(answers), classes), 0.1 / (classes - 1), "float32")
        self.scores[np.arange(len(answers)), answers] = 0.9

    def predict(self, batches, verbose):
        assert len(batches.split) == len(self.scores)
        return self.scores


def evaluated(labels, answers, names):
    split = Split(np.zeros((len(labels), 1, 1, 3), np.uint8), np.array(labels))
    return evaluate_classes(Answers(answers, len(names)), split, names)


def test_figures_by_hand():
    figures = evaluated([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0], ["cat", "dog", "fox", "owl"])
    assert figures["confusion"] == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert figures["accuracy"] == 0.5 and figures["images"] == 6
    assert figures["loss"] == pytest.approx(-(3 * np.log(0.9) + 3 * np.log(0.1 / 3)) / 6, rel=1e-5)
    rows = {row["name"]: (row["images"], row["precision"], row["recall"]) for row in figures["classes"]}
    assert rows == {"cat": (3, 0.5, 2 / 3), "dog": (2, 0.5, 0.5), "fox": (1, None, 0.0), "owl": (0, None, None)}


def test_the_mean_of_several_views():
    """A model that sees the left column alone: mirrored it sees the right one, and shifted the one beside it."""

    class Looks:
        def predict(self, batches, verbose):
            images = np.concatenate([batches[index][0] for index in range(len(batches))])
            bright = np.clip((images[:, 0, 0, :1] + 1) / 2, 0.01, 0.99)
            return np.concatenate([1 - bright, bright], 1).astype("float32")

    columns = np.uint8([[255, 0, 0, 0], [0, 0, 0, 255], [255, 255, 255, 255]])
    images = np.broadcast_to(columns[:, None, :, None], (3, 4, 4, 3)).copy()
    split = Split(images, np.array([1, 1, 1]))
    figures = evaluate_classes(Looks(), split, ["dark", "bright"], tta=True)
    assert figures["accuracy"] == pytest.approx(2 / 3)  # the second is dark at the left
    # One shift looks at the second column, one at its reflection: of six views one sees the bright edge.
    assert figures["tta"]["accuracy"] == pytest.approx(1 / 3) and figures["tta"]["views"] == 6
    one = 1 / 6 * 0.99 + 5 / 6 * 0.01
    assert figures["tta"]["loss"] == pytest.approx(-(2 * np.log(one) + np.log(0.99)) / 3, rel=1e-4)
    assert "tta" not in evaluate_classes(Looks(), split, ["dark", "bright"])


def cells(svg):
    """{(true, taken): number written in the cell} of a picture, from its tooltips."""
    root = ElementTree.fromstring(svg)
    tips = [element.text for element in root.iter() if element.tag.endswith("title")]
    pairs = [tip.rsplit(": ", 1) for tip in tips if " taken for " in tip]
    return {tuple(pair.split(" taken for ")): value.split(" ")[0] for pair, value in pairs}


def test_the_picture_shows_the_matrix():
    matrix = [[20, 3, 0], [1, 5, 4], [0, 0, 0]]
    names = ["<b>cat</b>", "dog & co", "x" * 60]
    svg = confusion_svg(matrix, names, "a title")
    assert cells(svg) == {
        (true, taken): f"{value}"
        for true, row in zip(names, matrix, strict=True)
        for taken, value in zip(names, row, strict=True)
    }
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert {"20", "3", "4", "a title", "87%", "50%", "95%", "62%", "–"} <= set(texts)
    assert "a title: 76% right" in svg
    assert svg == confusion_svg(matrix, names, "a title")


def test_of_thousands_of_classes_the_worst_are_drawn():
    count = 2000
    matrix = [[0] * count for _ in range(count)]
    for index in range(count):
        matrix[index][index] = 3
    for index in range(MOST):
        matrix[7 * index][7 * index + 1] = 2 + index
    worst = [7 * index for index in range(MOST)] + [7 * index + 1 for index in range(MOST)]
    assert set(most_confused(matrix, MOST)) <= set(worst)
    names = [f"class {index}" for index in range(count)]
    svg = confusion_svg(matrix, names)
    shown = cells(svg)
    assert len(shown) == (MOST + 1) ** 2 and len(svg) < 1_000_000
    total = sum(int(value.replace(",", "")) for value in shown.values())
    assert total == sum(map(sum, matrix))
    assert shown["class 273", "class 274"] == f"{2 + MOST - 1}" and ("1,960 others", "1,960 others") in shown


def test_bad_matrices_are_refused():
    with pytest.raises(ValueError, match="`matrix` must have 2 rows and columns"):
        confusion_svg([[1]], ["a", "b"])
    for unordered in ({"a", "b"}, "ab"):
        with pytest.raises(ValueError, match="`class_names` must be a list of names"):
            confusion_svg([[1, 0], [0, 1]], unordered)
    with pytest.raises(ValueError, match="`matrix`"):
        confusion_svg([[1, 2], [3]], ["a", "b"])


def test_answers_that_are_no_numbers_are_counted():
    """Figures would be made of them as if they were."""
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, activation="sigmoid", use_bias=False)]
    model = keras.Sequential([keras.Input((2, 2, 3)), *ends])
    model.layers[-1].set_weights([np.full((3, 1), np.inf)])  # inf - inf for what is not white
    images = np.full((5, 2, 2, 3), 255, "uint8")
    images[3:, ..., 1] = 0
    with pytest.raises(ValueError, match="`model` must .* the model's answers to 2 of 5 images are no numbers"):
        evaluate_classes(model, Split(images, np.array([1, 1, 1, 0, 0])), ["a", "b"])


@pytest.mark.parametrize("tta", [False, True])
def test_names_in_another_order_than_the_models_are_found_by_name(tta):
    """The model counts cat, dog, fox; the labels count fox, cat, dog."""
    names, answers, labels = ("cat", "dog", "fox"), [2, 2, 0, 1, 1], [0, 0, 1, 2, 0]
    own = Answers(answers, 3)
    own.class_names = names
    split = Split(np.zeros((5, 1, 1, 3), np.uint8), np.array(labels))
    figures = evaluate_classes(own, split, ["fox", "cat", "dog"], worst=3, tta=tta)
    assert figures["accuracy"] == 0.8 and figures["loss"] == pytest.approx(-(4 * np.log(0.9) + np.log(0.05)) / 5)
    rows = {row["name"]: (row["images"], row["precision"], row["recall"]) for row in figures["classes"]}
    assert rows == {"fox": (3, 1.0, 2 / 3), "cat": (1, 1.0, 1.0), "dog": (1, 0.5, 1.0)}
    assert [row["name"] for row in figures["classes"]] == ["fox", "cat", "dog"]  # as the rows of the confusion
    assert figures["confusion"] == [[2, 0, 1], [0, 1, 0], [0, 0, 1]]
    (worst,) = figures["worst"]
    assert (worst["index"], worst["class"], worst["taken_for"]) == (4, "fox", "dog")
    assert not tta or figures["tta"]["accuracy"] == 0.8


def test_of_no_images_there_are_no_worst_and_labels_must_be_classes():
    model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    empty = Split(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, int))
    assert evaluate_classes(model, empty, ["cat", "dog"], worst=5)["worst"] == []
    for labels in ([0, 2], [-1, 0]):
        rule = (
            rf"`split` must have labels from 0 to 1, as there are 2 classes. Received: {min(labels)} to {max(labels)}"
        )
        with pytest.raises(ValueError, match=rule):
            evaluate_classes(model, Split(np.zeros((2, 1, 1, 3), np.uint8), np.array(labels)), ["cat", "dog"])


@pytest.mark.parametrize(("activation", "scores"), [("sigmoid", (0.9, 0.2)), (None, (4.0, -4.0))])
def test_a_single_unit_is_turned_as_well(activation, scores):
    """It says how sure the model is of its second class, yes."""
    model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten(), keras.layers.Dense(1, activation)])
    model.class_names, model.predict = ("no", "yes"), lambda batches, verbose: np.float32(scores)[:, None]
    split = Split(np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1]))
    told = evaluate_classes(model, split, ["yes", "no"])
    same = evaluate_classes(model, Split(split.images, np.array([1, 0])), ["no", "yes"])
    assert told["accuracy"] == 1 == same["accuracy"] and told["loss"] == pytest.approx(same["loss"])


def test_labels_of_several_are_found_by_name_with_their_thresholds():
    scores = np.float32([[0.6, 0.2], [0.1, 0.4]])
    model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "sigmoid")])
    model.predict, model.class_names, model.thresholds = lambda batches, verbose: scores, ("sea", "sun"), (0.5, 0.3)
    marks = np.array([[False, True], [True, False]])  # of sun and sea
    figures = evaluate_classes(model, Split(np.zeros((2, 1, 1, 3), np.uint8), marks), ["sun", "sea"])
    assert figures["exact"] == 1 == figures["mean_average_precision"]
    assert [(row["name"], row["threshold"]) for row in figures["classes"]] == [
        ("sun", pytest.approx(0.3)),
        ("sea", pytest.approx(0.5)),
    ]


@pytest.mark.parametrize(
    ("names", "separator"),
    [(("a", "b"), "|"), (("a|b", "c"), ";"), (("a|b;", "c,"), "\t"), (("|;,\t", "a"), "|")],
)
def test_labels_can_be_taken_apart(names, separator, caplog):
    assert separator_of(names) == separator
    scores = np.float32([[0.6, 0.9]])
    model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "sigmoid")])
    model.predict = lambda batches, verbose: scores
    split = Split(np.zeros((1, 1, 1, 3), np.uint8), np.array([[True, False]]))
    (worst,) = evaluate_classes(model, split, names, worst=1)["worst"]
    assert (worst["class"], worst["taken_for"]) == (names[0], separator.join(names))
    assert [record.getMessage() for record in caplog.records] == [
        f"a class has | in its name: between labels there is {separator!r}"
    ] * (separator != "|")


def test_other_names_than_the_models_are_told_or_refused(caplog):
    model, split = Answers([0, 1], 2), Split(np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1]))
    model.class_names = ("cat", "dog")
    assert evaluate_classes(model, split, ["cat", "dog"])["accuracy"] == 1 and not caplog.records
    assert evaluate_classes(model, split, ["Katze", "Hund"])["accuracy"] == 1
    assert evaluate_classes(model, split, ["cat", "Hund"])["accuracy"] == 1
    record, _ = caplog.records
    assert record.getMessage().startswith("`class_names` are other ones than the model's, cat, dog: labels count as")
    with pytest.raises(ValueError, match="`class_names` must be the model's, cat, dog, in any order. Received: wolf"):
        evaluate_classes(model, split, ["dog", "wolf"])
    for names in ({"dog", "cat"}, {"cat": 0, "dog": 1}, "cd"):  # a set has them in any order, but says none
        with pytest.raises(ValueError, match="`class_names` must be a list of names, one for each class. Received: "):
            evaluate_classes(model, split, names)
        model.class_names, own = names, model.class_names
        with pytest.raises(ValueError, match="`class_names` must be a list of names, one for each class. Received: "):
            evaluate_classes(model, split, ["cat", "dog"])
        model.class_names = own


def brightness(channels):
    """A model of two classes, whose second is as probable as an image of this many channels is bright."""
    images = keras.Input((4, 4, channels))
    bright = keras.layers.GlobalAveragePooling2D()(images)
    light = keras.layers.Dense(2, kernel_initializer="zeros", name="predictions", activation="softmax")
    model = keras.Model(images, light(bright))
    light.set_weights([np.float32([[-4, 4]] * channels), np.zeros(2, "float32")])
    return model


def test_a_model_of_greys_sees_the_luma_of_colours():
    """As in `predict`: a model of one channel would take any, and see the red one."""
    colours = np.zeros((2, 4, 4, 3), np.uint8)
    colours[0, ..., 0], colours[1, ..., 1] = 255, 255  # red is dark, green is bright
    right = evaluate_classes(brightness(1), Split(colours, [0, 1]), ["dark", "bright"])
    assert right["accuracy"] == 1
    greys = luma(colours)
    assert evaluate_classes(brightness(1), Split(greys, [0, 1]), ["dark", "bright"])["loss"] == right["loss"]


@pytest.mark.parametrize(("channels", "shape"), [(3, (4, 4, 1)), (1, (4, 4, 4)), (3, (4, 5, 3)), (3, (8, 8, 3))])
def test_images_that_a_model_does_not_take_are_refused(channels, shape):
    split = Split(np.zeros((2, *shape), np.uint8), [0, 1])
    with pytest.raises(ValueError, match=r"`split` must have images of the model's shape, \(4, 4, \d\). Received: \("):
        evaluate_classes(brightness(channels), split, ["dark", "bright"])


def test_pairs_and_data_sets_are_judged_as_splits_are(tmp_path):
    images = np.zeros((4, 4, 4, 3), np.uint8)
    images[2:], names = 255, ["dark", "bright"]
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).resize((9, 9)).save(path)
    expected = evaluate_classes(brightness(3), Split(images, [0, 0, 1, 1]), names)
    assert expected["accuracy"] == 1
    texts = ["dark", "dark", "bright", "bright"]
    for given in (
        (images, [0, 0, 1, 1]),
        (images / 255.0, texts),
        (paths, texts),
        list(zip(images, texts, strict=True)),
    ):
        assert evaluate_classes(brightness(3), given, names) == expected
    (tmp_path / "0.png").write_text("no image")
    figures = evaluate_classes(brightness(3), (paths, [*texts[:3], "dark"]), names, worst=1)
    assert figures["images"] == 3 and [row["index"] for row in figures["worst"]] == [3]  # as the pair counts
    named = Split(images, [1, 1, 0, 0], class_names=("bright", "dark"))
    assert evaluate_classes(brightness(3), named, names) == expected
    with pytest.raises(ValueError, match="`split` must be a Split, or a pair"):
        evaluate_classes(brightness(3), "photos", names)
