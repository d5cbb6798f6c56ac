"""A photograph beside itself under a heat map."""

import io

import numpy as np
from PIL import Image

# Dark to bright, each step brighter than the one before: read without colours too.
COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)
OPACITY = 0.65  # of the hottest places; cold ones stay the grey photograph
GAP = 8  # pixels between the two
SHOWN = 224  # pixels that the shorter side of a smaller picture is enlarged to


def heat_map_png(pixels, heat):
    """The photograph on the left, on the right the same in grey under its heat map, as a PNG file.

    Args:
        pixels: uint8 [height, width, 3].
        heat: [height, width] in [0, 1].

    Returns:
        The file, bytes.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), float)[..., None]
    opacity = OPACITY * np.sqrt(heat)[..., None]
    covered = np.rint(grey * (1 - opacity) + coloured(heat) * opacity).astype(np.uint8)
    between = np.full((len(pixels), GAP, 3), 255, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([pixels, between, covered], 1)).save(buffer, "PNG")
    return buffer.getvalue()


def coloured(heat):
    """The colours of numbers in [0, 1], […, 3] in 0–255."""
    places = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(heat, places, channel) for channel in COLOURS.T], -1)


def shown_size(size):
    """The `(height, width)` that a picture of a size is enlarged to, by a whole number."""
    factor = max(1, -(-SHOWN // min(size)))
    return tuple(side * factor for side in size)


def enlarged(heat, size):
    """A float32 map [h, w] in [0, 1] at another size, `(height, width)`, smoothly."""
    image = Image.fromarray(np.asarray(heat, np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)
