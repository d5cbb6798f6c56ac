"""TensorFlow and JAX give the same numbers from the same weights."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from nasnet_keras.models.network import NASNet

NETWORKS = {
    "cifar": {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (16, 15, 3), "classes": 10},
    "imagenet": {"repeats": 1, "filters": 8, "input_shape": (65, 64, 3), "skip_reduction": True, "classes": 10},
    "keras": {"repeats": 1, "filters": 8, "input_shape": (64, 65, 3), "pooling_compatibility": "keras", "classes": 10},
    "pnasnet": {"genotype": "pnasnet_5", "repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (9, 9, 3)},
}
OTHER = {"tensorflow": "jax", "jax": "tensorflow"}


def outputs(name):
    """Predictions at inference, predictions while training, and the moving statistics after it."""
    model = NASNet(**NETWORKS[name])
    rng = np.random.default_rng(0)
    for place, variable in model.named_weights().items():
        low, high = (0.5, 1.5) if place.endswith(("gamma", "moving_variance")) else (-0.2, 0.2)
        variable.assign(rng.uniform(low, high, variable.shape))
    images = rng.normal(size=(4, *NETWORKS[name]["input_shape"])).astype("float32")
    results = [model(images, training=training) for training in (False, True)]
    moved = [variable for place, variable in model.named_weights().items() if "moving" in place]
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in (*results, *moved)]


LONG = ("imagenet", "pnasnet", "keras")


@pytest.mark.jax
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in NETWORKS]
)
def test_both_backends_give_the_same_numbers(name, tmp_path):
    other = OTHER[keras.backend.backend()]
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    script = "import sys, numpy, test_backends as t; numpy.savez(sys.argv[2], *t.outputs(sys.argv[1]))"
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = {**os.environ, "KERAS_BACKEND": other, "PYTHONPATH": paths}
    command = [sys.executable, "-c", script, name, str(tmp_path / "other.npz")]
    subprocess.run(command, env=environment, check=True, timeout=300)
    with np.load(tmp_path / "other.npz") as stored:
        for one, two in zip(outputs(name), stored.values(), strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * max(1.0, np.abs(one).max()))
