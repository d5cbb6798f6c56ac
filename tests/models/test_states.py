"""LoRA on a network's classifier: what computes with it, and that it goes on learning."""

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
