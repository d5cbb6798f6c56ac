"""Making a network leaves the caller's random numbers, Keras' state and its settings alone."""

import random
import tempfile

import keras
import numpy as np
import pytest

from nasnet_keras import ChildSettings, NASNet, fine_tune, load_data, load_genotype
from nasnet_keras.models.seeds import drawn_from

TINY = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
SOURCE = NASNet("tiny", **TINY)


def weights(seed):
    with drawn_from(seed):
        return NASNet("tiny", **TINY, drop_path=0.1).get_weights()


def test_weights_follow_from_the_seed_alone():
    random.seed(1)
    one = weights(5)
    random.seed(2)
    for left, right in zip(one, weights(5), strict=True):
        np.testing.assert_array_equal(left, right)
    assert any((left != right).any() for left, right in zip(one, weights(6), strict=True))
    keras.utils.set_random_seed(5)  # what scripts write, and earlier versions did
    for left, right in zip(one, NASNet("tiny", **TINY, drop_path=0.1).get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", limit=60)


def build(digits):
    ChildSettings(filters=4).build(load_genotype("tiny"), digits, 0)


def evaluate(digits):
    """A recipe that needs the ordinary network."""
    settings = ChildSettings(repeats=(1,), filters=4, recipe="imagenet", batch_size=16)
    settings.evaluate(load_genotype("tiny"), digits, 0)


def tune(digits):
    with tempfile.TemporaryDirectory() as folder:
        settings = {"weights": "none", "recipe": "scans", "epochs": 1, "directory": folder}
        fine_tune(SOURCE, digits.train, digits.validation, digits.class_names, **settings)


def convert(digits):
    """From a child to the ordinary network."""
    ChildSettings(filters=4).start(load_genotype("tiny"), digits, 0, 5).to_model()


@pytest.mark.parametrize("call", [build, evaluate, tune, convert])
def test_the_callers_random_numbers_go_on(call, digits):
    """As they would have without the call: Python's, NumPy's, Keras' and the backend's."""

    def numbers():
        keras_draws = keras.ops.convert_to_numpy(keras.random.uniform((3,)))
        return [random.random(), *np.random.random(2), *keras_draws]

    keras.config.set_dtype_policy("mixed_bfloat16")
    before = keras.layers.Dense(2).name
    try:
        keras.utils.set_random_seed(11)
        expected = [numbers(), numbers()]
        keras.utils.set_random_seed(11)
        result = [numbers()]
        call(digits)
        result.append(numbers())
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.layers.Dense(2).name != before  # names are counted on, not from the start
    finally:
        keras.config.set_dtype_policy("float32")
    assert result == expected
