"""Parts of images that are cut from the pixels of their files."""

import numpy as np
import pytest
from PIL import Image

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
