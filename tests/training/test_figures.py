"""Figures of several labels an image, against definitions in float64 and counting by hand."""

import keras
import numpy as np
import pytest

from nasnet_keras.data.loading import Split
from nasnet_keras.training.compilation import SmoothedCrossentropy
from nasnet_keras.training.evaluation import calibration, evaluate_classes
from nasnet_keras.training.figures import (
    average_precisions,
    best_thresholds,
    figures_of,
    losses,
    mean_average_precision,
)


def precision_of(labels, scores):
    """The definition: over the images that have the label, the share of those at least as likely that have it, too."""
    return np.mean([labels[scores >= own].mean() for own in scores[labels]])


def test_average_precision_is_the_mean_over_the_images_that_have_a_label(rng):
    labels = rng.random((40, 5)) < [0.1, 0.5, 0.9, 0.3, 0]
    scores = np.round(rng.random((40, 5)), 1)  # with ties
    found = average_precisions(labels, scores)
    expected = [precision_of(labels[:, place], scores[:, place]) for place in range(4)]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-12)
    assert np.isnan(found[4]) and mean_average_precision(labels, scores) == pytest.approx(np.mean(expected))
    assert mean_average_precision(labels[:, 4:], scores[:, 4:]) is None


def test_thresholds_have_the_best_f1_and_lie_between_what_was_met(rng):
    labels, scores = rng.random((30, 6)) < 0.4, rng.random((30, 6)).astype("float32")

    def f1(place, cut):
        told = scores[:, place] >= cut
        return 2 * (told & labels[:, place]).sum() / (told.sum() + labels[:, place].sum())

    for place, cut in enumerate(best_thresholds(labels, scores)):
        assert f1(place, cut) == pytest.approx(max(f1(place, own) for own in scores[:, place]))
        assert cut not in scores[:, place] and 0 < cut < 1
    assert best_thresholds(np.zeros((3, 1), bool), scores[:3, :1]) == (0.5,)
    assert best_thresholds(np.ones((3, 1), bool), scores[:3, :1]) == (0.5,)


def test_losses_by_hand():
    logits = np.array([[2.0, -1.0, 0.5], [30.0, -80.0, 0.0]], "float32")
    # -log(e^0.5 / (e^2 + e^-1 + e^0.5)) = 1.7413, and 110, which no clipped probability could tell.
    found = losses(logits, np.array([2, 1]), "logits")
    assert found == pytest.approx([-np.log(np.exp(0.5) / np.exp([2, -1, 0.5]).sum()), 110.0], rel=1e-6)
    assert found[0] == pytest.approx(1.7413, abs=1e-3)
    sigmoids = np.array([[0.9, 0.2, 0.6]], "float32")
    by_hand = -(np.log(0.1) + np.log(0.8) + np.log(0.6)) / 3
    assert losses(sigmoids, np.array([2]), "sigmoid") == pytest.approx([by_hand], rel=1e-6)
    unit = np.array([[0.9], [0.2]], "float32")
    assert losses(unit, np.array([1, 1]), "sigmoid") == pytest.approx(-np.log([0.9, 0.2]), rel=1e-6)
    assert losses(np.array([[3.0]]), np.array([0]), "logits") == pytest.approx([np.log(1 + np.exp(3))])


def test_the_loss_is_summed_over_labels(rng):
    labels, chances = rng.random((7, 4)) < 0.5, rng.uniform(0.05, 0.95, (7, 4))
    each = -np.where(labels, np.log(chances), np.log(1 - chances))
    np.testing.assert_allclose(losses(chances, labels, "sigmoid"), each.sum(1), rtol=1e-12)
    loss = SmoothedCrossentropy(output="sigmoid", reduction=None)
    found = np.asarray(loss(labels.astype("float32"), chances.astype("float32")))
    np.testing.assert_allclose(found, each.sum(1), rtol=1e-5)
    factors = [1.0, 2.0, 0.5, 3.0]
    weighed = SmoothedCrossentropy(0.2, factors, output="sigmoid", reduction=None)
    targets = 0.8 * labels + 0.1
    each = -(targets * np.log(chances) + (1 - targets) * np.log(1 - chances)) * np.where(labels, factors, 1)
    found = np.asarray(weighed(labels.astype("float32"), chances.astype("float32")))
    np.testing.assert_allclose(found, each.sum(1), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(weighed))
    np.testing.assert_allclose(np.asarray(again(labels.astype("float32"), chances.astype("float32"))), found)


def test_labels_need_independent_probabilities(rng):
    with pytest.raises(ValueError, match="`model` must end in sigmoid"):
        figures_of(np.full((2, 3), 1 / 3), np.ones((2, 3), bool), "softmax")
    assert figures_of(np.zeros((0, 3)), np.zeros((0, 3), bool), "sigmoid") == {
        "mean_average_precision": None, "loss": None, "images": 0,
    }  # fmt: skip


class Answers(keras.Model):
    """Answers that are given, by a model that ends in sigmoid and has thresholds."""

    def __init__(self, given, thresholds):
        inputs = keras.Input((1, 1, 3))
        middle = keras.layers.Dense(given.shape[1], activation="sigmoid")(keras.layers.Flatten()(inputs))
        super().__init__(inputs, middle)
        self.given, self.thresholds = given, thresholds

    def predict(self, batches, verbose=0):
        return self.given


def test_figures_of_each_label_by_hand():
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    given = np.array([[0.9, 0.2], [0.4, 0.7], [0.6, 0.3], [0.1, 0.35]], "float32")
    split = Split(np.zeros((4, 1, 1, 3), np.uint8), labels)
    figures = evaluate_classes(Answers(given, (0.5, 0.25)), split, ("a", "b"))
    a, b = figures["classes"]
    assert (a["images"], a["precision"], a["recall"], a["wrong"]) == (2, 0.5, 0.5, 2)
    assert (b["images"], b["precision"], b["recall"], b["wrong"]) == (2, pytest.approx(2 / 3), 1.0, 1)
    assert a["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert b["average_precision"] == pytest.approx((1 + 2 / 3) / 2) and figures["exact"] == 0.25
    assert figures["mean_average_precision"] == pytest.approx(5 / 6) and a["threshold"] == 0.5
    assert figures["curves"]["a"][0] == [1.0, 0.5] and figures["curves"]["a"][-1] == [0.0, 1.0]
    # Their losses: -ln 0.4 - ln 0.3, -ln 0.4 - ln 0.7, -ln 0.9 - ln 0.65.
    worst = evaluate_classes(Answers(given, (0.5, 0.25)), split, ("a", "b"), worst=3)["worst"]
    assert [(row["index"], row["class"], row["taken_for"]) for row in worst] == [
        (2, "b", "a|b"), (1, "a|b", "b"), (3, "none", "b"),
    ]  # fmt: skip
    assert [row["score"] for row in worst] == pytest.approx([0.6, 0.6, 0.35])


def test_calibration_by_hand():
    found = calibration(np.array([0.95, 0.91, 1.0, 0.55]), np.array([True, False, True, True]))
    last, middle = found["bins"][9], found["bins"][5]
    assert (last["images"], last["accuracy"], middle["images"], middle["accuracy"]) == (3, pytest.approx(2 / 3), 1, 1.0)
    expected = 0.75 * abs((0.95 + 0.91 + 1) / 3 - 2 / 3) + 0.25 * abs(0.55 - 1)
    assert found["error"] == pytest.approx(expected) and calibration([], [])["error"] is None


def test_the_best_five_count():
    given = np.tile(np.linspace(0.3, 0.01, 8, dtype="float32"), (8, 1))
    given /= given.sum(1, keepdims=True)
    inputs = keras.Input((1, 1, 3))
    model = keras.Model(inputs, keras.layers.Dense(8, activation="softmax")(keras.layers.Flatten()(inputs)))
    model.predict = lambda batches, verbose=0: given
    figures = evaluate_classes(model, Split(np.zeros((8, 1, 1, 3), np.uint8), np.arange(8)), list("abcdefgh"))
    assert figures["accuracy"] == 1 / 8 and figures["top_5_accuracy"] == 5 / 8
