"""`predict` of arrays: Keras' numbers without its data pipeline, and Keras' own way wherever something is special."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import computes_bfloat16, randomize

from nasnet_keras.models import inference as prediction
from nasnet_keras.models.network import NASNet

TINY = {"repeats": 1, "filters": 4, "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3}
TINY["classifier_activation"] = None  # probabilities near 0 and 1 would hide a difference


def made(**arguments):
    model = NASNet("tiny", **{**TINY, **arguments})
    randomize(model)
    return model


def close(result, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.fixture
def calls(monkeypatch):
    """How many images went the short way."""
    found = []
    short = prediction.Predictor.__call__
    monkeypatch.setattr(
        prediction.Predictor, "__call__", lambda self, x, size: found.append(len(x)) or short(self, x, size)
    )
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"stem": "imagenet", "input_shape": (None, None, 3)},
        {"include_preprocessing": True, "classifier_activation": "softmax"},
        {"skip_reduction": True, "bounded_activations": True, "dropout": 0.5, "drop_path": 0.3},
    ],
)
def test_same_numbers(arguments, rng, calls):
    model = made(**arguments)
    for count, dtype in ((1, "float32"), (1, "float64"), (7, "float32"), (2, "uint8")):
        images = rng.uniform(-1, 1, (count, 40, 33, 3) if arguments.get("stem") else (count, 8, 8, 3)).astype(dtype)
        expected = np.asarray(model(images.astype("float32"), training=False))
        result = model.predict(images, batch_size=3, verbose=0)
        assert isinstance(result, np.ndarray) and result.dtype == np.float32
        close(result, expected)
    assert calls == [1, 1, 7, 2]


def test_weights_are_the_current_ones(rng, calls):
    model, images = made(), rng.normal(size=(1, 8, 8, 3)).astype("float32")
    before = [model.predict(images, verbose=0) for _ in range(2)]
    randomize(model, seed=2)
    after = model.predict(images, verbose=0)
    close(before[0], before[1])
    assert np.abs(after - before[1]).max() > 1e-2 * np.abs(after).max()
    close(after, model(images, training=False))
    assert len(calls) == 3


def test_the_first_image_does_not_wait_for_a_compiled_function(rng):
    model, images = made(), rng.normal(size=(1, 8, 8, 3)).astype("float32")
    model.predict(images, verbose=0)
    assert not model._predictor._compiled.experimental_get_tracing_count()
    for count in (1, 2, 1):
        model.predict(rng.normal(size=(count, 8, 8, 3)), verbose=0)
    assert model._predictor._compiled.experimental_get_tracing_count() == 1


def test_what_is_special_goes_keras_way(rng, calls, capfd):
    model, images = made(), rng.normal(size=(3, 8, 8, 3)).astype("float32")
    expected, seen = np.asarray(model(images, training=False)), []
    callback = keras.callbacks.LambdaCallback()
    callback.on_predict_batch_end = lambda batch, logs: seen.append(batch)
    ways = (
        model.predict(images, batch_size=2, callbacks=[callback], verbose=0),
        model.predict(tf.data.Dataset.from_tensor_slices(images).batch(2), verbose=0),
        model.predict(images, batch_size=2),
        model.predict(images, verbose=1),
        made(auxiliary_head=True, input_shape=(16, 16, 3)).predict(rng.normal(size=(2, 16, 16, 3)), verbose=0),
    )
    assert not calls and seen == [0, 1] and "2/2" in capfd.readouterr().out
    assert set(ways[-1]) == {"predictions", "auxiliary"}
    for way in ways[:-1]:
        close(way, expected)
    assert made(include_top=False, classes=1000).predict(images, verbose=0).shape == (3, 2, 2, 32)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        model.predict(images[..., :2], verbose=0)
    assert not calls


@pytest.mark.skipif(not computes_bfloat16(), reason="no bfloat16 here")
def test_half_precision_stays_half_precision(rng, calls):
    model, images = made(dtype="mixed_bfloat16"), rng.normal(size=(1, 8, 8, 3)).astype("float32")
    assert model.predict(images, verbose=0).shape == (1, 3)
    assert not calls


def test_saving_is_not_concerned(rng, tmp_path):
    model, images = made(), rng.normal(size=(1, 8, 8, 3)).astype("float32")
    before = [model.predict(images, verbose=0) for _ in range(2)][1]
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    close(again.predict(images, verbose=0), before)
    model.export(str(tmp_path / "served"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    close(served.serve(images), before)
