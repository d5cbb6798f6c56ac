"""Labels that are mixtures: the loss of a mixture is the mixture of the losses, whatever a model answers with."""

import math

import keras
import numpy as np
import pytest
from interface import refusal
from test_outputs import colours

from nasnet_keras.cli import main
from nasnet_keras.data.loading import Data, Split
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import compilation, fitting, recipes

OUTPUTS = np.array([[2.0, -1.0, 0.5], [0.3, 0.1, -4.0], [-2.0, 1.0, 3.0]], "float32")
SHARES = np.array([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]], "float32")
WEIGHTS = [0.5, 2.0, 1.5]


def answered(kind, logits=OUTPUTS):
    if kind == "softmax":
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return 1 / (1 + np.exp(-logits)) if kind == "sigmoid" else logits


def loss_of(*args, **options):
    return compilation.SmoothedCrossentropy(*args, mixed=True, **options)


def test_a_value_worked_by_hand():
    """Of probabilities 0.5, 0.25 and 0.25: ln 2 for the first class and ln 4 for the others."""
    loss = loss_of()
    outputs, shares = np.array([[0.5, 0.25, 0.25]], "float32"), np.array([[0.5, 0.5, 0.0]], "float32")
    assert float(loss(shares, outputs)) == pytest.approx(1.5 * math.log(2), rel=1e-6)
    smoothed = loss_of(0.3)  # 0.7 of that, and 0.3 of the mean of ln 2, ln 4 and ln 4
    expected = 0.7 * 1.5 * math.log(2) + 0.3 * 5 / 3 * math.log(2)
    assert float(smoothed(shares, outputs)) == pytest.approx(expected, rel=1e-6)
    weighted = loss_of(class_weights=[2.0, 4.0, 1.0])  # half of 2 ln 2, and half of 4 ln 4
    assert float(weighted(shares, outputs)) == pytest.approx(5 * math.log(2), rel=1e-6)
    # A single sigmoid of 0.25, three quarters of the second class: -0.75 ln 0.25 - 0.25 ln 0.75.
    single = loss_of(output="sigmoid")
    found = float(single(np.array([[0.25, 0.75]], "float32"), np.array([[0.25]], "float32")))
    assert found == pytest.approx(-0.75 * math.log(0.25) - 0.25 * math.log(0.75), rel=1e-6)


@pytest.mark.jax
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["logits", "softmax", "sigmoid"])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(kind, smoothing, weights):
    loss = loss_of(smoothing, weights, output=kind, reduction=None)
    outputs = answered(kind)
    plain = np.stack([keras.ops.convert_to_numpy(loss(np.full(3, label), outputs)) for label in range(3)], 1)
    found = keras.ops.convert_to_numpy(loss(SHARES, outputs))
    np.testing.assert_allclose(found, (SHARES.astype(float) * plain).sum(1), rtol=2e-5)
    exact = keras.ops.convert_to_numpy(loss(np.eye(3, dtype="float32"), outputs))
    np.testing.assert_allclose(exact, plain[np.arange(3), np.arange(3)], rtol=2e-5)


@pytest.mark.jax
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["logits", "sigmoid"])
def test_a_single_unit_stands_for_the_second_of_two_classes(kind, smoothing):
    loss = loss_of(smoothing, [1.0, 3.0], output=kind, reduction=None)
    outputs, shares = answered(kind, OUTPUTS[:, :1]), np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]], "float32")
    plain = np.stack([keras.ops.convert_to_numpy(loss(np.full(3, label), outputs)) for label in range(2)], 1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss(shares, outputs)), (shares * plain).sum(1), rtol=2e-5)


def test_a_model_may_have_more_outputs_than_there_are_classes():
    loss = loss_of(0.1, reduction=None)
    outputs = answered("softmax")
    wide = np.pad(SHARES[:, :2] / SHARES[:, :2].sum(1, keepdims=True), ((0, 0), (0, 1)))
    np.testing.assert_allclose(loss(wide[:, :2], outputs), loss(wide, outputs), rtol=1e-6)


@pytest.mark.jax
def test_accuracy_of_mixtures_counts_the_greatest_share():
    labels = [SHARES, np.array([0, 1, 1])]
    for given in labels:  # the first is right alone: the others name the classes 0 and 2
        right = compilation.is_right(keras.ops.convert_to_tensor(given), keras.ops.convert_to_tensor(OUTPUTS), 0.5)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(right), [1, 0, 0])
    single, two = np.array([[0.9], [0.1], [0.9]], "float32"), np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], "float32")
    right = compilation.is_right(keras.ops.convert_to_tensor(two), keras.ops.convert_to_tensor(single), 0.5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(right), [1, 0, 0])


@pytest.mark.jax
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_several_labels_each_is_mixed_alone(smoothing, weights):
    """What MixUp makes of images with several labels: marks between 0 and 1, a mixture of both losses for each."""
    marks = np.array([[1.0, 0.3, 0.0], [0.5, 1.0, 1.0], [0.0, 0.0, 0.9]], "float32")
    loss = compilation.SmoothedCrossentropy(smoothing, weights, output="sigmoid", reduction=None)
    chances, factors = answered("sigmoid").astype(float), np.array(weights or [1, 1, 1], float)
    low, high = (
        target * np.log(chances) + (1 - target) * np.log(1 - chances) for target in (smoothing / 2, 1 - smoothing / 2)
    )
    expected = -(marks * factors * high + (1 - marks) * low).sum(1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss(marks, answered("sigmoid"))), expected, rtol=2e-5)
    told = compilation.are_right(keras.ops.convert_to_tensor(marks), keras.ops.convert_to_tensor(answered("sigmoid")))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(told), [2 / 3, 1 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.long
def test_training_mixes_images_of_several_labels():
    rng, parts = np.random.default_rng(0), []
    for count in (48, 16, 16):
        marks = rng.random((count, 3)) < 0.5
        parts.append(
            Split((rng.integers(0, 60, (count, 16, 16, 3)) + 150 * marks[:, None, None]).astype("uint8"), marks)
        )
    data = Data("colours", *parts, ("red", "green", "blue"), (16, 16, 3))
    recipe = recipes.recipe("micro", batch_size=16, mixup=0.4, cutmix=1.0)
    _, labels = fitting.training_batches(data, recipe, 0)[0]
    assert labels.shape == (16, 3) and ((labels > 0.05) & (labels < 0.95)).any() and labels.max() <= 1
    assert len(set(labels.sum(1).round(3))) > 3  # they are no shares of one
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(16, 16, 3), classes=3,
                   classifier_activation="sigmoid")  # fmt: skip
    history = fitting.fit(model, data, recipe, epochs=1, class_weights="balanced")
    assert 0 < history[0]["val_label_accuracy"] <= 1 and np.isfinite(history[0]["loss"])


def trained(epochs=8, classes=3, callbacks=(), directory=None, **options):
    keras.utils.set_random_seed(3)
    parts = [colours(count, seed, classes, side=16) for seed, count in enumerate((48, 12, 12))]
    data = Data("colours", *parts, ("red", "green", "blue")[:classes], (16, 16, 3))
    size = {"repeats": (1,), "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": classes}
    model = NASNet("tiny", **{**size, **options})
    recipe = recipes.recipe("micro", batch_size=16, mixup=0.4, cutmix=1.0, erasing=0.2, rand_augment=3)
    how = {"class_weights": [1.0, 2.0, 1.0][:classes], "callbacks": callbacks, "directory": directory}
    return model, data, fitting.fit(model, data, recipe, epochs=epochs, seed=1, **how)


@pytest.mark.long
def test_training_with_an_auxiliary_head_learns_from_mixtures():
    model, data, history = trained(auxiliary_head=True, repeats=(1, 1))
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["val_predictions_accuracy"] > 0.6
    assert fitting.evaluate(model, data.test)["accuracy"] > 0.6


@pytest.mark.parametrize("activation", [pytest.param("sigmoid", marks=pytest.mark.long), None])
def test_training_answers_with_sigmoids_or_logits(activation, tmp_path):
    model, _, history = trained(epochs=1, classifier_activation=activation)
    assert np.isfinite(history[0]["loss"]) and "val_accuracy" in history[0]
    model.save(tmp_path / "model.keras")  # with its loss and its metric
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.evaluate(np.zeros((2, 16, 16, 3)), np.array([0, 1]), verbose=0)


@pytest.mark.long
def test_a_resumed_training_with_mixtures_is_the_uninterrupted_one(tmp_path):
    whole, *_ = trained(epochs=3)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(epochs=3, callbacks=[Interrupt()], directory=tmp_path)
    resumed, *_ = trained(epochs=3, directory=tmp_path)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_mixing_on_the_device_is_refused_where_batches_lie_elsewhere(capsys, tmp_path):
    words = ["train", "--data", "digits", "--genotype", "tiny", "--mixup", "0.2", "--directory", str(tmp_path / "m")]
    assert main([*words, "--mixing", "device"]) == 2
    assert "`mixing` must be processor on tensorflow" in capsys.readouterr().err


def test_a_recipe_that_mixes_is_not_plain():
    """The children of a search know single labels alone: such a recipe trains the ordinary network."""
    assert recipes.recipe("micro").is_plain and not recipes.recipe("micro", mixup=0.2).is_plain
    assert recipes.recipe("micro", erasing=0.2, rand_augment=9).is_plain
    assert not any(one.mixes or one.erasing or one.rand_augment for one in recipes.RECIPES.values())


@pytest.mark.parametrize("name", ["mixup", "cutmix", "erasing", "rand_augment"])
@pytest.mark.parametrize("value", [-0.1, 11, "much", True])
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        recipes.recipe("micro", **{name: value})


@pytest.mark.parametrize("words", [["train"], ["finetune", "--genotype", "tiny"]])
@pytest.mark.parametrize("option", ["--mixup", "--cutmix", "--erasing", "--rand-augment"])
def test_the_command_line_names_a_bad_setting(words, option, tmp_path, capsys):
    found = refusal(main, [*words, option, "11", "--directory", str(tmp_path / "new")], capsys.readouterr)
    assert found["code"] == 2 and f"`{option[2:].replace('-', '_')}` must be" in found["says"]
