"""Image files as arrays: one decoding routine for training, evaluation and prediction.

Files come from strangers: the number of pixels is checked before any is decoded,
only plain raster formats are opened, and whatever a decoder raises becomes one
line that names the file.
"""

import contextlib
import io
import os

import numpy as np
from PIL import ExifTags, Image

# Pillow would also open formats that start other programs (EPS) or hold no raster at all.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
MAX_PIXELS = 80_000_000
LONGEST_SIDE = 8192
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source, image_size=None):
    """Decode one image to RGB.

    EXIF orientation is applied; of an animation the first frame is taken. Greyscale, palette and
    CMYK images become RGB, 16-bit greyscale is scaled (its high byte is kept), and transparent
    pixels are composited over white.

    Args:
        source: the path of a JPEG, PNG, GIF, BMP, WebP, TIFF or PPM file, or its content as `bytes`.
        image_size: None for the image's own size, or the size wanted, a number of pixels or
            `(height, width)`: the largest centred part with the wanted aspect ratio is cut out
            and resized (bilinear with antialiasing), so nothing is distorted.

    Returns:
        uint8 array of shape [height, width, 3].

    Raises:
        ValueError: one line that names the file, for whatever is no readable image of at most 80 million pixels.
    """
    size = None if image_size is None else as_size(image_size)
    with _opened(source) as image:
        if size and min(image.size) >= 4 * max(size):
            # A JPEG decoder can halve an image while decoding, which is much faster on large
            # photographs; twice the wanted size is kept so that the resizing below stays smooth.
            image.draft(None, (2 * max(size), 2 * max(size)))
        turn = _UPRIGHT.get(_orientation(image))
        image = _rgb(image)
        if turn is not None:
            image = image.transpose(turn)
        return np.array(image if size is None else _fit(image, *size))


def read_size(source):
    """Height and width of an image as `read_image` returns it, from its header alone.

    Args:
        source: a path or the content as `bytes`.

    Returns:
        `(height, width)` in pixels.

    Raises:
        ValueError: as `read_image` does, except that broken pixel data goes unnoticed.
    """
    with _opened(source) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def resize(image, size):
    """The largest centred part of a uint8 image [h, w, 3] with the aspect of `size`, `(height, width)`, resized."""
    return np.array(_fit(Image.fromarray(image), *size))


def as_size(image_size):
    """`image_size` as `(height, width)`: one number stands for a square. Raises `ValueError`."""
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    valid = isinstance(size, tuple | list) and len(size) == 2
    if not valid or any(type(side) is not int or not 1 <= side <= LONGEST_SIDE for side in size):
        rule = f"a number of pixels or (height, width), from 1 to {LONGEST_SIDE}"
        raise ValueError(f"`image_size` must be {rule}. Received: {image_size!r}")
    return tuple(size)


@contextlib.contextmanager
def _opened(source):
    """A Pillow image of bearable size. Any failure inside the block is a `ValueError` naming the source."""
    if isinstance(source, bytes):
        label, stream = f"of {len(source)} bytes", io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        label = stream = os.fspath(source)
    else:
        raise ValueError(f"an image must be given as a path or as bytes. Received: {type(source).__name__}")
    try:
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Exception as error:  # decoders raise nearly anything on broken input
        raise ValueError(f"cannot read the image {label}: {_reason(error)}") from None


def _reason(error):
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {MAX_PIXELS:,} pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image):
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a photograph with broken notes is still a photograph
        return 1


def _rgb(image):
    """Any mode to RGB of 8 bits."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ValueError("its pixels have more than 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _fit(image, height, width):
    """The largest centred part of the wanted aspect ratio, resized."""
    if image.size == (width, height):
        return image
    part_width = min(image.width, max(1, round(image.height * width / height)))
    part_height = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - part_width) // 2, (image.height - part_height) // 2
    part = image.crop((left, top, left + part_width, top + part_height))
    return part.resize((width, height), Image.Resampling.BILINEAR)


def resized(images, size):
    """Whole images uint8 [n, h, w, 3] in another `(height, width)`; where they shrink, pixels are averaged."""
    height, width = size
    if images.shape[1:3] == (height, width):
        return images
    return np.stack([Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in images])
