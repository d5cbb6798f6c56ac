"""Recipes that vary training images: random crops, flips, shifts, colours, cutout.

A step is a function of one uint8 image [height, width, 3] and a NumPy generator that
returns an image of the same shape; a recipe is a tuple of steps. Working image by image
is as fast as working on whole batches, because Pillow's resampling does the work.
"""

from functools import partial

import numpy as np
from PIL import Image

from nasnet_keras.checks import check_integer, check_one_of, is_number
from nasnet_keras.data.images import by_pillow
from nasnet_keras.data.rand_augment import GREATEST, rand_augmented


def upsampled_crop(image, rng):
    """Enlarge the image by a quarter and cut a window of its own size at random.

    32x32 images are enlarged to 40x40: Zoph et al. 2018 (arXiv 1707.07012), appendix A.1.
    """
    height, width = image.shape[:2]
    top, left = rng.integers(round(height * 0.25) + 1), rng.integers(round(width * 0.25) + 1)
    return _resized_crop(image, top * 0.8, left * 0.8, height * 0.8, width * 0.8)


def random_resized_crop(image, rng):
    """Cut 40% to 100% of the area, in the proportions of the image times 3:4 to 4:3, and enlarge it.

    The milder form, for fine-tuning, of the crops of Szegedy et al. 2015 (arXiv 1409.4842), section 6.
    """
    return _resized_crop(image, *random_part(*image.shape[:2], rng))


def random_part(height, width, rng, aspect=None):
    """The part of an image that `random_resized_crop` cuts: `(top, left, height, width)` in pixels and between them.

    Args:
        height, width: of the image, in pixels.
        rng: as for `augment`.
        aspect: width / height of what the part is resized to, None for the image's own. The part has that, times 3:4 to
            4:3. One that would stick out is a smaller one of its shape; of an image of that aspect what sticks out is
            cut off, which leaves more.
    """
    wider = 1.0 if aspect is None else width / height / aspect  # than what is made of it
    area, ratio = rng.uniform(0.4, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    down, across = np.sqrt(area * wider / ratio), np.sqrt(area * ratio / wider)
    if wider == 1:
        down, across = min(1, down), min(1, across)
    most = max(1, down, across)
    part_height, part_width = height * (down / most), width * (across / most)
    top, left = rng.uniform(0, height - part_height), rng.uniform(0, width - part_width)
    return top, left, part_height, part_width


def flip(image, rng):
    """Mirror left and right, in half of the cases."""
    if rng.random() >= 0.5:
        return image
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if isinstance(image, Image.Image) else image[:, ::-1]


def shift(image, rng):
    """Move by up to an eighth of each side; the pixels at the edge fill what comes into view."""
    return _moved(image, rng, lambda place, last: np.clip(place, 0, last))


def reflected_crop(image, rng):
    """Move by up to an eighth of each side; what comes into view is the image mirrored at its edge.

    A window of an image that is padded by reflection, 32x32 of 40x40: Jordan 2024 (arXiv 2404.00498), section 3.
    """
    return _moved(image, rng, lambda place, last: last - abs(last - abs(place)) if last else 0 * place)


def colour_jitter(image, rng):
    """Change brightness, contrast and saturation by up to a fifth each; only colours, three channels, have the last."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    is_pillow = isinstance(image, Image.Image)
    if not is_pillow and image.shape[-1] != 3:
        return np.clip(brightness * (contrast * image + (1 - contrast) * 127.5) + 0.5, 0, 255).astype(np.uint8)
    grey = np.tile(np.float64([0.299, 0.587, 0.114]), (3, 1))  # ITU-R 601 luma
    colours = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
    offset = np.full((3, 1), brightness * (1 - contrast) * 127.5)
    matrix = tuple(np.hstack([colours, offset]).ravel())
    if is_pillow:
        return image.convert("RGB", matrix)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("RGB", matrix))


def cut_out(image, rng, size):
    """Paint a square of `size` pixels grey (zero once the images are in [-1, 1]).

    Its centre may be any pixel, so that it may stick out: DeVries & Taylor 2017 (arXiv 1708.04552).
    """
    height, width = image.shape[:2]
    top, left = rng.integers(height) - size // 2, rng.integers(width) - size // 2
    image = image.copy()
    image[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 128
    return image


AUGMENTATIONS = {
    "none": (),
    "cifar": (upsampled_crop, flip),
    "digits": (shift,),
    "shifts": (shift, flip),
    "alternating": (reflected_crop,),
    "photo": (random_resized_crop, flip, colour_jitter),
}
# Recipes that mirror every image in every second epoch, half of them in the first, instead of by chance: each two
# epochs show both sides of each. What is mirrored hangs on an image's place in its split, so `Batches` does it.
ALTERNATING = ("alternating",)
# Steps that begin with a part of an image: of a file it is cut out of all of its pixels, not of those that were kept.
PARTS = {random_resized_crop: random_part}
# Steps that take and give Pillow images as well: between them nothing is copied into arrays.
BY_PILLOW = (flip, colour_jitter)
PLACES = ("processor", "device")  # where images of a batch are mixed


def augment(images, recipe, rng, cutout=0, rand_augment=0):
    """Vary a batch of images.

    Args:
        images: uint8 [n, height, width, channels]; not changed.
        recipe: a name from `AUGMENTATIONS`: `"none"`, `"cifar"` (crop of the image enlarged by a
            quarter, flip), `"digits"` (small shifts, for scans), `"shifts"` (shifts and flips, milder
            than `"cifar"`, for short trainings), `"alternating"` (shifts filled by reflection; `Batches`
            mirror the images in turn, see `ALTERNATING`) or `"photo"` (crop, flip, colours).
        rng: the `numpy.random.Generator` that all choices come from.
        cutout: the side of a grey square painted into every image, in pixels; 0 for none.
            The paper's "+ cutout" results use 16 on 32x32 images.
        rand_augment: magnitude of RandAugment after the recipe's steps, 0 to 10; 0 for none.

    Returns:
        uint8 [n, height, width, channels].

    Raises:
        ValueError: an unknown recipe, a wrong `cutout` or `rand_augment`.
    """
    check_augmentation(recipe, cutout, rand_augment)
    varied = np.empty_like(images)
    for index, image in enumerate(images):
        varied[index] = _varied(image, AUGMENTATIONS[recipe], rng, cutout, rand_augment)
    return varied


def vary(read, recipe, rng, cutout=0, rand_augment=0, aspect=None):
    """Vary one image that is read from a file.

    Args:
        read: a function of a `part`, see `images.read_pillow`, that gives a Pillow image.
        recipe, cutout, rand_augment: as for `augment`.
        rng: the image's own `numpy.random.Generator`.
        aspect: width / height of what `read` gives; None for that of the file.

    Returns:
        uint8 [height, width, 3].
    """
    first, *others = AUGMENTATIONS[recipe] or (None,)
    if first in PARTS:
        image = read(partial(PARTS[first], rng=rng, aspect=aspect))
    else:
        image, others = read(None), AUGMENTATIONS[recipe]
    return _varied(image, others, rng, cutout, rand_augment)


def crops(recipe):
    """Whether a recipe begins with a part of an image, which of a file is cut out of all of its pixels."""
    return any(step in PARTS for step in AUGMENTATIONS[recipe or "none"][:1])


def check_augmentation(recipe, cutout, rand_augment=0):
    """Raise `ValueError` where `augment` would."""
    check_one_of("augmentation", recipe, AUGMENTATIONS, optional=True)
    check_integer("cutout", cutout)
    if not is_number(rand_augment) or not 0 <= rand_augment <= GREATEST:
        raise ValueError(f"`rand_augment` must be a magnitude from 0 to {GREATEST}. Received: {rand_augment!r}")


def check_mixing_place(place, backend):
    """Raise `ValueError` unless images can be mixed there, see `mixing.Mixing`, with this backend of Keras."""
    check_one_of("mixing", place, PLACES)
    if place == "device" and backend != "jax":
        raise ValueError(f"`mixing` must be processor on {backend}, whose batches lie there. Received: {place!r}")


def _varied(image, steps, rng, cutout, rand_augment):
    for step in steps:
        image = step(image if step in BY_PILLOW else np.asarray(image), rng)
    image = np.asarray(image)
    if rand_augment:
        image = rand_augmented(image, rng, rand_augment)
    return cut_out(image, rng, cutout) if cutout else image


def _moved(image, rng, inside):
    """An image moved by up to an eighth of each side; `inside` brings places that are out of it, up to the last, in."""
    for axis in (0, 1):
        side = image.shape[axis]
        most = max(1, side // 8)
        image = image.take(inside(np.arange(side) + rng.integers(-most, most + 1), side - 1), axis)
    return image


def _resized_crop(image, top, left, height, width):
    # The corners may lie between pixels: Pillow interpolates as if it had enlarged the whole image.
    whole = image.shape[1::-1]
    box = (left, top, min(left + width, whole[0]), min(top + height, whole[1]))
    return by_pillow(image, lambda part: part.resize(whole, Image.Resampling.BILINEAR, box))
