"""Random erasing, MixUp, CutMix and RandAugment: what they do to pixels and labels, each image by its own draw."""

import keras
import numpy as np
import pytest

from nasnet_keras.data.batches import Batches
from nasnet_keras.data.loading import load_data
from nasnet_keras.data.mixing import Mixing
from nasnet_keras.data.rand_augment import OPERATIONS, rand_augmented

SEED = [1, 2, 3]


def flat(count=8, side=10):
    """Images of one colour each, and a label for each: what is mixed can be told from the pixels."""
    values = np.linspace(-1, 1, count, dtype="float32")
    return np.tile(values[:, None, None, None], (1, side, side, 3)), np.arange(count), values


@pytest.mark.jax
def test_mixup_mixes_pixels_as_labels():
    images, labels, values = flat()
    mixed, shares = Mixing(mixup=0.5, classes=9)(images, labels, SEED)
    assert mixed.dtype == shares.dtype == np.float32 and shares.shape == (8, 9)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(
        mixed, np.broadcast_to((shares[:, :8] @ values)[:, None, None, None], mixed.shape), atol=1e-6
    )
    assert ((shares > 0).sum(1) <= 2).all() and len(set(shares.max(1).round(4))) > 4
    np.testing.assert_array_equal(images, flat()[0])


@pytest.mark.jax
def test_cutmix_cuts_as_much_as_the_labels_say():
    images, labels, values = flat(16, 64)
    mixed, shares = Mixing(cutmix=1.0, classes=16)(images, labels, SEED)
    for image, row, own in zip(mixed, shares, values, strict=True):
        left = np.isclose(image[..., 0], own, atol=1e-6)
        assert left.mean() == pytest.approx(row[np.flatnonzero(np.isclose(values, own))[0]], abs=0.04)
        others = image[~left]
        assert len(np.unique(others)) <= 1  # one rectangle of one partner
        rows, columns = np.flatnonzero(~left.all(1)), np.flatnonzero(~left.all(0))
        assert (~left).sum() == len(rows) * len(columns)
    assert sum(0.05 < row.max() < 0.95 for row in shares) > 4


@pytest.mark.jax
def test_erasing_replaces_parts_of_as_many_images_as_asked():
    images = np.full((400, 16, 16, 3), 0.25, "float32")
    labels = np.arange(400) % 3
    changed, same = Mixing(erasing=0.25)(images, labels, SEED)
    assert same is labels
    touched = (changed != 0.25).any((1, 2, 3))
    assert touched.mean() == pytest.approx(0.25, abs=0.08)
    parts = (changed[touched] != 0.25).all(-1).mean((1, 2))
    assert parts.min() > 0.01 and parts.max() < 0.4 and len(np.unique(parts)) > 10
    noise = changed[changed != 0.25]
    assert noise.min() >= -1 and noise.max() <= 1 and abs(noise.mean()) < 0.1 and noise.std() > 0.5


@pytest.mark.jax
@pytest.mark.parametrize("settings", [{"erasing": 1.0}, {"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_draws_follow_from_the_seed_alone(settings):
    """Whatever was drawn before, also by another object or after another seed of Keras."""
    images, labels, _ = flat(12, 8)
    one, other = (Mixing(**settings, classes=12) for _ in range(2))
    first = one(images, labels, [0, 5, 2, 7])
    keras.utils.set_random_seed(99)
    one(images, labels, [0, 5, 2, 8])
    for again in (other, one):
        for left, right in zip(first, again(images, labels, [0, 5, 2, 7]), strict=True):
            np.testing.assert_array_equal(left, right)
    for seed in ([0, 5, 2, 8], [0, 6, 2, 7], [1, 5, 2, 7]):
        assert not np.array_equal(first[0], one(images, labels, seed)[0])


@pytest.mark.jax
def test_on_the_device_the_same_is_done():
    """What is mixed stays there, as JAX's Keras takes it; TensorFlow's would have to fetch it back."""
    images, labels, _ = flat(12, 8)
    settings = {"erasing": 0.5, "mixup": 0.4, "cutmix": 1.0, "classes": 12}
    split = load_data("digits", limit=60).train
    if keras.backend.backend() != "jax":
        with pytest.raises(ValueError, match="`mixing` must be processor on tensorflow"):
            Batches(split, 8, training=True, mixing="device")
        return
    for step in range(6):
        one, other = (Mixing(**settings, place=place)(images, labels, [0, step]) for place in ("processor", "device"))
        assert all(isinstance(part, np.ndarray) for part in one) and all(map(keras.ops.is_tensor, other))
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    batches = Batches(split, 8, training=True, erasing=0.5, mixing="device", scaled=False)
    here = Batches(split, 8, training=True, erasing=0.5, scaled=False)
    np.testing.assert_array_equal(batches[0][0], here[0][0])


def test_with_both_half_of_the_batches_are_mixed_in_each_way():
    images, labels, _ = flat()
    both = Mixing(mixup=1.0, cutmix=1.0, classes=8)
    flat_ones = [np.ptp(both(images, labels, [0, step])[0], axis=(1, 2)).max() < 1e-6 for step in range(40)]
    assert 10 <= sum(flat_ones) <= 30


def test_the_callers_random_numbers_stay():
    import random

    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    Mixing(erasing=1.0, mixup=0.2, cutmix=1.0, classes=8)(*flat()[:2], SEED)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_small_alpha_makes_no_nan():
    """A beta distribution of two zeros: such an image stays what it is."""
    images, labels, _ = flat(64, 2)
    for settings in ({"mixup": 0.01}, {"cutmix": 0.01}):
        mixed, shares = Mixing(**settings, classes=64)(images, labels, SEED)
        assert np.isfinite(mixed).all()
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)


def test_rand_augment_draws_for_each_image(rng):
    image = rng.integers(0, 256, (24, 32, 3), np.uint8)
    found = [rand_augmented(image, np.random.default_rng([0, place]), 9) for place in range(32)]
    assert len({one.tobytes() for one in found}) > 24
    again = rand_augmented(image, np.random.default_rng([0, 3]), 9)
    np.testing.assert_array_equal(again, found[3])
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in found)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_operation_takes_images_of_any_channels(channels, rng):
    image = rng.integers(0, 256, (9, 12, channels), np.uint8)
    drawn = {rand_augmented(image, np.random.default_rng(place), 10).tobytes() for place in range(60)}
    assert len(drawn) > 40


def test_operations_do_what_they_are_called():
    """Against the same in NumPy, or at strengths that leave an image as it is."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    image = Image.fromarray(pixels)

    def done(name, share):
        return np.asarray(OPERATIONS[name](image, share), int)

    for name in set(OPERATIONS) - {"auto_contrast", "equalize"}:
        np.testing.assert_array_equal(done(name, 0.0), pixels, err_msg=name)
    np.testing.assert_array_equal(done("posterize", -1.0), pixels & 0xF0)
    np.testing.assert_array_equal(done("solarize", 1.0), 255 - pixels)
    np.testing.assert_array_equal(done("solarize", 0.5), np.where(pixels < 128, pixels, 255 - pixels))
    np.testing.assert_allclose(done("brightness", 1.0), np.minimum(255, pixels * 1.9), atol=1)
    np.testing.assert_allclose(done("brightness", -1.0), pixels * 0.1, atol=1)
    moved = done("translate_x", 1 / 4.5)  # of ten columns one
    np.testing.assert_array_equal(moved[:, :9], pixels[:, 1:])
    assert (moved[:, 9] == 128).all()
    np.testing.assert_array_equal(done("translate_y", -1 / 3.6)[1:], pixels[:-1])  # of eight rows one
    stretched = done("auto_contrast", 0.0)
    assert stretched.min() == 0 and stretched.max() == 255


def test_labels_of_many_classes_take_no_matrix_of_all(monkeypatch):
    """ImageNet's 21,841 classes would have one of 1.9 GB, in every batch."""
    monkeypatch.setattr(np, "eye", lambda *_, **__: pytest.fail("a matrix of all classes"))
    images, labels, _ = flat()
    _, shares = Mixing(mixup=0.5, classes=21_841)(images, labels, SEED)
    assert shares.shape == (8, 21_841) and shares.dtype == np.float32
    np.testing.assert_allclose(shares[:, :8].sum(1), 1, atol=1e-6)
