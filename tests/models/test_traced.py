"""Parts of programs that are traced once: the same numbers as without, one function for equal parts, nothing left."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import nasnet_keras
from nasnet_keras.models import layers, traced
from nasnet_keras.models.functions import compute
from nasnet_keras.program.architecture import Architecture
from nasnet_keras.program.parts import parts_of
from nasnet_keras.search.space import SearchSpace


def _network(genotype="nasnet_a", **changes):
    settings = {"repeats": 3, "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 3, **changes}
    return nasnet_keras.NASNet(genotype, **settings)


def _step(model, images, training=True):
    """Outputs, gradients and what the layers then hold, of one call in a graph."""

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            outputs = model(images, training=training)
            loss = tf.reduce_sum(outputs * tf.range(1.0, 4.0))
        return outputs, tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    outputs, gradients = step(images)
    return (
        outputs.numpy(),
        [one.numpy() for one in gradients],
        [keras.ops.convert_to_numpy(weight) for weight in model.weights],
    )


@pytest.fixture
def plain(monkeypatch):
    """A function that lets layers run their programs as a whole from now on."""
    return lambda: monkeypatch.setattr(traced, "can_trace", lambda weights: False)


@pytest.mark.parametrize(
    ("genotype", "training"), [("tiny", True), pytest.param(1, True, marks=pytest.mark.long), (2, False)]
)
def test_same_numbers(genotype, training, plain, rng):
    if genotype != "tiny":
        space = SearchSpace()
        genotype = space.decode(space.random(np.random.default_rng(genotype)))
    images = rng.uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
    results = []
    for whole in (False, True):
        if whole:
            plain()
        keras.utils.set_random_seed(1)
        model = _network(genotype, drop_path=0.4, repeats=(1, 1))
        results.append(_step(model, images, training))
    for one, other in zip(*(keras.tree.flatten(result) for result in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, np.abs(other).max()))


def test_equal_parts_are_one_function(rng):
    model = _network(repeats=4)
    graph = _graph(model)
    cells = [layer for layer in model.layers if isinstance(layer, layers.Cell)]
    kinds = {key[0] for key in traced._of_graphs[graph]}
    blocks = [kind for kind in kinds if len(kind.steps) > 20]
    assert len(cells) == 14
    assert len(blocks) == 6  # the first cell, on the bare stem, the others of three stacks, two Reduction cells


def test_what_stands_still_is_folded(rng):
    """The same up to rounding, in training and otherwise, without a batch norm behind a convolution."""
    images = rng.uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
    model = _network(repeats=(1, 1), drop_path=0.4)
    for layer in model.layers:
        for weight in layer.non_trainable_weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    model.trainable = False
    expected = model(images, training=False)  # eagerly, step by step
    for training in (True, False):
        made = tf.function(lambda images, training=training: model(images, training=training))(images)
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    (norms,) = {
        sum(step.primitive.kind == "norm" for step in traced.fold(layer.program, layer.results)[0].steps)
        for layer in model.layers
        if isinstance(layer, layers.ProgramLayer)
    }
    assert norms == 0
    model.get_layer("stem").set_weights([2 * value for value in model.get_layer("stem").get_weights()])
    changed = tf.function(lambda images: model(images, training=True))(images)
    np.testing.assert_allclose(changed, model(images), rtol=1e-4, atol=1e-6)  # by the weights as they are now


def test_nothing_below_is_differentiated_or_kept():
    """A part that has a derivative is a function that gives what the derivative needs, and one that takes it."""
    counts = []
    for up_to in (None, "cell_0", "reduction_cell_0", "all"):
        model = nasnet_keras.freeze(_network("tiny", repeats=(1, 1)), up_to, statistics=False)

        @tf.function(autograph=False)
        def step(images, model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True) ** 2)
            return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

        nodes = step.get_concrete_function(tf.TensorSpec((4, 16, 16, 3))).graph.as_graph_def().node
        called = [node.attr["f"].func.name for node in nodes if "f" in node.attr]
        counts.append([sum(kind in name for name in called) for kind in ("__forward", "__backward")])
    whole = sum(
        len(parts_of(layer.program, layer.results)) for layer in model.layers if isinstance(layer, layers.ProgramLayer)
    )
    assert counts[0] == [whole, whole] and counts[-1] == [0, 0]
    assert counts[0] > counts[1] > counts[2] and all(forward == backward for forward, backward in counts)


def test_what_learns_above_has_the_gradients_that_it_had(plain, rng):
    images = rng.uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
    results = []
    for whole in (False, True):
        if whole:
            plain()
        keras.utils.set_random_seed(1)
        results.append(_step(nasnet_keras.freeze(_network("tiny", repeats=(1, 1)), "reduction_cell_0"), images))
    for one, other in zip(*(keras.tree.flatten(result) for result in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, np.abs(other).max()))


def _graph(model):
    function = tf.function(lambda images: model(images, training=True), autograph=False)
    return function.get_concrete_function(tf.TensorSpec((2, 16, 16, 3))).graph


@pytest.mark.long
def test_functions_go_with_their_graph():
    gc.collect()
    before = len(traced._of_graphs), len(traced._of_networks)
    model = _network(repeats=1)
    graphs = [_graph(model), _graph(model), _graph(_network(repeats=1))]
    assert traced._of_graphs[graphs[0]] is traced._of_graphs[graphs[1]] is not traced._of_graphs[graphs[2]]
    del graphs[0]
    gc.collect()
    assert (len(traced._of_graphs), len(traced._of_networks)) == (before[0] + 2, before[1] + 2)
    graphs.clear()
    gc.collect()
    assert (len(traced._of_graphs), len(traced._of_networks)) == before


@pytest.mark.long
def test_a_step_that_is_traced_twice_traces_each_kind_once(monkeypatch):
    """A model around a network makes its optimiser's variables in the first step, and is traced again without."""
    calls = []

    def counted(*arguments):
        calls.append(arguments[0])
        return compute(*arguments)

    def first_step(built):
        model = keras.Sequential([_network(repeats=1, include_top=False, pooling="avg"), keras.layers.Dense(3)])
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        if built:
            optimizer.build(model.trainable_variables)
        calls.clear()
        model.train_on_batch(np.zeros((4, 16, 16, 3), "float32"), np.array([0, 1, 2, 0]))
        return len(calls)

    monkeypatch.setattr(traced, "compute", counted)
    assert first_step(built=False) == first_step(built=True) > 5


@pytest.mark.parametrize("genotype", ["nasnet_a", "pnasnet_5", "tiny"])
def test_parts_are_the_program(genotype, rng):
    """Computed one after another by hand, eagerly, the parts give what the program gives, to the last bit."""
    program = Architecture(genotype=nasnet_keras.load_genotype(genotype), repeats=2, filters=4, stem="cifar").program()
    images = rng.uniform(-1, 1, (1, 32, 32, 3)).astype("float32")
    weights = [tf.constant(weight.initial_value(rng)) for weight in program.weights]
    result = program.steps[-1].result
    (expected,) = compute(program, [images], weights, traced.Run(), [result])
    values = {0: images}
    parts = parts_of(program, [result])
    assert sum(part.weights for part in parts) == len(weights)
    for part in parts:
        own = weights[part.first : part.first + part.weights]
        lean = traced.Program(part.kind.channels, None, list(part.kind.steps))
        made = compute(lean, [values[number] for number in part.reads], own, traced.Run(), part.kind.results)
        values.update(zip(part.makes, made, strict=True))
    np.testing.assert_array_equal(values[result.number], expected)


@pytest.mark.parametrize("heads", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_first_step_is_traced_once(heads, monkeypatch):
    """Moments and figures are made meanwhile, and not a second time; they count as Keras' own do."""
    traced_steps = []

    def counted(name):
        original = getattr(keras.Model, name)
        monkeypatch.setattr(keras.Model, name, lambda self, *data: traced_steps.append(name) or original(self, *data))

    counted("train_step")
    counted("test_step")
    model = _network("tiny", repeats=1, auxiliary_head=heads, input_shape=(32, 32, 3))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    images, labels = np.zeros((4, 32, 32, 3), "float32"), np.array([0, 1, 2, 0])
    for _ in range(2):
        history = model.fit(images, labels, batch_size=4, validation_data=(images, labels), verbose=0).history
    assert traced_steps == ["train_step", "test_step"]
    name = "predictions_accuracy" if heads else "accuracy"
    share = np.mean(
        np.argmax(keras.ops.convert_to_numpy(model(images)["predictions"] if heads else model(images)), 1) == labels
    )
    assert history[f"val_{name}"] == [pytest.approx(share)]
    assert int(model.optimizer.iterations) == 2 and len(model.optimizer.variables) == 2 + 2 * len(
        model.trainable_variables
    )
