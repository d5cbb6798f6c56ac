"""Networks under heads of one's own, and any other classifier, are exported as they compute."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nasnet_keras import NASNet, NASNetCIFAR, explain, export_saved_model
from nasnet_keras.cli import main
from nasnet_keras.export.saved_model import Served, _class_names, _distance, check_export
from nasnet_keras.models import answers


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


@pytest.mark.parametrize(
    "activation", ["sigmoid", pytest.param(None, marks=pytest.mark.long)], ids=["sigmoid", "logits"]
)
def test_one_unit_of_a_network_speaks_for_the_second_of_two_classes(activation, tmp_path):
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 1}
    model = NASNet("tiny", classifier_activation=activation, **size)
    head = model.get_layer("logits")
    head.set_weights([np.random.default_rng(0).normal(size=head.kernel.shape) * 3, np.array([0.2])])
    path = export_saved_model(model, tmp_path / "served", explain=True)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3)).astype("float32")
    signatures = tf.saved_model.load(str(path)).signatures
    answer = signatures["serving_default"](image=tf.constant(pixels))
    expected = answers.probabilities(model, model.predict(pixels / 127.5 - 1, verbose=0))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert [name.decode() for name in answer["top_classes"].numpy()[:, 0]] == [str(one) for one in expected.argmax(1)]
    encoded = [tf.io.encode_png(tf.cast(image, tf.uint8)).numpy() for image in pixels]
    drawn = signatures["explain"](image_bytes=tf.constant(encoded))["heat_map_bytes"].numpy()
    for image, picture in zip(pixels, drawn, strict=True):
        own = Image.open(io.BytesIO(explain(model, image.astype("uint8")).png()))
        served = np.asarray(Image.open(io.BytesIO(picture)), int)
        assert np.abs(served - np.asarray(own.resize(served.shape[1::-1]), int)).mean() < 3


def two_heads(as_list=False):
    """A network with a second head, or a list of one, inside a model of one's own."""
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 3}
    image = keras.Input((16, 16, 3))
    outputs = NASNet("tiny", **size, auxiliary_head=True, class_names=("a", "b", "c"))(image)
    return keras.Model(image, [outputs["predictions"]] if as_list else outputs)


@pytest.mark.parametrize("as_list", [False, pytest.param(True, marks=pytest.mark.long)])
def test_one_of_several_outputs_is_served(as_list, rng):
    model = two_heads(as_list)
    served = Served(model, None, 2, "float32", explain=True)
    assert served.names == ["a", "b", "c"]
    pixels = rng.integers(0, 256, (3, 16, 16, 3)).astype("float32")
    outputs, (heats,) = served._outputs(tf.constant(pixels))
    expected = answers.probabilities(model, model(pixels / 127.5 - 1, training=False))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
    assert heats.shape[0] == 3 and explain(model, pixels[0].astype("uint8")).index == expected[0].argmax()
    check_export(model, served, {"function": lambda pixels: served.function()(pixels)["probabilities"]})


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.long)])
def test_a_network_behind_other_layers_is_exported_as_the_same_model_from_a_file_is(channels, tmp_path, rng):
    """By `input_tensor`: images in 0–255, and of one channel a convolution of one's own before the network."""
    image = keras.Input((16, 16, channels))
    tensor = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    tensor = tensor if channels == 3 else keras.layers.Conv2D(3, 1, name="before")(tensor)
    size = {"repeats": 1, "filters": 4, "stem": "cifar", "classes": 3, "class_names": ("a", "b", "c")}
    sigmoid = {"classifier_activation": "sigmoid", "thresholds": (0.1, 0.5, 0.9)}
    model = NASNet("tiny", input_tensor=tensor, **size, **sigmoid)
    model.get_layer("logits").set_weights([rng.normal(size=w.shape) for w in model.get_layer("logits").weights])
    path = export_saved_model(model, tmp_path / "served")
    model.save(tmp_path / "m.keras")
    again = Served(keras.saving.load_model(tmp_path / "m.keras"), None, 5, "float32", explain=True)
    pixels = tf.constant(rng.integers(0, 256, (2, 16, 16, channels)), tf.float32)
    own = tf.saved_model.load(str(path)).signatures["serving_default"](image=pixels)
    (other, (heats,)), (_, (maps,)) = (
        one._outputs(pixels) for one in (again, Served(model, None, 5, "float32", explain=True))
    )
    np.testing.assert_allclose(heats, maps, atol=1e-4)
    np.testing.assert_allclose(own["probabilities"], model(pixels, training=False), atol=1e-5)
    for name in ("probabilities", "top_scores", "label_scores"):
        np.testing.assert_allclose(own[name], other[name], atol=1e-6)
    for name in ("top_classes", "labels"):
        np.testing.assert_array_equal(own[name], other[name])
    headless = {**size, "class_names": None, "input_tensor": tensor}
    for bare in (NASNet("tiny", include_top=False, **headless), NASNet("tiny", feature_pyramid=True, **headless)):
        with pytest.raises(ValueError, match="`model` must end in softmax"):
            export_saved_model(bare, tmp_path / "bare")


def test_how_far_answers_lie_apart_does_not_depend_on_the_number_of_classes():
    for count in (2, 10, 1000):
        one, other = np.eye(count, dtype="float32")[[0, 1]], np.eye(count, dtype="float32")[[1, 1]]
        assert _distance(one, other, "softmax") == 0.5
        assert _distance(one, other, "sigmoid") == 0.5
        assert _distance(one, one, "softmax") == 0


def test_only_a_network_of_1000_classes_is_taken_for_imagenets(caplog):
    """As `predict` names them."""
    other = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(1000, "softmax")])
    assert _class_names(other, None, 1000)[::999] == ["0", "999"]
    assert "its 1000 classes, which get numbers; give names" in caplog.text
    caplog.clear()
    assert _class_names(other, range(1000), 1000)[999] == "999"
    network = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=1000)
    assert _class_names(network, None, 1000)[:2] == ["tench", "goldfish"]
    other.class_names = [f"c{number}" for number in range(1000)]
    assert _class_names(other, None, 1000)[7] == "c7" and not caplog.messages


@pytest.mark.parametrize("names", [{"ant", "bee"}, {0: "ant", 1: "bee"}, "ab", b"ab", 2])
def test_names_of_classes_that_are_exported_have_an_order(names):
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2)
    with pytest.raises(ValueError, match="`class_names` must be a list of names, one for each class. Received: "):
        _class_names(model, names, 2)
    for fine in (np.array([b"ant", b"bee"]), {"ant": 0, "bee": 1}.keys(), iter(("ant", "bee"))):
        assert _class_names(model, fine, 2) == ["ant", "bee"]
    model.class_names = ["ant", "bee"]
    with pytest.raises(ValueError, match="in the model's own order, or left out. Received: 'bee' in between"):
        _class_names(model, np.array([b"bee", b"ant"]), 2)
