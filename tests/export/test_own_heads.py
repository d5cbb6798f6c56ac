"""Networks under heads of one's own, and any other classifier, are exported as they compute."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from nasnet_keras import NASNetCIFAR
from nasnet_keras.cli import main


def own_head(*ends, units=3):
    size = {"genotype": "tiny", "repeats": 1, "filters": 4, "weights": None, "input_shape": (16, 16, 3)}
    base = NASNetCIFAR(include_top=False, pooling="avg", **size)
    return keras.Sequential([keras.Input((16, 16, 3)), base, keras.layers.Dense(units, *ends, name="head")])


@pytest.mark.parametrize(
    ("ends", "units", "suffix"),
    [
        (("softmax",), 3, "h5"),
        pytest.param((), 3, "keras", marks=pytest.mark.long),
        pytest.param(("sigmoid",), 1, "keras", marks=pytest.mark.long),
    ],
)
def test_a_head_of_ones_own_is_served(ends, units, suffix, tmp_path, capsys):
    model = own_head(*ends, units=units)
    model.save(tmp_path / f"m.{suffix}")
    words = ["export", "--model", str(tmp_path / f"m.{suffix}"), "--output", str(tmp_path / "served"), "--json"]
    assert main(words) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["output"] == str(tmp_path / "served" / "1")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    answer = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"](image=pixels)
    outputs = np.asarray(model(pixels / 127.5 - 1), "float64")
    if not ends:
        outputs = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    expected = np.concatenate([1 - outputs, outputs], 1) if units == 1 else outputs
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["top_classes"].numpy()[0, 0].decode() == str(expected[0].argmax())
