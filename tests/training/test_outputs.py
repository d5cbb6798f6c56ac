"""The loss follows from what a model answers with, its figures too, and labels go to its classes by name."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from nasnet_keras.data.loading import Data, Split
from nasnet_keras.models import answers
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import compilation, fitting, recipes
from nasnet_keras.training.evaluation import evaluate_classes
from nasnet_keras.training.transfer import fine_tune

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
RECIPE = recipes.recipe("micro", batch_size=16)
NAMES = ("red", "green", "blue")


def colours(count, seed=0, classes=3, side=8):
    """Images of flat colours with noise: learnable in seconds."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype="int32") % classes
    images = rng.integers(0, 60, (count, side, side, 3))
    images[np.arange(count), :, :, labels] += 150
    return Split(images.astype("uint8"), labels)


def data(classes=3):
    parts = (colours(count, seed, classes) for seed, count in enumerate((48, 12, 12)))
    return Data("colours", *parts, NAMES[:classes], (8, 8, 3))


def small():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    parts = [layers.Flatten(), layers.Dense(8, "relu", name="a"), layers.Dropout(0.2), layers.Dense(3, name="b")]
    return keras.Sequential([keras.Input((8, 8, 3)), *parts], name="small")


def network(**options):
    keras.utils.set_random_seed(3)
    size = {"repeats": (1,), "filters": 8, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
    return NASNet("tiny", **{**size, **options})


def probabilities(model, split):
    outputs, _, kind = fitting.answers_to(model, split)
    return answers.as_probabilities(outputs, kind)


def plain(*parts):
    """A Keras model of its user's own, without a NASNet."""
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((8, 8, 3)), *parts])


OUTPUTS = np.array([[2.0, -1.0, 0.5], [0.3, 0.1, -4.0], [-2.0, 1.0, 3.0]], "float32")
LABELS = np.array([2, 0, 1])


def by_hand(kind, smoothing):
    """The mean loss in float64."""
    wide, targets = OUTPUTS.astype("float64"), np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    if kind == "sigmoid":
        shares = 1 / (1 + np.exp(-wide))
        return -(targets * np.log(shares) + (1 - targets) * np.log(1 - shares)).mean()
    return -(targets * np.log(np.exp(wide) / np.exp(wide).sum(1, keepdims=True))).sum(1).mean()


@pytest.mark.jax
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["logits", "softmax", "sigmoid"])
def test_losses_by_hand(kind, smoothing):
    given = {"logits": OUTPUTS, "sigmoid": 1 / (1 + np.exp(-OUTPUTS))}
    given["softmax"] = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(1, keepdims=True)
    loss = compilation.SmoothedCrossentropy(smoothing, output=kind)
    assert float(loss(LABELS, given[kind])) == pytest.approx(by_hand(kind, smoothing), rel=1e-5)
    again = compilation.SmoothedCrossentropy.from_config(loss.get_config())
    assert (again.output, again.smoothing) == (kind, smoothing)


@pytest.mark.parametrize("kind", ["logits", "sigmoid"])
def test_one_unit_tells_two_classes_apart(kind):
    raw = np.array([[2.0], [-1.0]])
    given = raw if kind == "logits" else 1 / (1 + np.exp(-raw))
    loss = compilation.SmoothedCrossentropy(output=kind, class_weights=[1.0, 3.0])
    # -log(1 - 1 / (1 + e^-2)) = 2.1269 of class 0, 3 times -log(1 / (1 + e^1)) = 1.3133 of class 1.
    expected = (np.log(1 + np.exp(2)) + 3 * np.log(1 + np.exp(1))) / 2
    assert float(loss(np.array([0, 1]), given.astype("float32"))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid", pytest.param("log_softmax", marks=pytest.mark.long)])
def test_fine_tuning_learns_with_every_answer_and_its_figures_are_right(activation, eager):
    options = {"recipe": recipes.recipe("scans", batch_size=16, augmentation="none"), "epochs": 6, "seed": 4}
    tuned = fine_tune(network(), colours(48), None, NAMES, weights="none", classifier_activation=activation, **options)
    test = colours(30, 5)
    figures = fitting.evaluate(tuned, test)
    assert figures["accuracy"] > 0.9
    outputs = np.asarray(tuned(test.images / np.float32(127.5) - 1), "float64")
    rows = np.arange(30)
    if activation == "sigmoid":
        right = 1 - outputs
        right[rows, test.labels] = outputs[rows, test.labels]
        loss = -np.log(np.maximum(right, 1e-7)).mean()
    else:
        loss = (np.log(np.exp(outputs).sum(1)) - outputs[rows, test.labels]).mean()
    assert figures["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-6)
    named = evaluate_classes(tuned, test, NAMES)
    assert {key: named[key] for key in figures} == pytest.approx(figures)
    assert probabilities(tuned, test).min() >= 0


def test_a_loss_of_confident_logits_is_not_cut_off():
    """A network that is wrong with certainty: as probabilities, its logits would give 16.1 at most, or less than 0."""
    model = network(classifier_activation=None)
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([0 * kernel, np.array([0.0, 50.0, -10.0])])
    split = colours(3)
    # log(e^0 + e^50 + e^-10) = 50: minus 0, 50, -10.
    assert fitting.evaluate(model, split) == {
        "accuracy": pytest.approx(1 / 3),
        "loss": pytest.approx(110 / 3),
        "images": 3,
    }
    np.testing.assert_allclose(probabilities(model, split), [[0, 1, 0]] * 3, atol=1e-20)


def test_an_activation_that_was_set_later_counts(tmp_path, eager):
    model = network(class_names=NAMES)
    model.layers[-1].activation = None
    fitting.fit(model, data(), RECIPE, epochs=6)
    assert fitting.evaluate(model, colours(30, 5))["accuracy"] > 0.9
    fitting.save_model(model, tmp_path)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = colours(3).images / np.float32(127.5) - 1
    np.testing.assert_allclose(np.asarray(loaded(images)), np.asarray(model(images)), atol=1e-5)


@pytest.mark.long
def test_an_auxiliary_head_of_logits_learns_by_its_logits(eager):
    wide = [Split(np.repeat(np.repeat(s.images, 2, 1), 2, 2), s.labels) for s in (colours(48), colours(12, 1))]
    both = Data("wide", *wide, wide[1], NAMES, (16, 16, 3))
    model = network(auxiliary_head=True, repeats=(1, 1), input_shape=(16, 16, 3), classifier_activation=None)
    history = fitting.fit(model, both, replace(RECIPE, batch_size=8), epochs=3)
    compiled = model.loss
    assert {head: loss.output for head, loss in compiled.items()} == {"predictions": "logits", "auxiliary": "logits"}
    images, labels = both.validation.images / np.float32(127.5) - 1, both.validation.labels
    outputs = {name: np.asarray(value, "float64") for name, value in model(images).items()}
    hand = {
        name: np.mean(np.log(np.exp(out).sum(1)) - out[np.arange(len(labels)), labels]) for name, out in outputs.items()
    }
    assert history[-1]["val_loss"] == pytest.approx(hand["predictions"] + 0.4 * hand["auxiliary"], rel=1e-3)


@pytest.mark.long
def test_models_of_every_make_learn(eager):
    layers = keras.layers
    makes = [
        (3, plain(layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(), layers.Dense(3))),
        (3, plain(layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Activation("softmax"))),
        (2, plain(layers.Rescaling(1 / 127.5, offset=-1), layers.GlobalAveragePooling2D(), layers.Dense(1))),
        (2, plain(layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid"))),
    ]
    for classes, model in makes:
        history = fitting.fit(model, data(classes), replace(RECIPE, learning_rate=1.0, batch_size=4), epochs=4)
        assert fitting.evaluate(model, colours(30, 5, classes))["accuracy"] > 0.9, model.layers
        assert history[-1]["val_accuracy"] > 0.9


def test_what_no_loss_follows_from_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="`model` must end in softmax, in sigmoid.*tanh of predictions"):
        fitting.fit(network(classifier_activation="tanh"), data(), RECIPE, epochs=1, directory=tmp_path / "a")
    with pytest.raises(ValueError, match="`classifier_activation` must end in softmax"):
        fine_tune(network(), colours(48), None, NAMES, classifier_activation="relu", directory=tmp_path / "b")
    for name, value in (("include_top", False), ("feature_pyramid", True), ("pooling", "avg")):
        with pytest.raises(ValueError, match=f"`{name}` must be left out"):
            fine_tune(network(), colours(48), None, NAMES, **{name: value})
    with pytest.raises(ValueError, match="`model` must have the data's 3 classes. Received: 2"):
        fitting.fit(network(classes=2), data(), RECIPE, epochs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_labels_go_to_the_models_classes_by_name(eager):
    turned = ("blue", "red", "green")
    model = network(class_names=turned)
    fitting.fit(model, data(), RECIPE, epochs=6, class_weights=[1.0, 1.0, 0.5])
    guesses = probabilities(model, colours(30, 5)).argmax(1)
    right = np.array([turned.index(NAMES[label]) for label in colours(30, 5).labels])
    assert np.mean(guesses == right) > 0.9
    assert model.loss.class_weights == [0.5, 1.0, 1.0]  # of blue, red, green
    with pytest.raises(ValueError, match="violet"):
        fitting.fit(network(class_names=("red", "green", "violet")), data(), RECIPE, epochs=1)


def test_a_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="`class_names` must be the model's 3, one for each class. Received: 2"):
        evaluate_classes(network(), colours(6), NAMES[:2])
