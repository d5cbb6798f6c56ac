"""Parts of images that are cut from the pixels of their files."""

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.data import image_files
from nasnet_keras.data.augmentation import random_part
from nasnet_keras.data.batches import Batches
from nasnet_keras.data.images import read_image
from nasnet_keras.data.loading import load_data


def test_a_recipe_that_crops_cuts_from_the_files_own_pixels(tmp_path):
    """From a wide image all of its width can be seen, not only the square in its middle; equal seeds, equal pixels."""
    ramp = np.repeat(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], 80, 0).repeat(3, -1)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(12):
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.png")
    data = load_data(tmp_path, image_size=16, memory_limit=10, validation=0, test=0)
    batches = Batches(data.train, 24, training=True, augmentation="photo", scaled=False)
    first = batches[0][0]
    means = first.mean((1, 2))
    # The square in the middle has greys from 96 to 159 alone.
    assert first.min() < 60 and first.max() > 200 and np.ptp(means) > 20
    np.testing.assert_array_equal(
        first, Batches(data.train, 24, training=True, augmentation="photo", scaled=False)[0][0]
    )
    batches.epoch = 1
    assert np.abs(batches[0][0] - first).mean() > 1


def test_a_part_is_what_resizing_the_part_gives(tmp_path):
    """Compared with the same box of the whole image, for large JPEGs that are reduced while they are decoded, too."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    pixels.save(tmp_path / "a.jpg", quality=95)
    pixels.save(tmp_path / "a.png")
    box = (50.0, 100.0, 400.0, 500.0)  # top, left, height, width
    wanted = np.asarray(pixels.resize((20, 20), Image.Resampling.BILINEAR, (100, 50, 600, 450)), float)
    for name in ("a.png", "a.jpg"):
        found = read_image(tmp_path / name, 20, part=lambda height, width: box)
        assert np.abs(found - wanted).mean() < 1.5
    turned = pixels.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned back by a quarter
    turned.save(tmp_path / "b.jpg", quality=95, exif=exif)
    sizes = []
    found = read_image(tmp_path / "b.jpg", 20, part=lambda *size: sizes.append(size) or box)
    assert sizes == [(600, 800)] and np.abs(found - wanted).mean() < 1.5
    with pytest.raises(ValueError, match="`part` needs an `image_size`"):
        read_image(tmp_path / "a.png", part=lambda height, width: box)


def test_a_part_has_the_proportions_of_what_is_made_of_it():
    """Within 3:4 to 4:3 of them, whatever the shape of the file; between square ones nothing has changed."""
    shapes = [(300, 400, 1.0), (1080, 1920, 1.0), (1920, 1080, 1.0), (100, 100, 16 / 9), (50, 1000, 1.0)]
    for height, width, aspect in shapes:
        ratios = []
        for seed in range(200):
            top, left, down, across = random_part(height, width, np.random.default_rng(seed), aspect)
            assert 0 <= top <= height - down and 0 <= left <= width - across and min(down, across) > 0
            touches = down == height or across == width
            assert touches or 0.4 <= down * across / (height * width) <= 1
            ratios.append(across / down / aspect)
        assert 0.7499 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.3334

    def before(height, width, rng):
        area, ratio = rng.uniform(0.4, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
        down, across = height * min(1, np.sqrt(area / ratio)), width * min(1, np.sqrt(area * ratio))
        return rng.uniform(0, height - down), rng.uniform(0, width - across), down, across

    for height, width, aspect in [(64, 64, 1.0), (64, 64, None), (48, 64, None), (480, 640, 160 / 120)]:
        for seed in range(200):
            one, other = (np.random.default_rng(seed) for _ in range(2))
            assert random_part(height, width, one, aspect) == before(height, width, other)


def test_batches_say_what_crops_are_made_into(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 18)).save(tmp_path / name / "0.png")
    data = load_data(tmp_path, image_size=(20, 10), memory_limit=10, validation=0, test=0)
    made = []

    def read(source, size, grey_range, part):
        made.append(part(180, 320))
        return Image.new("RGB", size[::-1])

    monkeypatch.setattr(image_files, "read_pillow", read)
    batches = Batches(data.train, 2, training=True, augmentation="photo")
    for batches.epoch in range(20):
        batches[0]
    assert len(made) == 40 and all(0.7499 < across / down / 0.5 < 1.3334 for _, _, down, across in made)
