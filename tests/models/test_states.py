"""LoRA on a network's classifier, what computes with it, and that it goes on learning; an `Input` of one's own."""

import h5py
import keras
import numpy as np
import pytest

from nasnet_keras.models.functions import Run, compute
from nasnet_keras.models.inference import inference_program
from nasnet_keras.models.nesting import layers_within
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import devices


@pytest.fixture
def network(rng):
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
    head = model.get_layer("logits")
    head.enable_lora(2, lora_alpha=4)
    head.lora_kernel_b.assign(rng.normal(0, 0.1, head.lora_kernel_b.shape))
    return model


def photographs(rng):
    return rng.uniform(-1, 1, (3, 8, 8, 3)).astype("float32")


def test_the_program_of_a_low_rank_head_computes_what_it_does(network, tmp_path, rng):
    network.save(tmp_path / "m.keras")
    clone, copies = keras.models.clone_model(network), devices._made_again(network)
    clone.set_weights(network.get_weights())
    devices._assign(copies, network)
    images = photographs(rng)
    expected = np.asarray(network(images, training=False))
    for one in (network, keras.saving.load_model(tmp_path / "m.keras"), clone, copies):
        head = one.get_layer("logits")
        assert (head.lora_enabled, head.lora_rank, head.lora_alpha) == (True, 2, 4)
        program, weights = inference_program(one)
        (logits,) = compute(program, [images], weights, Run(), [program.steps[-1].result])
        np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-5)
    network.get_layer("logits").use_bias = False
    with pytest.raises(ValueError, match=r"`model` must be .* another logits.use_bias$"):
        inference_program(network)


@pytest.mark.parametrize("kind", ["sequential", "graph"])
def test_a_low_rank_head_inside_another_model_learns_after_loading(kind, network, tmp_path, rng):
    for layer in network.layers:
        layer.trainable = layer.name == "logits"
    outer = keras.Sequential([keras.layers.Rescaling(1.0), network])
    if kind == "graph":
        outer = keras.Model(network.input, keras.layers.Rescaling(1.0)(network.get_layer("logits").output))
    images = photographs(rng)
    expected = outer(images)
    outer.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    (head,) = [layer for layer in layers_within(loaded) if layer.name == "logits"]
    assert (head.lora_enabled, head.lora_rank, head.lora_alpha) == (True, 2, 4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=kind == "graph")
    loaded.compile("sgd", loss, run_eagerly=True)
    loaded.train_on_batch(images, np.arange(3))
    assert np.asarray(head.lora_kernel_b).any()


def test_files_call_the_classifier_as_keras_does(network, tmp_path):
    """So files that earlier versions wrote, whose classifier was Keras' own, are read."""
    network.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert file["layers/dense/vars"].attrs["name"] == "logits"


OWN = {"name": "photo", "dtype": "uint8", "batch_size": 2}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file", "ignore:The structure of `inputs`")
@pytest.mark.parametrize("own", [OWN, *({name: value} for name, value in OWN.items())], ids=str)
def test_an_input_of_one_s_own_is_kept(own, tmp_path, rng):
    def model(image):
        return NASNet("tiny", repeats=1, filters=4, stem="cifar", input_tensor=image, include_preprocessing=True)

    first = model(keras.Input((8, 8, 3), **own))
    name = own.get("name", "image")
    assert first.get_config()["input"] == own
    first.save(tmp_path / "m.keras")
    first.save(tmp_path / "m.h5")
    x = rng.integers(0, 256, (2, 8, 8, 3)).astype("uint8")
    for again in (
        keras.saving.load_model(tmp_path / "m.keras"),
        keras.saving.load_model(tmp_path / "m.h5"),
        keras.models.model_from_json(first.to_json()),
    ):
        assert type(again) is NASNet and again.stands_alone and again.get_config() == first.get_config()
        assert again.input.name == name and again.input.shape == (own.get("batch_size"), 8, 8, 3)
        assert keras.backend.standardize_dtype(again.input.dtype) == own.get("dtype", "float32")
        again.set_weights(first.get_weights())
        np.testing.assert_array_equal(again(x), first(x))
        again.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        again.fit({name: x}, np.array([0, 1]), batch_size=2, verbose=0)


def test_files_of_usual_networks_say_nothing_of_their_input():
    usual = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
    options = {**usual.architecture.arguments(), "input_shape": None}
    for model in (
        usual,
        *(NASNet(**options, input_tensor=keras.Input((8, 8, 3), name=name)) for name in ("image", None)),
    ):
        assert model.get_config() == usual.get_config() and "input" not in model.get_config()
