"""On JAX a child is the ordinary network of its genotype, and TensorFlow's child: outputs, gradients, statistics."""

import os
import random

import keras
import numpy as np
import pytest
from described import described
from random_genotypes import random_genotype

from nasnet_keras.children.optimizer import Optimizer
from nasnet_keras.genotype import load_genotype

pytest.importorskip("jax")
if keras.backend.backend() != "jax":
    pytest.skip("runs with KERAS_BACKEND=jax", allow_module_level=True)
pytestmark = pytest.mark.jax

import jax  # noqa: E402

from nasnet_keras.children import tensorflow_child as turnaround  # noqa: E402
from nasnet_keras.children.jax_child import Child  # noqa: E402
from nasnet_keras.children.settings import ChildSettings  # noqa: E402
from nasnet_keras.data.loading import Data, Split, load_data  # noqa: E402
from nasnet_keras.models.network import NASNet  # noqa: E402
from nasnet_keras.search.space import SearchSpace  # noqa: E402
from nasnet_keras.search.tuner import search  # noqa: E402
from nasnet_keras.training.evaluation import evaluate_classes  # noqa: E402
from nasnet_keras.training.transfer import fine_tune  # noqa: E402

SHAPE = (8, 7, 3)
TINY = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": SHAPE, "classes": 10}
MANY = int(os.environ.get("NASNET_KERAS_RANDOM_GENOTYPES", "4"))


def batch(rng, size=8):
    return rng.normal(size=(size, *SHAPE)).astype("float32"), rng.integers(0, 10, size)


def perturbed(child, rng):
    """The child with none of its weights at its initial value."""
    child.set_weights(
        [
            value if weight.fan_out else value + rng.uniform(-0.2, 0.2, value.shape).astype("float32")
            for value, weight in zip(child.get_weights(), child.program.weights, strict=True)
        ]
    )
    return child


def distance(results, expected):
    """The greatest difference, as a share of the greatest value."""
    scale = max(np.abs(one).max() for one in expected)
    return max(np.abs(result - one).max() for result, one in zip(results, expected, strict=True)) / scale


def assert_close(results, expected):
    """Equal to 1e-4 of the greatest value."""
    assert distance(results, expected) <= 1e-4


def assert_close_nearby(gradients, others, other, images, labels, rng, tries=40):
    """They are `other`'s gradients to 1e-4, or those at a point within rounding of this one.

    Where two elements under a maximum, or an element and a ReLU's zero, lie within rounding of each other, the
    gradient jumps, and the two backends may land on either side. What rounding changes of `other`'s own
    gradients in half of all tries is allowed besides.
    """
    if distance(gradients, others) > 1e-4:
        points = (images * (1 + 3e-7 * rng.choice([-1, 0, 1], images.shape).astype("float32")) for _ in range(tries))
        nearby = [other.loss_and_gradient(one, labels)[1] for one in points]
        rounding = np.median([distance(others, one) for one in nearby])
        assert min(distance(gradients, one) for one in nearby) <= 1e-4 + min(rounding, 1e-4)


def test_a_child_computes_what_its_network_computes(rng):
    child = perturbed(Child(described("tiny", **TINY), seed=1), rng)
    model = child.to_model(classifier_activation=None)
    images, labels = batch(rng)
    assert_close([child.logits(images)], [np.asarray(model(images, training=False))])

    def loss(trained, untrained):
        logits, after = model.stateless_call(trained, untrained, images, training=True)
        return -jax.numpy.mean(jax.nn.log_softmax(logits)[jax.numpy.arange(len(labels)), labels]), after

    before = [[one.value for one in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    (expected, after), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(*before)
    gradients = {variable.path: value for variable, value in zip(model.trainable_variables, gradients, strict=True)}
    after = {variable.path: value for variable, value in zip(model.non_trainable_variables, after, strict=True)}
    value, own = child.loss_and_gradient(images, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    variables = child.variables(model)
    assert_close(own, [gradients[variable.path] for variable in variables if variable.trainable])
    child.train_step(images, labels)
    moved = [
        one for one, weight in zip(child.get_weights(), child.program.weights, strict=True) if not weight.trainable
    ]
    assert_close(moved, [after[variable.path] for variable in variables if not variable.trainable])


@pytest.mark.parametrize("number", range(MANY))
def test_random_genotypes_compute_the_same_function_as_on_tensorflow(number, rng):
    draws = random.Random(number)
    genotype = random_genotype(draws.randint, inputs=3 if number % 6 == 5 else 2, max_blocks=5)
    child = perturbed(Child(described(genotype, **TINY), seed=1), rng)
    other = turnaround.Child(described(genotype, **TINY), seed=1)
    other.set_weights(child.get_weights())
    images, labels = batch(rng)
    assert_close([child.logits(images)], [other.logits(images)])
    (loss, gradients), (expected, others) = (one.loss_and_gradient(images, labels) for one in (child, other))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert_close_nearby(gradients, others, other, images, labels, rng)


@pytest.mark.parametrize("nesterov", [False, True])
def test_training_gives_the_losses_of_tensorflow(nesterov, rng):
    optimizer = Optimizer(learning_rate=0.1, steps=4, nesterov=nesterov, clip_norm=1.0)
    one, other = (kind(described("tiny", **TINY), seed=2, optimizer=optimizer) for kind in (Child, turnaround.Child))
    for _ in range(4):
        data = batch(rng)
        np.testing.assert_allclose(float(one.train_step(*data)), float(other.train_step(*data)), rtol=1e-3)
    found, expected = (child.accuracy_of(child.logits(data[0]), data[1]) for child in (one, other))
    assert found == expected


def test_the_second_child_of_a_kind_compiles_nothing(rng):
    data, compiled, counts = batch(rng), [], []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append("compile" in name))
    for seed in (1, 2):
        compiled.clear()
        Child(described("tiny", **{**TINY, "filters": 5}), seed=seed).train_step(*data)
        counts.append(sum(compiled))
    assert counts[0] > 0 and counts[1] == 0


def test_a_search_trains_them(tmp_path):
    settings, data = ChildSettings(repeats=(1, 1), filters=4), load_data("digits", limit=200)
    assert settings.is_interpreted()
    first, second = (settings.evaluate(load_genotype("tiny"), data, 3) for _ in range(2))
    assert first == second and 0 <= first["reward"] <= 1


def marked(rng, count):
    """Images in which each channel is bright or dark, and which are bright: several labels an image."""
    marks = rng.random((count, 3)) < 0.5
    return Split((rng.integers(0, 60, (count, *SHAPE)) + 150 * marks[:, None, None]).astype("uint8"), marks)


def test_several_labels_give_the_losses_of_tensorflow(rng):
    options = {**TINY, "classes": 3, "classifier_activation": "sigmoid"}
    optimizer = Optimizer(learning_rate=0.1, steps=4)
    one, other = (kind(described("tiny", **options), seed=2, optimizer=optimizer) for kind in (Child, turnaround.Child))
    for _ in range(4):
        images, marks = batch(rng)[0], rng.random((8, 3)) < 0.4
        losses = [float(child.train_step(images, marks)) for child in (one, other)]
        np.testing.assert_allclose(*losses, rtol=1e-3)
    found, expected = (child.accuracy_of(child.logits(images), marks) for child in (one, other))
    assert found == pytest.approx(expected)


def test_several_labels_are_rewarded_by_their_precision(rng):
    data = Data("channels", *(marked(rng, count) for count in (64, 24, 24)), ("red", "green", "blue"), SHAPE)
    settings = ChildSettings(repeats=(1, 1), filters=4)
    first, second = (settings.evaluate(load_genotype("tiny"), data, 3) for _ in range(2))
    assert first == second and 0.3 < first["reward"] <= 1


@pytest.mark.long
def test_several_labels_are_searched_for_and_learnt(rng, tmp_path):
    data = Data("channels", *(marked(rng, count) for count in (64, 24, 24)), ("red", "green", "blue"), SHAPE)
    settings = ChildSettings(repeats=(1, 1), filters=4, epochs=3)
    found = search(data, 2, tmp_path, "random", space=SearchSpace(blocks=1), child=settings)
    rewards = [trial["reward"] for trial in found.trials]
    assert len(rewards) == 2 and all(0.3 < reward <= 1 for reward in rewards)
    source = NASNet("tiny", **{**TINY, "classes": 2})
    model = fine_tune(source, data.train, data.validation, data.class_names, weights="none", epochs=4, recipe="micro")
    assert model.architecture.classifier_activation == "sigmoid" and len(model.thresholds) == 3
    figures = evaluate_classes(model, data.test, data.class_names)
    assert figures["mean_average_precision"] > 0.7 and len(figures["curves"]) == 3
