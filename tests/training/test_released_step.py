"""A training step is the released code's: losses, gradients, statistics and weights, by its numbers and by NumPy's."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import array
from conftest import REFERENCE
from released import compare, network, part, read

from nasnet_keras.models.layers import Operation
from nasnet_keras.training.compilation import compile_model
from nasnet_keras.training.recipes import RECIPES, Recipe
from nasnet_keras.weights.slim import load_slim_weights, slim_variables

CASES = sorted(path.stem for path in (REFERENCE / "golden").glob("train_*.npz")) or ["train_cifar_n3_f4_16x16"]
CASES = [CASES[0], *(pytest.param(name, marks=pytest.mark.long) for name in CASES[1:])]


@pytest.fixture
def _eager():
    """Five steps: to trace their graph would take far longer."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def recipe_of(config):
    """The recipe that a case describes; its learning rate is constant over the first 2.4 epochs."""
    settings = config["optimizer"]
    own = {"optimizer": "sgd"}
    if settings["name"] == "rmsprop":
        assert settings["decay"] == 0.9 and not settings["centered"]
        own = {"optimizer": "rmsprop", "epsilon": settings["epsilon"], "mean_square": 1.0}
    return Recipe(
        learning_rate=settings["learning_rate"],
        momentum=settings["momentum"],
        schedule="exponential",
        clip_norm=config["clip_global_norm"],
        label_smoothing=config["label_smoothing"],
        auxiliary_weight=config["auxiliary_weight"],
        **own,
    )


def named(model, values):
    """{the case's name: value} of something for each of a model's trainable or all weights."""
    places = {id(variable): name for name, variable in slim_variables(model).items()}
    return {places[id(variable)]: array(value) for variable, value in values if id(variable) in places}


def of_case(arrays):
    """A case's arrays, with the auxiliary scope's number left out."""
    return {"aux/" + name.partition("/")[2] if name.startswith("aux_") else name: x for name, x in arrays.items()}


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize("name", CASES)
def test_five_steps_give_the_released_codes_numbers(name, golden):
    case, config = read(golden / f"{name}.npz")
    further = {"weight_decay": config["weight_decay"], "batch_norm_momentum": config["batch_norm_decay"]}
    model = network(config, **further)
    load_slim_weights(model, part(case, "var"))
    compile_model(model, recipe_of(config), steps=1000, epochs=1)
    before = of_case(part(case, "var"))
    for step, (images, labels) in enumerate(zip(case["images"], case["labels"], strict=True)):
        truth = dict.fromkeys(model.output_names, labels)
        kept = model.get_weights()
        with tf.GradientTape() if step == 0 else nullcontext() as tape:  # later ones follow from the weights
            answers = model(images, training=True)
            loss = model.compute_loss(images, truth, answers, training=True)
        model.set_weights(kept)  # the statistics have moved

        compare(answers["predictions"], case["step/logits"][step])
        compare(answers["auxiliary"], case["step/aux_logits"][step])
        for head, known in (("predictions", "main"), ("auxiliary", "aux")):
            compare(model.loss[head](labels, answers[head]), case[f"step/loss_{known}"][step])
        compare(sum(model.losses), case["step/loss_l2"][step])
        compare(loss, case["step/loss_total"][step])
        if step == 0:
            gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
            compare(np.sqrt(sum(np.sum(np.square(array(one))) for one in gradients)), case["step/global_norm"][step])
            wanted = of_case(part(case, "grad"))
            got = named(model, zip(model.trainable_variables, gradients, strict=True))
            largest = max(np.abs(one).max() for one in wanted.values())
            assert got.keys() == wanted.keys()
            for place, value in wanted.items():
                compare(got[place], value, least=largest / 100)

        model.train_on_batch(images, truth)
        wanted = of_case(part(case, f"after{step}"))
        got = named(model, ((variable, variable) for variable in model.weights))
        assert set(wanted) == set(got) if step in (0, 4) else set(wanted) < set(got)
        for place, value in wanted.items():
            compare(got[place], value)
            if "moving" in place:  # with a momentum near 1 the change says more, though in fewer digits
                compare(got[place] - before[place], value - before[place], tolerance=0.005)


@pytest.mark.parametrize("shape", [(2, 1, 2, 4), (3, 5, 4, 4), (1, 1, 1, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])  # two ways of computing it
def test_moving_variances_take_the_unbiased_variance(dtype, shape, rng):
    layer = Operation("conv_1x1", 3, options={"batch_norm_momentum": 0.9, "batch_norm_epsilon": 1e-3}, dtype=dtype)
    x = rng.normal(size=shape)
    layer.build(shape)
    weights = {name.rpartition("/")[2]: variable for name, variable in layer.named_weights().items()}
    start = {"moving_mean": rng.normal(size=3), "moving_variance": rng.uniform(0.5, 2, 3), "gamma": rng.normal(size=3)}
    for name, value in start.items():
        weights[name].assign(value)
    result = array(layer(x, training=True))
    z = (np.maximum(x, 0) @ array(weights["kernel"])[0, 0].astype("float64")).reshape(-1, 3)
    wanted = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3) * start["gamma"]
    np.testing.assert_allclose(result.reshape(-1, 3), wanted, atol=1e-5)
    unbiased = z.var(0, ddof=1) if len(z) > 1 else 0.0
    for name, batch in (("moving_mean", z.mean(0)), ("moving_variance", unbiased)):
        np.testing.assert_allclose(array(weights[name]), 0.9 * start[name] + 0.1 * batch, atol=1e-6)


@pytest.mark.parametrize("mean_square", [0.0, 1.0])
def test_rmsprop_begins_where_its_recipe_says(mean_square, rng):
    recipe = Recipe(optimizer="rmsprop", epsilon=0.5, mean_square=mean_square, clip_norm=None, schedule="exponential")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="predictions")])
    compile_model(model, recipe, steps=1000, epochs=1)
    kernel = array(model.weights[0]).astype("float64")
    square, moved = np.full_like(kernel, mean_square), np.zeros_like(kernel)
    bias, bias_square, bias_moved = np.zeros(3), np.full(3, mean_square), np.zeros(3)
    for _ in range(3):
        x, labels = rng.normal(size=(5, 4)).astype("float32"), rng.integers(0, 3, 5)
        model.train_on_batch(x, labels)
        odds = np.exp(x @ kernel + bias)
        slope = (odds / odds.sum(1, keepdims=True) - np.eye(3)[labels]) / 5
        gradient, bias_gradient = x.T @ slope, slope.sum(0)
        square, bias_square = 0.9 * square + 0.1 * gradient**2, 0.9 * bias_square + 0.1 * bias_gradient**2
        moved = 0.9 * moved + 0.025 * gradient / np.sqrt(square + 0.5)
        bias_moved = 0.9 * bias_moved + 0.025 * bias_gradient / np.sqrt(bias_square + 0.5)
        kernel, bias = kernel - moved, bias - bias_moved
    np.testing.assert_allclose(array(model.weights[0]), kernel, atol=1e-6)


def test_the_recipe_of_imagenet_begins_as_the_released_code():
    assert RECIPES["imagenet"].mean_square == 1 and RECIPES["imagenet"].epsilon == 1
