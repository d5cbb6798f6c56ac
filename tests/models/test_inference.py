"""`predict` of arrays: Keras' numbers without its data pipeline, and Keras' own way wherever something is special."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import computes_bfloat16, randomize
from described import described

from nasnet_keras.genotype import Block, CellGenotype, Genotype
from nasnet_keras.models import functions
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
    assert not model._predictor._function.experimental_get_tracing_count()
    for count in (1, 2, 1):
        model.predict(rng.normal(size=(count, 8, 8, 3)), verbose=0)
    assert model._predictor._function.experimental_get_tracing_count() == 1


@pytest.mark.long
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


@pytest.mark.long
def test_saving_is_not_concerned(rng, tmp_path):
    model, images = made(), rng.normal(size=(1, 8, 8, 3)).astype("float32")
    before = [model.predict(images, verbose=0) for _ in range(2)][1]
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    close(again.predict(images, verbose=0), before)
    model.export(str(tmp_path / "served"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    close(served.serve(images), before)


# --- what is at hand decides ---


def kerass(model, images):
    """What Keras' own `predict` answers."""
    return keras.Model.predict(model, images, verbose=0)


def raise_activation(model):
    model.get_layer("activation").max_value = 0.5


class Doubled(NASNet):
    def predict_step(self, data):
        return 2.0 * self(data, training=False)


class Halved(NASNet):
    def call(self, inputs, training=None, mask=None):
        return 0.5 * super().call(inputs, training=training, mask=mask)


@pytest.mark.parametrize("value", [None, "sigmoid", keras.activations.softplus])
def test_another_activation_is_used_at_once(value, rng, calls):
    model, images = made(classifier_activation="softmax"), rng.normal(size=(2, 8, 8, 3)).astype("float32")
    before = model.predict(images, verbose=0)
    model.layers[-1].activation = value
    logits = keras.Model(model.input, model.get_layer("logits").output)(images)
    close(model.predict(images, verbose=0), keras.activations.get(value)(logits))
    model.layers[-1].activation = "softmax"
    close(model.predict(images, verbose=0), before)
    assert calls == [2, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        raise_activation,
        lambda model: setattr(model.get_layer("logits"), "activation", keras.activations.relu),
        lambda model: setattr(model.get_layer("global_pool"), "call", lambda x: keras.ops.max(x, axis=(1, 2))),
        lambda model: setattr(model, "predict_step", lambda data: model(data) + 1.0),
    ],
)
def test_a_changed_network_answers_as_it_now_is(change, rng, calls):
    model, images = made(), rng.normal(size=(2, 8, 8, 3)).astype("float32")
    before = model.predict(images, verbose=0)
    change(model)
    model.predict_function = None
    result = model.predict(images, verbose=0)
    close(result, kerass(model, images))
    assert np.abs(result - before).max() > 1e-3 and calls == [2]


def keep(layer, *args, **kwargs):
    """Another way to call the layers of a clone: half of what the classifier says."""
    return 0.5 * layer(*args, **kwargs) if layer.name == "logits" else layer(*args, **kwargs)


@pytest.mark.parametrize("way", ["plain", "changed", "joined otherwise"])
def test_a_clone_answers_as_the_network_is(way, rng, calls):
    model, images = made(), rng.normal(size=(2, 8, 8, 3)).astype("float32")
    if way == "changed":
        raise_activation(model)
    clone = keras.models.clone_model(model, call_function=keep if way == "joined otherwise" else None)
    clone.set_weights(model.get_weights())
    assert clone.stands_alone == (way == "plain")
    close(clone.predict(images, verbose=0), kerass(clone, images))
    close(clone.predict(images, verbose=0), (0.5 if way == "joined otherwise" else 1.0) * kerass(model, images))
    assert calls == ([2, 2] if way == "plain" else [])


def test_what_concerns_training_alone_is_no_change(rng, calls):
    model, images = made(dropout=0.5), rng.normal(size=(2, 8, 8, 3)).astype("float32")
    model.get_layer("dropout").rate = 0.3
    model.predict(images, verbose=0)
    assert calls == [2] and not model.changes() and model.get_config()["dropout"] == 0.3


@pytest.mark.parametrize("kind", [Doubled, Halved])
def test_a_subclass_answers_in_its_own_way(kind, rng, calls):
    model = kind("tiny", **TINY)
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    logits = keras.Model(model.input, model.output)(images)
    close(model.predict(images, verbose=0), logits * (2.0 if kind is Doubled else 0.5))
    assert calls == []


@pytest.mark.long
def test_training_and_loading_are_no_changes(rng, calls, tmp_path):
    model, images = made(drop_path=0.3), rng.normal(size=(4, 8, 8, 3)).astype("float32")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    for layer in model.layers:
        layer.trainable = False
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert model.changes() == again.changes() == []
    close(again.predict(images, verbose=0), model(images, training=False))
    assert calls == [4]


OLDER = CellGenotype((Block((0, 0), ("sep_conv_3x3", "max_pool_3x3")),), (2,))
SKIPPING = Genotype(OLDER, OLDER)  # each cell reads what the cell before the previous one made


def test_a_network_whose_first_cell_nobody_reads(rng, calls):
    """Every other cell is left out of a network that only looks at h_{i-1}."""
    model, images = NASNet(SKIPPING, **{**TINY, "repeats": 2}), rng.normal(size=(2, 8, 8, 3)).astype("float32")
    assert "cell_0" not in [layer.name for layer in model.layers]
    close(model.predict(images, verbose=0), model(images, training=False))
    assert calls == [2]


def test_memory_holds_what_is_still_read(monkeypatch):
    """At most a few values of a network live at a time while it runs step by step."""
    alive, most = set(), [0]

    class Tensor:
        def __init__(self):
            alive.add(id(self))
            most[0] = max(most[0], len(alive))

        def __del__(self):
            alive.discard(id(self))

    program = described("nasnet_a", repeats=6, filters=8, stem="cifar").program()
    kinds = {step.primitive.kind for step in program.steps}
    monkeypatch.setattr(functions, "FUNCTIONS", dict.fromkeys(kinds, lambda *_: Tensor()))
    weights = [None] * len(program.weights)
    (result,) = functions.compute(program, [Tensor()], weights, functions.Run(), [program.steps[-1].result])
    assert isinstance(result, Tensor) and alive == {id(result)}
    assert len(program.steps) > 600 and most[0] < 20


def told(caplog):
    """What was said of pixels, once read forgotten."""
    lines = [record.getMessage() for record in caplog.records if record.name == prediction.__name__]
    caplog.clear()
    return lines


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "tensor"])
def test_pixels_for_a_network_that_does_not_scale_them_are_told_once(kind, caplog):
    pixels = np.arange(192).reshape(1, 8, 8, 3).astype("uint8" if kind == "tensor" else kind)
    model, shown = made(), tf.constant(pixels) if kind == "tensor" else pixels
    model.predict(shown, verbose=0)
    (line,) = told(caplog)
    assert "pixels from 0 to 191" in line and "[-1, 1]" in line and "`preprocess_input`" in line
    model.predict(shown, verbose=0)
    model.predict_on_batch(shown)
    assert not told(caplog)
    made().predict_on_batch(shown)
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_fractions_of_pixels_and_images_that_were_scaled_twice_are_told(inside, rng, caplog):
    model = made(include_preprocessing=inside)
    shown = rng.uniform(-1, 0.5, (1, 8, 8, 3)) if inside else rng.uniform(0, 255, (1, 8, 8, 3))
    model.predict(shown, verbose=0)
    (line,) = told(caplog)
    assert ("in 0-255, and scales them itself" if inside else "in [-1, 1], as `preprocess_input`") in line
    model.predict(shown, verbose=0)
    assert not told(caplog)


def test_an_answer_is_a_call_as_exports_of_keras_want_one(rng, calls):
    model = made()
    assert not model._called
    model.predict(rng.normal(size=(2, 8, 8, 3)), verbose=0)
    assert calls == [2] and model._called


def test_images_as_a_network_takes_them_are_not_told(rng, caplog):
    pixels = rng.integers(0, 256, (1, 8, 8, 3), "uint8")
    for good in (pixels, pixels / 255):  # a dark one
        made(include_preprocessing=True).predict(good, verbose=0)
    image = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    made(input_tensor=scaled, input_shape=None).predict(pixels, verbose=0)
    model = made()
    for good in (pixels / np.float32(127.5) - 1, 3 * rng.normal(size=(1, 8, 8, 3)), np.ones((1, 8, 8, 3), "int32")):
        model.predict(good, verbose=0)
    assert not told(caplog)
