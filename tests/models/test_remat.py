"""Recomputation: the same step, and less of it in memory."""

import keras
import numpy as np
import pytest
from checks import array

from nasnet_keras import NASNet
from nasnet_keras.models import layers

SETTINGS = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 3}


def set_remat(model, remat):
    for layer in model.layers:
        if isinstance(layer, layers.ProgramLayer):
            layer.remat = remat


def stepped(images, remat, **options):
    """Everything that a network holds after two steps of a training."""
    keras.utils.set_random_seed(1)
    model = NASNet("tiny", **{**SETTINGS, **options})
    set_remat(model, remat)
    assert model.changes() == []
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, name="sgd"), "sparse_categorical_crossentropy", jit_compile=False
    )
    losses = [model.train_on_batch(images, np.array([0, 1, 2, 0])) for _ in range(2)]
    return [(variable.path, array(variable)) for variable in [*model.variables, *model.optimizer.variables]], losses


@pytest.mark.jax
@pytest.mark.parametrize(
    "options",
    [
        {"drop_path": 0.4, "weight_decay": 1e-3},
        pytest.param({"auxiliary_head": True, "frozen": 1}, marks=pytest.mark.long),
    ],
)
def test_a_step_is_the_same(options, rng):
    """Weights, statistics that move once, seeds of dropped paths that are drawn once, moments and losses."""
    options = dict(options)
    if options.pop("frozen", 0):
        options |= {"input_shape": (32, 32, 3)}
    images = rng.uniform(-1, 1, (4, *options.get("input_shape", (16, 16, 3)))).astype("float32")
    (plain, losses), (recomputed, others) = (stepped(images, remat, **options) for remat in (False, True))
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for (path, value), (_, other) in zip(plain, recomputed, strict=True):
        np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-5, err_msg=path)


def test_a_derivative_takes_what_cells_read():
    """Cells are called for their results alone; what a derivative needs is made after the loss."""
    import tensorflow as tf

    called = []
    for remat in (False, True):
        model = NASNet("tiny", **SETTINGS)
        set_remat(model, remat)

        @tf.function(autograph=False)
        def step(images, model=model):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True) ** 2)
            return loss, tape.gradient(loss, [weight.value for weight in model.trainable_weights])

        nodes = step.get_concrete_function(tf.TensorSpec((4, 16, 16, 3))).graph.as_graph_def().node
        names = [node.attr["f"].func.name if "f" in node.attr else node.op for node in nodes]
        called.append(["__forward" in name for name in names[: names.index("Sum")]])
    assert any(called[0]) and not any(called[1])
