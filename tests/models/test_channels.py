"""Weights for three channels in networks for another number of them, and the range of deep greys that one keeps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from checks import randomize

from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import Split
from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.models.applications import FACTORIES, NASNetMobile
from nasnet_keras.models.network import NASNet
from nasnet_keras.training import recipes
from nasnet_keras.training.transfer import fine_tune
from nasnet_keras.weights.loading import for_channels

TINY = {"repeats": (1, 1), "filters": 4, "stem": "cifar", "classes": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network for three channels, and its weights as a file."""
    model = NASNet("tiny", **TINY, input_shape=(8, 8, 3))
    randomize(model)
    path = tmp_path_factory.mktemp("weights") / "three.weights.h5"
    model.save_weights(path)
    return model, path


def test_one_channel_answers_as_three_equal_ones(trained, rng):
    model, path = trained
    grey = NASNet("tiny", **TINY, input_shape=(8, 8, 1), weights=path)
    images = rng.normal(size=(3, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(grey(images), model(images.repeat(3, -1)), atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_n_channels_repeat_the_three(trained, rng, channels):
    model, path = trained
    many = NASNet("tiny", **TINY, input_shape=(8, 8, channels), weights=path)
    kernels = [part.get_layer("stem").get_weights()[0] for part in (model, many)]
    np.testing.assert_allclose(kernels[1], kernels[0][:, :, [0, 1, 2, 0, 1, 2][:channels]] * (3 / channels), rtol=1e-6)
    if channels == 6:
        images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
        np.testing.assert_allclose(many(np.tile(images, 2)), model(images), atol=1e-5)
    assert many.alike(weights=path).count_params() == many.count_params()


def test_its_own_weights_fit_as_they_are(trained, tmp_path):
    grey = NASNet("tiny", **TINY, input_shape=(8, 8, 1), weights=trained[1])
    grey.save_weights(tmp_path / "one.weights.h5")
    again = NASNet("tiny", **TINY, input_shape=(8, 8, 1), weights=tmp_path / "one.weights.h5")
    for one, other in zip(grey.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for channels in (1, 3):  # what fits in neither way is refused in the words that it always was
        with pytest.raises(ValueError, match=r"three\.weights\.h5 does not fit the network"):
            NASNet("tiny", **{**TINY, "filters": 5}, input_shape=(8, 8, channels), weights=trained[1])


def test_factories_take_other_channels(tmp_path, rng):
    small = {"repeats": 1, "filters": 8, "include_top": False, "pooling": "avg"}
    model = NASNetMobile(weights=None, input_shape=(32, 32, 3), **small)
    model.save_weights(tmp_path / "mobile.weights.h5")
    grey = NASNetMobile(weights=tmp_path / "mobile.weights.h5", input_shape=(32, 32, 1), **small)
    images = rng.normal(size=(1, 32, 32, 1)).astype("float32")
    np.testing.assert_allclose(grey(images), model(images.repeat(3, -1)), rtol=1e-4, atol=1e-3)


def test_the_shipped_weights_take_one_channel(rng):
    make = FACTORIES["NASNetCIFAR"]
    grey, model = make(input_shape=(32, 32, 1)), make()
    images = rng.uniform(-1, 1, (2, 32, 32, 1)).astype("float32")
    np.testing.assert_allclose(grey(images), model(images.repeat(3, -1)), atol=1e-4)
    assert grey.class_names == model.class_names


@pytest.mark.parametrize(("channels", "augmentation"), [(1, "photo"), (4, "cifar")])
def test_fine_tuning_with_other_channels(trained, channels, augmentation, rng):
    labels = np.arange(12, dtype="int32") % 2
    images = rng.integers(0, 99, (12, 8, 8, channels)).astype("uint8") + 140 * labels[:, None, None, None].astype(
        "uint8"
    )
    recipe = recipes.recipe("scans", batch_size=6, augmentation=augmentation)
    model = fine_tune(trained[0], (images, labels), None, 2, recipe=recipe, epochs=1, unfreeze="head")
    kernels = [part.get_layer("stem").get_weights()[0] for part in (trained[0], model)]
    np.testing.assert_array_equal(kernels[1], for_channels(kernels[0], channels))
    assert model.input_shape == (None, 8, 8, channels)


def test_a_range_is_kept(trained, tmp_path):
    model = NASNet("tiny", **TINY, input_shape=(8, 8, 3), grey_range=[0, 4095])
    assert model.grey_range == (0, 4095) == model.alike().grey_range
    model.save(tmp_path / "net.keras")
    assert keras.saving.load_model(tmp_path / "net.keras").grey_range == (0, 4095)
    model.grey_range = (-1024, 3071.5)
    assert NASNet.from_config(model.get_config()).grey_range == (-1024, 3071.5)
    model.grey_range = None
    assert model.architecture == trained[0].architecture and model.grey_range is None
    with pytest.raises(ValueError, match="`grey_range` must be"):
        model.grey_range = (5, 5)


@pytest.mark.long
def test_fine_tuning_keeps_the_range_of_its_images(trained, tmp_path):
    from pixels import deep, drawn, png

    values = [deep(picture, 4095).astype(np.uint16)[..., None] for picture in drawn(4, (8, 8))]
    files = ImageFiles(tuple(png(value, 0) for value in values), (8, 8), (0, 4095))
    split = Split(files, np.arange(4, dtype="int32") % 2)
    recipe = recipes.recipe("scans", batch_size=2, augmentation="none")
    settings = {"recipe": recipe, "epochs": 1, "unfreeze": "head"}
    model = fine_tune(trained[0], split, None, 2, **settings)
    assert model.grey_range == (0, 4095)
    arrays = (files.decode(), split.labels)  # which do not say how they were read
    assert fine_tune(model, arrays, None, 2, **settings).grey_range == (0, 4095)
    assert fine_tune(model, arrays, None, 2, grey_range=(0, 9), **settings).grey_range == (0, 9)
    assert (
        fine_tune(model, Split(ImageFiles(files.sources, (8, 8)), split.labels), None, 2, **settings).grey_range is None
    )


def test_exports_of_other_channels(trained, tmp_path, rng):
    for channels, names in ((1, {"serving_default", "image_bytes"}), (4, {"serving_default"})):
        model = NASNet("tiny", **TINY, input_shape=(8, 8, channels), weights=trained[1])
        loaded = tf.saved_model.load(str(export_saved_model(model, tmp_path / str(channels))))
        assert set(loaded.signatures) == names
        assert not hasattr(loaded, "grey_range")
