"""Image files as arrays: the one place that says what a file means, for training, evaluation, prediction and serving.

`decoding` says the same in TensorFlow's words, for graphs. Files come from strangers: the number of pixels is checked
before any is decoded, only plain raster formats are opened, and whatever a decoder raises becomes one line that names
the file.
"""

import contextlib
import errno
import io
import os
import re
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from nasnet_keras.checks import as_integer, as_numbers, check_range
from nasnet_keras.data.exif import exif_orientation

# Pillow would also open formats that start other programs (EPS) or hold no raster at all.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
# What files of these formats, and HEIF files, begin with.
BEGINNINGS = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|BM|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s|.{4}ftyp", re.DOTALL)
HEIF = re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif[12]|msf1)", re.DOTALL)
MAX_PIXELS = 80_000_000
LONGEST_SIDE = 8192
# What a decoder can divide the sides of a JPEG by while it decodes, which is much faster on large photographs.
RATIOS = (1, 2, 4, 8)
MAX_SEGMENTS = 2_000  # of notes before the pixels of a JPEG: a graph walks through them one by one
MAX_CHUNKS = 100_000  # of a PNG, likewise
# Markers of a JPEG's segments that have a length, as `decoding` reads them.
SEGMENTS = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDB, 0xF0), 0xFE))
BLOCK = 1 << 24  # bytes
GREATEST = "greatest grey"  # a note in a Pillow image's `info`: the value that the file of a PGM calls white
# Of TIFFs.
KIND, OLD_KIND, BITS, PHOTOMETRIC, PLANES = 254, 255, 258, 262, 284
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What a file says of its image before it is decoded.

    Args:
        format: one of `FORMATS`, or `"HEIF"`.
        mode: Pillow's name of its pixels: `"RGB"`, `"L"`, `"P"`, `"RGBA"`, `"I;16"`, `"CMYK"`, …
        height, width: in pixels, as `read_image` returns it.
        deep_colours: whether it has colours, or greys with transparency, of more than 8 bits, of which the high ones
            are kept.
    """

    format: str
    mode: str
    height: int
    width: int
    deep_colours: bool = False


def read_image(source, image_size=None, grey_range=None, channels=3, part=None):
    """Decode one image to RGB.

    What a file means: the orientation of its first EXIF block is applied (XMP is not asked; in a TIFF its own tag
    counts), of an animation the first frame is taken, and transparent pixels are composited over white. Greyscale,
    palette and CMYK images become RGB. Of 16 bits the high byte is kept, unless `grey_range` says what is black and
    what is white; greys without an agreed range, floating-point, signed or of 32 bits, need it. A large JPEG is
    reduced by `jpeg_ratio` while it is decoded. A TIFF whose first image is only a preview, as in a camera's raw file,
    and one of 16 bits with its colours one after the other and not compressed, are refused: Pillow would give other
    pixels than are meant.

    Args:
        source: the path of a JPEG, PNG, GIF, BMP, WebP, TIFF, PPM, AVIF or (with the extra `heic`) HEIF file, or its
            content as `bytes`. What it is, its content says, not its name.
        image_size: None for the image's own size, or the size wanted, a number of pixels or
            `(height, width)`: the largest centred part with the wanted aspect ratio is cut out
            and resized (bilinear with antialiasing), so nothing is distorted.
        grey_range: None, or `(low, high)`: of images with greys of more than 8 bits the values that become 0 and 255;
            what lies outside is clipped. In a TIFF that says that its lowest value is white, `low` is white. Other
            images are as they are.
        channels: 3, or 1 for the luma of these.
        part: None for the largest centred part, or a function of an image's height and width that gives another one,
            `(top, left, height, width)` in pixels, as it is to be seen; the corners may lie between pixels. It is
            resized to `image_size`, whatever its proportions.

    Returns:
        uint8 array of shape [height, width, channels].

    Raises:
        ValueError: one line that names the file, for whatever is no readable image of at most 80 million pixels.

    Examples:
        >>> from PIL import Image
        >>> from nasnet_keras import read_image
        >>> Image.new("L", (40, 30)).save("scan.png")
        >>> read_image("scan.png").shape
        (30, 40, 3)
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: {channels!r}")
    image = read_pillow(source, image_size, grey_range, part)
    return np.array(image) if channels == 3 else np.array(image.convert("L"))[..., None]


def luma(images):
    """The one channel of RGB images, uint8 [n, height, width, 3], as `read_image` makes it: [n, height, width, 1]."""
    return np.stack([np.array(Image.fromarray(image).convert("L"))[..., None] for image in images])


def read_pillow(source, image_size=None, grey_range=None, part=None):
    """As `read_image`, as a Pillow image in RGB: what comes next may be Pillow's work as well."""
    size = None if image_size is None else as_size(image_size)
    grey_range = as_numbers(grey_range)
    check_range("grey_range", grey_range, optional=True)
    if part and size is None:
        raise ValueError("`part` needs an `image_size`. Received: None")
    with opened(source) as (image, orientation):
        turned = orientation >= 5
        whole = image.size[:: 1 if turned else -1]
        top, left, height, width = part(*whole) if part else (0, 0, *whole)
        if size and image.format in ("JPEG", "MPO"):
            image.decodermaxblock = BLOCK  # read at once, and not in pieces that are put together again
            ratio = jpeg_ratio(*((width, height) if turned else (height, width)), size[:: -1 if turned else 1])
            if ratio > 1:  # Pillow takes the size that it must not fall below, and divides with the rest cut off
                image.draft(None, (image.width // ratio, image.height // ratio))
        image = _rgb(image, grey_range)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        if part:  # of what the reduction has left
            down, across = image.height / whole[0], image.width / whole[1]
            box = (left * across, top * down, (left + width) * across, (top + height) * down)
            box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
            return image.resize(size[::-1], Image.Resampling.BILINEAR, box)
        return _fit(image, *size) if size else image


def read_size(source):
    """Height and width of an image as `read_image` returns it, from its header alone.

    Args:
        source: a path or the content as `bytes`.

    Returns:
        `(height, width)` in pixels.

    Raises:
        ValueError: as `read_image` does, except that broken pixel data goes unnoticed.
    """
    header = read_header(source)
    return header.height, header.width


def read_header(source, max_pixels=None):
    """The `Header` of an image; its pixels are not decoded.

    Args:
        source: a path or the content as `bytes`.
        max_pixels: greatest height × width that is taken; None for that of `read_image`.

    Raises:
        ValueError: as for `read_size`.
    """
    with opened(source, max_pixels) as (image, orientation):
        width, height = image.size if orientation < 5 else image.size[::-1]
        kind = "JPEG" if image.format == "MPO" else image.format
        return Header(kind, image.mode, height, width, _has_deep_colours(image))


def read_greys(source):
    """The values of an image with greys of more than 8 bits as they count without a range, [height, width]; else None.

    Raises:
        ValueError: as for `read_image`.
    """
    with opened(source) as (image, _):
        return _values(image) if is_deep(image) else None


def read_deep_colours(source):
    """What is kept of colours of more than 8 bits, uint8 [height, width, channels] without transparency; else None.

    Raises:
        ValueError: as for `read_image`.
    """
    with opened(source) as (image, _):
        if not _has_deep_colours(image):
            return None
        colours = [place for place, band in enumerate(image.getbands()) if band not in "Aa"]
        pixels = np.asarray(image)
        return pixels[..., colours]


def as_png(source, image_size=None, grey_range=None):
    """An image as a PNG file of the pixels that `read_image` gives, without loss, as bytes.

    Args:
        source, image_size, grey_range: as for `read_image`.

    Raises:
        ValueError: as for `read_image`.
    """
    buffer = io.BytesIO()
    read_pillow(source, image_size, grey_range).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def a_graph_decodes(content, header):
    """Whether `decoding`, in a graph, gives the pixels of a file as it is; `as_png` makes one of any other.

    A GIF is none, although it would: TensorFlow decodes every frame, each of a size of its own, to use the first.

    Args:
        content: the file as bytes.
        header: its `Header`.
    """
    if header.format == "JPEG":
        return header.mode != "CMYK" or _has_adobes_mark(content)
    return header.format == "PNG" and (header.mode != "RGB" or b"tRNS" not in content)


def _has_adobes_mark(content):
    """Whether a JPEG has Adobe's mark where a graph looks for it: in a segment of its own, before the first scan."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] in SEGMENTS:
        if content[place + 1] == 0xEE and content[place + 4 : place + 9] == b"Adobe":
            return True
        place += 2 + max(2, int.from_bytes(content[place + 2 : place + 4]))
    return False


def jpeg_ratio(height, width, size):
    """What the sides of a JPEG are divided by while it is decoded.

    The largest of 1, 2, 4 and 8 that leaves both sides twice as long as wanted, so that the resizing after it stays
    smooth.

    Args:
        height, width: as stored.
        size: the `(height, width)` wanted of the image as stored.
    """
    return max(
        ratio for ratio in RATIOS if ratio == 1 or (height >= 2 * ratio * size[0] and width >= 2 * ratio * size[1])
    )


def scale_greys(values, grey_range):
    """Greys of any kind as uint8: `low` of `(low, high)` becomes 0, `high` 255, what is no number 0."""
    low, high = grey_range
    share = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return np.rint(255 * np.nan_to_num(share)).astype(np.uint8)


def resize(image, size):
    """The largest centred part of a uint8 image [h, w, c] with the aspect of `size`, `(height, width)`, resized."""
    return by_pillow(image, lambda part: _fit(part, *size))


def by_pillow(image, change):
    """A uint8 image [h, w, c] that Pillow changes: as RGB, or channel by channel where it has other channels.

    Args:
        image: the array.
        change: function of a Pillow image that gives another one.
    """
    if image.shape[-1] == 3:
        return np.array(change(Image.fromarray(np.ascontiguousarray(image))))
    return np.stack([np.array(change(Image.fromarray(plane))) for plane in np.moveaxis(image, -1, 0).copy()], -1)


def as_size(image_size):
    """`image_size` as `(height, width)`: one number stands for a square. Raises `ValueError`."""
    size = as_integer(image_size)
    size = (size, size) if isinstance(size, int) else size
    valid = isinstance(size, tuple | list) and len(size) == 2
    size = [as_integer(side) for side in size] if valid else size
    if not valid or any(type(side) is not int or not 1 <= side <= LONGEST_SIDE for side in size):
        rule = f"a number of pixels or (height, width), from 1 to {LONGEST_SIDE}"
        raise ValueError(f"`image_size` must be {rule}. Received: {image_size!r}")
    return tuple(size)


def reason(source, error):
    """Why an image cannot be read, from the error of a function here: what stands after its name."""
    return str(error).removeprefix(f"cannot read the image {called(source)}: ")


def called(source):
    """What messages call an image: its path, or how many bytes it has."""
    if isinstance(source, bytes):
        return f"of {len(source)} bytes"
    label = os.fsdecode(source)
    return label if label.isprintable() else repr(label)


@contextlib.contextmanager
def opened(source, max_pixels=None):
    """A Pillow image of bearable size and its orientation. Any failure inside is a `ValueError` naming the source."""
    max_pixels = max_pixels or MAX_PIXELS
    if not isinstance(source, bytes | str | os.PathLike):
        raise ValueError(f"an image must be given as a path or as bytes. Received: {type(source).__name__}")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            image = _open(stream)
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            if image.format == "TIFF":
                _check_tiff(image)
            yield image, _orientation(image, stream)
    except Exception as error:  # decoders raise nearly anything on broken input
        raise ValueError(f"cannot read the image {called(source)}: {_reason(error, max_pixels)}") from None


def _open(stream):
    try:
        return Image.open(stream, formats=FORMATS)
    except Image.UnidentifiedImageError:
        stream.seek(0)
        if not HEIF.match(stream.read(12)):
            raise
        stream.seek(0)
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ValueError("it is a HEIF image, which needs a package: pip install nasnet_keras[heic]") from None
    return HeifImageFile(stream)


def _check_tiff(image):
    """Raise `ValueError` for what Pillow takes for something else than is meant."""
    kind, old, planes = (image.tag_v2.get(tag) for tag in (KIND, OLD_KIND, PLANES))
    if old == 2 or (isinstance(kind, int) and kind & 1):
        raise ValueError("its first image is only a preview (is it a camera's raw file?): develop it to JPEG or PNG")
    # Pillow would take the low and the high bytes of 16 bits for pixels in turn.
    deep = 8 < max(image.tag_v2.get(BITS, (1,))) < 32
    if planes == 2 and deep and image.info.get("compression") == "raw":
        raise ValueError("it has 16 bits and each colour for itself, not compressed: store it with interleaved colours")


def _reason(error, max_pixels):
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {max_pixels:,} pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return os.strerror(errno.ENOMEM)
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image, stream):
    """How the pixels of an opened image are stored, 1 to 8, of whatever file."""
    if image.format == "TIFF":
        image.info.pop("xmp", None)  # Pillow turns a TIFF when it is loaded, and would ask XMP where there is no tag
        return 1
    block = image.info.get("exif")
    if image.format in ("JPEG", "MPO"):  # all EXIF blocks in a row: the first counts
        if len(image.applist) > MAX_SEGMENTS:
            raise ValueError(f"it has more than {MAX_SEGMENTS:,} segments before its pixels")
        segments = (content for name, content in image.applist if name == "APP1")
        block = next((content for content in segments if content.startswith(b"Exif\0\0")), None)
    elif image.format == "PNG":
        block = _png_exif(stream)
    return exif_orientation(block) if isinstance(block, bytes) else 1


def _png_exif(stream):
    """The first EXIF block of a PNG, also behind the pixels, where Pillow would look only after decoding them."""
    place, block = stream.tell(), None
    stream.seek(8)
    for _ in range(MAX_CHUNKS):
        size, kind = struct.unpack(">I4s", stream.read(8).ljust(8, b"\0"))
        if kind == b"eXIf":
            block = stream.read(size)
        if kind in (b"eXIf", b"IEND", b"\0\0\0\0"):
            break
        stream.seek(size + 4, os.SEEK_CUR)
    stream.seek(place)
    return block


def is_deep(image):
    """Whether these are greys of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _has_deep_colours(image):
    """Whether an image that is not decoded yet has colours, or greys with transparency, of more than 8 bits."""
    if image.format not in ("PNG", "TIFF", "PPM") or is_deep(image) or not image.tile:
        return False
    decoder, _, _, how = image.tile[0]
    if decoder in ("ppm", "ppm_plain"):
        return isinstance(how, tuple) and how[1] > 255
    return ";16" in (how if isinstance(how, str) else how[0])


def of_pillow(image, grey_range=None):
    """A Pillow image as `read_image` gives its file: upright, over white, uint8 [height, width, 3]."""
    block = image.info.get("exif")
    orientation = exif_orientation(block) if isinstance(block, bytes) else 1
    image = _rgb(image, grey_range)
    return np.asarray(image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image)


def _rgb(image, grey_range):
    """Any mode to RGB of 8 bits."""
    if is_deep(image):
        return Image.fromarray(_eight_bits(image, grey_range)).convert("RGB")
    if image.mode == "CMYK":
        # Light that inks let through, cut off as TensorFlow does it.
        *inks, black = map(ImageChops.invert, image.split())
        return Image.merge("RGB", [ImageChops.multiply(ink, black) for ink in inks])
    if image.has_transparency_data:
        stored = image.tile[0][3] if image.format == "PNG" and image.tile else None
        if "transparency" in image.info and stored in _KEYS:  # Pillow compares it as it stands with scaled pixels
            image.info["transparency"] = _KEYS[stored](image.info["transparency"])
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "RGB":
        image.load()  # `convert` would copy it
        return image
    return image.convert("RGB")


# A transparent colour as PNG stores it, in 8 bits: of greys of 2 and 4 bits, and of colours of 16.
_KEYS = {
    "L;2": lambda grey: 85 * grey,
    "L;4": lambda grey: 17 * grey,
    "RGB;16B": lambda colour: tuple(part >> 8 for part in colour),
}


def _values(image, as_stored=False):
    """Greys of more than 8 bits: those that have 16 and a range are uint16.

    Pillow scales those of a PGM by the greatest that it may have, which it says itself, to 16 bits; `as_stored` they
    are as they stand in the file, as those of other files always are.
    """
    scaled = image.format == "PPM" and image.mode == "I"
    if scaled and image.tile:  # which is gone once it is loaded; the notes stay
        how = image.tile[0].args
        image.info[GREATEST] = how[-1] if isinstance(how, tuple) else 65535
    values = np.asarray(image)
    if scaled and as_stored:
        if GREATEST not in image.info:
            advice = "give its file, or open it anew"
            raise ValueError(f"it is a PGM that was loaded before, where no `grey_range` applies: {advice}")
        values = np.rint(values * (image.info[GREATEST] / 65535))
    return values.astype(np.uint16) if scaled or values.dtype.kind == "u" else values


def _eight_bits(image, grey_range):
    """Greys of more than 8 bits as uint8 [height, width]; a transparent one is white."""
    values = _values(image, as_stored=grey_range is not None)
    if grey_range is not None:
        greys = scale_greys(values, grey_range)
    elif values.dtype == np.uint16:
        greys = (values >> 8).astype(np.uint8)
    else:
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        advice = "give `grey_range`, on the command line --grey-range LOW:HIGH where the model is trained"
        raise ValueError(f"its {kind} greys have no agreed range: {advice}")
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0:
        greys = 255 - greys  # 0 is white: Pillow turns only those of 8 bits
    if "transparency" in image.info:
        greys[values == image.info["transparency"]] = 255
    return greys


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
    """Whole images uint8 [n, h, w, c] in another `(height, width)`; where they shrink, pixels are averaged."""
    height, width = size
    if images.shape[1:3] == (height, width):
        return images
    return np.stack(
        [by_pillow(image, lambda part: part.resize((width, height), Image.Resampling.BILINEAR)) for image in images]
    )
