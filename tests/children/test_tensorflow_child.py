"""A child is the ordinary network of its genotype: same outputs, gradients, statistics, and same training."""

import gc
import os
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from described import described
from random_genotypes import random_genotype

from nasnet_keras.children import graph_assembly as pieces
from nasnet_keras.children.graph_assembly import Assembly
from nasnet_keras.children.optimizer import Optimizer
from nasnet_keras.children.tensorflow_child import Child
from nasnet_keras.genotype import OPERATIONS, Block, CellGenotype, Genotype, load_genotype
from nasnet_keras.models.counting import multiply_adds
from nasnet_keras.models.network import NASNet
from nasnet_keras.training.compilation import SmoothedCrossentropy
from nasnet_keras.training.figures import mean_average_precision

SHAPE = (8, 8, 3)
TINY = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": SHAPE, "classes": 10}
MANY = int(os.environ.get("NASNET_KERAS_RANDOM_GENOTYPES", "12"))


def single(operation, combine="add"):
    """A genotype that shows one operation, on both inputs, with both strides."""
    cell = CellGenotype(
        (Block((0, 1), (operation, operation), combine), Block((2, 1), (operation, "identity"))), (2, 3)
    )
    return Genotype(cell, cell)


def batch(rng, shape=SHAPE, size=8):
    return rng.normal(size=(size, *shape)).astype("float32"), rng.integers(0, 10, size)


def pair(genotype, rng, **network):
    """A child and the ordinary network with the same weights, none of them at its initial value."""
    arguments = {**TINY, **network}
    child = Child(described(genotype, **arguments), seed=1)
    child.set_weights(
        [
            value if weight.fan_out else value + rng.uniform(-0.2, 0.2, value.shape).astype("float32")
            for value, weight in zip(child.get_weights(), child.program.weights, strict=True)
        ]
    )
    return child, child.to_model(classifier_activation=None)


def assert_same(genotype, rng, **network):
    """Logits, loss and moving statistics agree to 1e-4 of their size, gradients to 5e-4: sums have another order."""
    child, model = pair(genotype, rng, **network)
    images, labels = batch(rng, network.get("input_shape", SHAPE))
    variables = child.variables(model)
    logits = np.asarray(model(images, training=False))
    np.testing.assert_allclose(child.logits(images), logits, rtol=0, atol=1e-4 * max(1, np.abs(logits).max()))
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True), from_logits=True)
        expected_loss = tf.reduce_mean(losses)
    trained = [variable.value for variable in variables if variable.trainable]
    expected = tape.gradient(expected_loss, trained, unconnected_gradients="zero")
    loss, gradients = child.loss_and_gradient(images, labels)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
    scale = max(np.abs(gradient).max() for gradient in expected)
    for gradient, one in zip(gradients, expected, strict=True):
        assert gradient.shape == one.shape
        np.testing.assert_allclose(gradient, one, rtol=0, atol=5e-4 * scale)
    child.train_step(images, labels)
    for value, variable, weight in zip(child.get_weights(), variables, child.program.weights, strict=True):
        if not weight.trainable:
            np.testing.assert_allclose(value, variable, rtol=1e-4, atol=1e-4)


def test_independent_labels_have_the_gradient_of_the_networks_own_loss(rng):
    """The loss by which a network learns several labels an image, `SmoothedCrossentropy`, is the child's as well."""
    child, plain = pair("tiny", rng, classifier_activation="sigmoid")
    model = child.to_model()
    images, marks = batch(rng)[0], rng.random((8, 10)) < 0.3
    logits = np.asarray(plain(images, training=False))  # of which no two are as good as 1
    trained = [variable.value for variable in child.variables(model) if variable.trainable]
    with tf.GradientTape() as tape:
        expected = SmoothedCrossentropy(output="sigmoid")(marks.astype("float32"), model(images, training=True))
    gradients = tape.gradient(expected, trained, unconnected_gradients="zero")
    loss, found = child.loss_and_gradient(images, marks)
    assert loss == pytest.approx(float(expected), rel=1e-4)
    scale = max(np.abs(gradient).max() for gradient in gradients)
    for one, gradient in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, gradient, rtol=0, atol=5e-4 * scale)
    assert child.accuracy_of(child.logits(images), marks) == pytest.approx(mean_average_precision(marks, logits))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_computes_what_its_layer_computes(operation, rng):
    assert_same(single(operation), rng)


@pytest.mark.parametrize("combine", ["concat", "add_layer_norm", "add_instance_norm"])
def test_every_combination_computes_what_its_layer_computes(combine, rng):
    assert_same(single("conv_1x1", combine), rng)


@pytest.mark.parametrize(
    "network",
    [
        {"bounded_activations": True},
        {"pooling_compatibility": "keras", "input_shape": (9, 8, 3)},
        {"skip_reduction": True, "repeats": (1, 2)},
        {"stem": "imagenet", "input_shape": (64, 64, 3), "repeats": (1, 1)},
        {"stem_filters": 5, "filters": 1, "input_shape": (7, 9, 3), "batch_norm_epsilon": 1e-2},
    ],
)
def test_every_option_reaches_the_child(network, rng):
    assert_same(load_genotype("nasnet_a"), rng, **network)


@pytest.mark.parametrize("number", range(MANY))
def test_random_genotypes_compute_the_same_function(number, rng):
    draws = random.Random(number)
    inputs = 3 if number % 6 == 5 else 2
    genotype = random_genotype(draws.randint, inputs=inputs, max_blocks=5)
    assert_same(genotype, rng, filters=draws.choice([3, 4]), repeats=(1, 1), input_shape=(8, draws.choice([7, 8]), 3))


def test_tied_maxima_send_their_gradient_the_same_way(rng):
    """A pool of a pool sees equal neighbours everywhere."""
    pools = ("max_pool_3x3", "max_pool_5x5")
    cell = CellGenotype((Block((0, 1), pools), Block((2, 2), pools)), (3,))
    assert_same(Genotype(cell, cell), rng)


@pytest.mark.parametrize("nesterov", [True, pytest.param(False, marks=pytest.mark.long)])
def test_training_gives_the_losses_of_the_ordinary_network(nesterov, rng):
    genotype, steps = load_genotype("tiny"), 6
    optimizer = Optimizer(learning_rate=0.1, steps=steps, nesterov=nesterov, clip_norm=1.0)
    child = Child(described(genotype, **TINY), seed=2, optimizer=optimizer)
    model = child.to_model(classifier_activation=None)
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, steps), momentum=0.9, nesterov=nesterov, global_clipnorm=1.0
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    images, labels = batch(rng, size=8 * steps)
    for step in range(steps):
        part = slice(8 * step, 8 * step + 8)
        expected = model.train_on_batch(images[part], labels[part])
        model.reset_metrics()
        np.testing.assert_allclose(child.train_step(images[part], labels[part]), expected, rtol=1e-3)
    np.testing.assert_allclose(child.logits(images), model.predict(images, verbose=0), rtol=1e-2, atol=1e-2)


def test_a_last_batch_of_another_size_is_no_problem(rng):
    child = Child(described("tiny", **TINY))
    for size in (8, 8, 5, 8):
        assert np.isfinite(child.train_step(*batch(rng, size=size)))


def test_the_same_seed_gives_the_same_child_after_clear_session(rng):
    data = [batch(rng) for _ in range(3)]

    def trained(seed):
        child = Child(described("nasnet_a", **TINY), seed=seed)
        return [float(child.train_step(*one)) for one in data], child.logits(data[0][0]).tolist()

    first = trained(5)
    keras.utils.clear_session()
    assert trained(5) == first
    assert trained(6) != first


def test_learning_is_judged_by_the_moving_statistics(rng):
    labels = np.arange(40) % 2
    images = np.where(labels[:, None, None, None], 1.0, -1.0) + rng.normal(0, 0.3, (40, *SHAPE))
    images = images.astype("float32")
    child = Child(described("tiny", **TINY), optimizer=Optimizer(learning_rate=0.02, steps=30))
    for _ in range(30):
        child.train_step(images, labels)
    accuracy = child.accuracy_of(child.logits(images), labels)
    assert accuracy > 0.95
    model = child.to_model()
    assert np.mean(np.argmax(model.predict(images, verbose=0), -1) == labels) == accuracy


def test_weights_go_to_the_ordinary_network_and_back():
    child = Child(described("nasnet_a", **TINY), seed=4)
    model = child.to_model()
    other = Child(described("nasnet_a", **TINY), seed=5)
    other.set_weights([keras.ops.convert_to_numpy(variable) for variable in other.variables(model)])
    for left, right in zip(child.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert sum(weight.size for weight in child.program.weights) == model.count_params()


def test_initial_weights_are_spread_as_the_initialisers_spread_them(rng):
    weights = described("nasnet_a", repeats=1, filters=32, stem="cifar").program().weights
    for weight in weights:
        value = weight.initial_value(rng)
        if weight.fan_out is None:
            assert (value == weight.fill).all()
        elif weight.size > 5000:
            deviation = (2 / weight.fan_out) ** 0.5
            assert abs(value.std() / deviation - 1) < 0.05
            assert np.abs(value).max() < 2 * deviation / 0.8796
            assert abs(value.mean()) < 0.05 * deviation


def test_the_plan_knows_the_multiply_adds_of_the_network():
    for arguments in (TINY, {**TINY, "stem": "imagenet", "input_shape": (33, 35, 3)}):
        program = described("nasnet_a", **arguments).program()
        assert program.multiply_adds(arguments["input_shape"][:2]) == multiply_adds(NASNet("nasnet_a", **arguments))


def test_memory_stays_flat(rng):
    """What a child leaves behind is collected: no function, no graph, no tensor is kept."""

    def objects():
        gc.collect()
        return len(gc.get_objects())

    def one(seed):
        child = Child(described("tiny", **TINY), seed=seed)
        for _ in range(2):
            child.train_step(*batch(rng))

    one(0)
    one(1)
    before = objects()
    for seed in range(6):
        one(seed)
    assert objects() - before < 600


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"steps": 0}, "steps"),
        ({"momentum": 1.0}, "momentum"),
        ({"clip_norm": -1.0}, "clip_norm"),
    ],
)
def test_a_bad_optimizer_names_its_argument(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` .*Received"):
        Optimizer(**arguments)


def test_wrong_weights_and_stems_are_refused():
    child = Child(described("tiny", **TINY))
    with pytest.raises(ValueError, match="`weights`"):
        child.set_weights(child.get_weights()[1:])
    with pytest.raises(ValueError, match="`stem`"):
        Child(described("tiny", **{**TINY, "stem": "mnist"}))


@pytest.mark.parametrize("combine", ["add", "add_layer_norm", "add_instance_norm"])
def test_gradients_are_summed_in_a_fixed_order(rng, monkeypatch, combine):
    """AddN adds in the order in which buffers come free: on a busy machine the same step gives other numbers."""
    graphs, compiled = [], Assembly.compile
    monkeypatch.setattr(Assembly, "compile", lambda graph, *rest: graphs.append(graph) or compiled(graph, *rest))
    reads = [(1, 0), (0, 1), (2, 1), (2, 0), (2, 3)]
    cell = CellGenotype(tuple(Block(pair, ("conv_3x3", "sep_conv_3x3"), combine) for pair in reads), (4, 5, 6))
    Child(described(Genotype(cell, cell), **TINY)).train_step(*batch(rng))
    nodes = graphs[0].definition.node
    assert "AddV2" in {node.op for node in nodes}
    assert all(len(node.input) == 2 for node in nodes if node.op == "AddN")  # of two there is one order


def test_the_second_child_of_a_kind_adds_no_piece(rng):
    counts = []
    for genotype in ("nasnet_a", "nasnet_a", "tiny", "nasnet_a"):
        before = pieces._trace.cache_info().misses
        Child(described(genotype, **TINY)).train_step(*batch(rng))
        counts.append(pieces._trace.cache_info().misses - before)
    assert counts[1] == counts[3] == 0
