"""RandAugment, image by image: a few operations drawn from a list, all of one strength.

Cubuk et al. 2020, arXiv 1909.13719, section 3. Keras' own layer draws its operations once for a whole batch, computes
all of them, and draws them from another generator than the one that it is given.
"""

from functools import partial

from PIL import Image, ImageEnhance, ImageOps

from nasnet_keras.data.images import by_pillow

GREATEST = 10  # magnitude
COUNT = 2  # operations for each image, as for ImageNet
GREY = 128


def rand_augmented(image, rng, magnitude):
    """Change an image by two operations, which may be the same one.

    Args:
        image: uint8 [height, width, channels].
        rng: a `numpy.random.Generator`.
        magnitude: strength of the operations, from 0 to 10; the direction of those that have one is drawn.

    Returns:
        uint8 [height, width, channels].
    """
    names = list(OPERATIONS)
    for _ in range(COUNT):
        share = magnitude / GREATEST * (1 if rng.random() < 0.5 else -1)
        image = by_pillow(image, partial(OPERATIONS[names[rng.integers(len(names))]], share=share))
    return image


def _enhanced(kind, image, share):
    return kind(image).enhance(1 + 0.9 * share)


def _affine(shear_x, move_x, shear_y, move_y, image, share):
    """Sheared by a slope, or moved by a share of its side."""
    matrix = (1, shear_x * share, move_x * share * image.width, shear_y * share, 1, move_y * share * image.height)
    bilinear = Image.Resampling.BILINEAR
    return image.transform(image.size, Image.Transform.AFFINE, matrix, bilinear, fillcolor=_grey(image))


def _grey(image):
    return GREY if image.mode == "L" else (GREY,) * len(image.getbands())


# Each of an image and a strength from -1 to 1; the ranges are those of the paper's list.
OPERATIONS = {
    "identity": lambda image, share: image,
    "auto_contrast": lambda image, share: ImageOps.autocontrast(image),
    "equalize": lambda image, share: ImageOps.equalize(image),
    "posterize": lambda image, share: ImageOps.posterize(image, 8 - round(4 * abs(share))),
    "solarize": lambda image, share: ImageOps.solarize(image, 256 * (1 - abs(share))),
    "brightness": partial(_enhanced, ImageEnhance.Brightness),
    "colour": partial(_enhanced, ImageEnhance.Color),
    "contrast": partial(_enhanced, ImageEnhance.Contrast),
    "sharpness": partial(_enhanced, ImageEnhance.Sharpness),
    "rotate": lambda image, share: image.rotate(30 * share, Image.Resampling.BILINEAR, fillcolor=_grey(image)),
    "shear_x": partial(_affine, 0.3, 0, 0, 0),
    "shear_y": partial(_affine, 0, 0, 0.3, 0),
    "translate_x": partial(_affine, 0, 0.45, 0, 0),
    "translate_y": partial(_affine, 0, 0, 0, 0.45),
}
