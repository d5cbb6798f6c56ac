"""What an image file means, in TensorFlow's words: `images.read_image` as a graph, for SavedModels and pipelines.

The rules are those of `images`, and the pixels too: the same reduction of large JPEGs with the accurate transform, the
same orientation, the same part, the same rounding. What TensorFlow would decode to something else, or not at all, is
refused with what to do: nothing is silently different.
"""

from functools import partial

import numpy as np
import tensorflow as tf

from nasnet_keras.checks import as_numbers, check_range
from nasnet_keras.data.exif import LONG, ORIENTATION, SHORT
from nasnet_keras.data.images import MAX_CHUNKS, MAX_PIXELS, MAX_SEGMENTS, RATIOS, as_size, scale_greys

ADVICE = "send it as PNG or JPEG, or to `nasnet-keras serve`, which re-codes it"
# First bytes, their place, and what begins with them: kinds that are known, to say what was sent.
UNSUPPORTED = (
    (8, b"WEBP", "a WebP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyp", "a HEIF"),
    *((0, b"P%d" % number, "a PPM") for number in range(1, 7)),
)
MAX_BLOCKS = 10_000  # of a GIF before its first frame
HALF = 0.501  # halves are rounded up, as Pillow does, also where floating point left a little less of them
WINDOW = 1024  # bytes of a JPEG that are searched for a marker at a time
STRETCH = 4096  # bytes of a GIF's pixels, a power of 2, of which the parts are found at a time


def decode(content, size, channels=3, grey_range=None):
    """One encoded image as the pixels that `images.read_image` gives.

    JPEG, PNG, GIF (an opaque first frame that fills the canvas) and BMP (of 24 bits) are decoded. Others, and what of
    these TensorFlow takes for something else, fail with `InvalidArgumentError` and a line that says what it was.

    Args:
        content: a string tensor, scalar.
        size: the `(height, width)` wanted, or one number.
        channels: 3, or 1 for their luma.
        grey_range: as for `images.read_image`.

    Returns:
        uint8 tensor [height, width, channels].

    Raises:
        ValueError: naming the argument at fault.
    """
    size = as_size(size)
    grey_range = as_numbers(grey_range)
    check_range("grey_range", grey_range, optional=True)
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: {channels!r}")
    kinds = {
        b"\xff\xd8\xff": partial(_jpeg, content, size),
        b"\x89PNG\r\n\x1a\n": partial(_png, content, grey_range),
        b"GIF8": partial(_gif, content),
        b"BM": partial(_bmp, content),
    }
    known = [_text(content, 0, len(magic)) == magic for magic in kinds]
    kind = tf.argmax(tf.cast([*known, True], tf.int32), output_type=tf.int32)
    image = tf.switch_case(kind, [*kinds.values(), partial(_unknown, content)])
    image = tf.ensure_shape(_fitted(image, *size), (*size, 3))
    return image if channels == 3 else _luma(image)


def exif_orientation(block):
    """`images.exif_orientation` of a string tensor, an int32 scalar."""
    for _ in range(2):
        block = tf.strings.substr(block, 6 * tf.cast(_text(block, 0, 6) == b"Exif\0\0", tf.int32), 1 << 30)
    little = _text(block, 0, 4) == b"II*\0"
    valid = (little | (_text(block, 0, 4) == b"MM\0*")) & (tf.strings.length(block) >= 8)

    def number(parts):
        """The number that the last axis spells."""
        places = 256 ** np.arange(parts.shape[-1], dtype=np.int64)
        return tf.reduce_sum(parts * tf.where(little, places, places[::-1]), -1)

    def found():
        values = tf.cast(tf.io.decode_raw(tf.strings.join([block, b"\0\0"]), tf.uint8), tf.int64)
        length = tf.strings.length(block, unit="BYTE")
        start = tf.cast(tf.minimum(number(tf.ensure_shape(values[4:8], (4,))), tf.cast(length, tf.int64)), tf.int32)
        announced = tf.cast(number(tf.ensure_shape(values[start : start + 2], (2,))), tf.int32)
        count = tf.minimum(announced, tf.maximum(0, length - start - 2) // 12)
        entries = tf.reshape(values[start + 2 : start + 2 + 12 * count], (-1, 12))
        tags, kinds = number(entries[:, :2]), number(entries[:, 2:4])
        short = kinds == SHORT
        right = (tags == ORIENTATION) & (short | (kinds == LONG)) & (number(entries[:, 4:8]) == 1)
        orientations = tf.where(short, number(entries[:, 8:10]), number(entries[:, 8:12]))[right]
        first = tf.concat([orientations, [1]], 0)[0]
        return tf.cast(tf.where((first >= 1) & (first <= 8), first, 1), tf.int32)

    return tf.cond(valid, found, lambda: tf.constant(1))


def _jpeg(content, size):
    shape = tf.image.extract_jpeg_shape(content)
    content = _bearable(content, "JPEG", shape[0], shape[1])
    orientation, adobe = _jpeg_notes(content)
    inks = (shape[2] != 4) | adobe
    content = _checked(content, inks, f"a JPEG in CMYK without a mark of Adobe, whose inks are ambiguous: {ADVICE}")
    wanted = tf.where(orientation < 5, size, size[::-1])
    fitting = [tf.reduce_all(shape[:2] >= 2 * ratio * wanted) for ratio in RATIOS[1:]]
    settings = {"channels": 3, "dct_method": "INTEGER_ACCURATE", "fancy_upscaling": True}
    decoders = [partial(tf.io.decode_jpeg, content, ratio=ratio, **settings) for ratio in RATIOS]
    return _upright(tf.switch_case(tf.reduce_sum(tf.cast(fitting, tf.int32)), decoders), orientation)


def _jpeg_notes(content):
    """What stands before the first scan: the orientation, and whether Adobe's mark is there."""
    length = tf.strings.length(content)

    def step(place, count, start, size, adobe):
        window = tf.cast(tf.io.decode_raw(_text(content, place, WINDOW), tf.uint8), tf.int32)
        # A marker is 255 and anything but 0 and 255; what stands between segments is skipped, as decoders do.
        marks = (window[:-1] == 255) & (window[1:] != 0) & (window[1:] != 255)
        skipped = tf.argmax(tf.concat([marks, [True]], 0), output_type=tf.int32)
        marker, longer = window[1], tf.maximum(2, 256 * window[2] + window[3])
        bare = (
            ((marker >= 0xD0) & (marker <= 0xD9))
            | (marker == 1)
            | (marker == 0xC8)
            | (marker >= 0xF0) & (marker < 0xFE)
        )
        behind = tf.where(marker == 0xDA, length, place + 2 + tf.where(bare, 0, longer))
        here = skipped == 0
        exif = here & (start < 0) & (marker == 0xE1) & (longer >= 8) & (_text(content, place + 4, 6) == b"Exif\0\0")
        return (
            tf.where(here, behind, place + skipped),
            count + 1,
            tf.where(exif, place + 4, start),
            tf.where(exif, longer - 2, size),
            adobe | (here & (marker == 0xEE) & (_text(content, place + 4, 5) == b"Adobe")),
        )

    def goes_on(place, count, *_):
        return (place + 4 <= length) & (count <= MAX_SEGMENTS)

    _, count, start, size, adobe = tf.while_loop(goes_on, step, (2, 0, -1, 0, False), parallel_iterations=1)
    content = _checked(
        content, count <= MAX_SEGMENTS, f"a JPEG with more than {MAX_SEGMENTS} segments before its pixels"
    )
    return exif_orientation(_text(content, tf.maximum(start, 0), size)), adobe


def _png(content, grey_range):
    orientation, keyed, head = _png_notes(content)
    content = _bearable(content, "PNG", _integer(head), _integer(_text(head, 4, 4)))
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.join([_text(head, 8, 2), b"\0\0"]), tf.uint8)[:2], 2)
    exact = (depth != 16) | (colour != 2) | ~keyed
    content = _checked(content, exact, f"a PNG of 16 bits with a transparent colour: {ADVICE}")
    deep = (depth == 16) & (colour == 0)

    def opaque():
        return tf.io.decode_png(content, channels=3)

    def transparent():
        return _over_white(tf.io.decode_png(content, channels=4))

    def greys():
        values = tf.io.decode_png(content, channels=4, dtype=tf.uint16)
        table = tf.constant(scale_greys(np.arange(1 << 16), grey_range))
        scaled = tf.gather(table, tf.cast(values[..., 0], tf.int32))
        return tf.repeat(tf.where(values[..., 3] == 0, tf.constant(255, tf.uint8), scaled)[..., None], 3, -1)

    eight = partial(tf.cond, keyed | (colour >= 4), transparent, opaque)
    return _upright(eight() if grey_range is None else tf.cond(deep, greys, eight), orientation)


def _png_notes(content):
    """The orientation, wherever its chunk stands, whether there is a transparent colour or palette, and its header.

    The header as its first ten bytes, of sides, depth and colour: a decoder takes the first one, which it finds behind
    chunks that it does not know, too.
    """
    length = tf.strings.length(content)
    last = tf.cast(length, tf.int64)
    # Notes may follow the pixels, which may be thousands of chunks: those are gone through only where it pays.
    noted = tf.strings.regex_full_match(content, r"\C*eXIf\C*")

    def step(place, count, start, size, keyed, head):
        kind, announced = _text(content, place + 4, 4), _integer(_text(content, place, 4))
        exif = (start < 0) & (kind == b"eXIf")
        start, size = tf.where(exif, place + 8, start), tf.where(exif, announced, size)
        done = (kind == b"IEND") | ((kind == b"IDAT") & (~noted | (start >= 0)))
        behind = tf.where(done, last, place + 12 + announced)
        head = tf.where((head < 0) & (kind == b"IHDR"), place + 8, head)
        return behind, count + 1, start, size, keyed | (kind == b"tRNS"), head

    def goes_on(place, count, *_):
        return (place + 8 <= last) & (count <= MAX_CHUNKS)

    zero = tf.constant(0, tf.int64)
    begin = (zero + 8, 0, zero - 1, zero, False, zero - 1)
    _, count, start, size, keyed, head = tf.while_loop(goes_on, step, begin, parallel_iterations=1)
    content = _checked(content, count <= MAX_CHUNKS, f"a PNG of more than {MAX_CHUNKS} chunks")
    head = _text(content, tf.where(head < 0, last, head), 10)
    return exif_orientation(_text(content, tf.maximum(start, 0), size)), keyed, head


def _gif(content):
    """The first frame, if nothing of it is transparent and nothing of the canvas free."""
    length = tf.strings.length(content)
    head = tf.cast(tf.io.decode_raw(tf.strings.join([_text(content, 0, 13), b"\0" * 13]), tf.uint8), tf.int32)
    content = _bearable(content, "GIF", head[8] + 256 * head[9], head[6] + 256 * head[7])
    palette = tf.where(head[10] >= 128, 3 * tf.bitwise.left_shift(2, head[10] % 8), 0)

    def step(place, count, inside, transparent, frame):
        block = tf.cast(tf.io.decode_raw(tf.strings.join([_text(content, place, 4), b"\0" * 4]), tf.uint8), tf.int32)
        extension, image = ~inside & (block[0] == 0x21), ~inside & (block[0] == 0x2C)
        transparent |= extension & (block[1] == 0xF9) & (block[3] % 2 == 1)
        ahead = tf.where(inside, 1 + block[0], tf.where(extension, 2, length))
        inside = extension | (inside & (block[0] != 0))
        return place + ahead, count + 1, inside, transparent, tf.where(image, place, frame)

    def goes_on(place, count, *_):
        return (place < length) & (count <= MAX_BLOCKS)

    begin = (13 + palette, 0, False, False, -1)
    _, _, _, transparent, frame = tf.while_loop(goes_on, step, begin, parallel_iterations=1)
    place = tf.strings.join([b"\0\0\0\0", _text(content, 6, 4)])
    full = (frame >= 0) & (_text(content, frame + 1, 8) == place)
    content = _checked(content, full & ~transparent, f"a GIF with transparent or free pixels: {ADVICE}")
    return tf.ensure_shape(tf.io.decode_gif(_first_frame(content, frame))[0], (None, None, 3))


def _first_frame(content, frame):
    """A GIF without what follows its first frame, which begins at a place: a decoder makes room for all frames."""
    length = tf.strings.length(content)
    table = tf.cast(tf.io.decode_raw(tf.strings.join([_text(content, frame + 9, 1), b"\0"]), tf.uint8)[0], tf.int32)
    palette = tf.where(table >= 128, 3 * tf.bitwise.left_shift(2, table % 8), 0)

    def step(place):
        sizes = tf.cast(tf.io.decode_raw(_text(content, place, STRETCH), tf.uint8), tf.int32)
        # From every byte to where the part behind it would begin; each doubling goes over twice as many parts.
        ahead = tf.range(tf.size(sizes) + 256) + tf.pad(tf.where(sizes > 0, sizes + 1, 0), [[0, 256]])
        for _ in range(STRETCH.bit_length() - 1):
            ahead = tf.gather(ahead, ahead)
        return (place + ahead[0],)

    def goes_on(place):
        return (place < length) & (_text(content, place, 1) != b"\0")

    (end,) = tf.while_loop(goes_on, step, (frame + 11 + palette,), parallel_iterations=1)
    # An end is put only behind a frame that is whole, lest it be taken for the last of its pixels.
    return tf.where(end < length, tf.strings.join([_text(content, 0, end + 1), b";"]), content)


def _bmp(content):
    head = tf.cast(tf.io.decode_raw(tf.strings.join([_text(content, 14, 20), b"\0" * 20]), tf.uint8), tf.int32)
    sides = tf.bitcast(tf.cast(tf.reshape(head[4:12], (2, 4)), tf.uint8), tf.int32)
    # The kind first: one with an older header has its sides elsewhere.
    plain = (head[0] >= 40) & (head[14] == 24) & tf.reduce_all(head[15:20] == 0)  # bits, and no compression
    content = _checked(content, plain, f"a BMP of another kind than 24 bits: {ADVICE}")
    # A height below 0 is of rows from above.
    return tf.io.decode_bmp(_bearable(content, "BMP", sides[1], sides[0]), channels=3)


def _unknown(content):
    what = tf.constant("no image of a known kind")
    for place, magic, name in reversed(UNSUPPORTED):
        what = tf.where(_text(content, place, len(magic)) == magic, f"{name} image", what)
    content = _checked(content, False, tf.strings.join([what, f": {ADVICE}"]))
    return tf.io.decode_png(content, channels=3)


def _bearable(content, kind, height, width):
    """The content, once its header announces no more pixels than `images.read_image` takes."""
    height, width = (tf.abs(tf.cast(side, tf.int64)) for side in (height, width))
    return _checked(content, height * width <= MAX_PIXELS, f"a {kind} of more than {MAX_PIXELS:,} pixels")


def _checked(content, right, message):
    """The content, once it is known to be what is decoded as it is meant."""
    with tf.control_dependencies([tf.debugging.Assert(right, [message], summarize=1)]):
        return tf.identity(content)


def _text(content, place, size):
    """At most `size` bytes from a place on, none where there are none."""
    kind = place.dtype if isinstance(place, tf.Tensor) else tf.int32
    length = tf.cast(tf.strings.length(content), kind)
    return tf.strings.substr(content, tf.clip_by_value(tf.cast(place, kind), 0, length), tf.cast(size, kind))


def _integer(text):
    """An unsigned number of 32 bits, the high byte first, as int64."""
    parts = tf.cast(tf.io.decode_raw(tf.strings.join([text, b"\0\0\0\0"]), tf.uint8)[:4], tf.int64)
    return tf.reduce_sum(parts * [1 << 24, 1 << 16, 1 << 8, 1])


def _upright(image, orientation):
    """Pixels [height, width, 3] as they are to be seen."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    for axis, turned in ((0, (3, 4, 7, 8)), (1, (2, 3, 6, 7))):
        reverse = partial(tf.reverse, image, [axis])
        image = tf.cond(tf.reduce_any(orientation == turned), reverse, partial(tf.identity, image))
    return image


def _over_white(image):
    """Pixels [height, width, 4] composited over white, rounded as Pillow does."""
    colours, alpha = tf.cast(image[..., :3], tf.uint16), tf.cast(image[..., 3:], tf.uint16)
    mixed = colours * alpha + 255 * (255 - alpha) + 128  # of 255², and a half
    return tf.cast(
        tf.bitwise.right_shift(
            mixed + tf.bitwise.right_shift(mixed, tf.constant(8, tf.uint16)), tf.constant(8, tf.uint16)
        ),
        tf.uint8,
    )


def _fitted(image, height, width):
    """The largest centred part of the wanted aspect ratio, resized as Pillow does: in rows, then in columns."""
    found = tf.shape(image)[:2]
    rows, columns = tf.unstack(tf.cast(found, tf.float64))
    part = tf.cast(tf.round([columns * height / width, rows * width / height]), tf.int32)
    part = tf.minimum(found, tf.maximum(1, part))
    top, left = tf.unstack((found - part) // 2)
    image = image[top : top + part[0], left : left + part[1]]
    for size in ((part[0], width), (height, width)):
        image = tf.floor(tf.image.resize(image, size, antialias=True) + HALF)
    return tf.cast(image, tf.uint8)


def _luma(image):
    """Pixels [height, width, 3] as one channel, as Pillow weighs them."""
    weighed = tf.reduce_sum(tf.cast(image, tf.int32) * [19595, 38470, 7471], -1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighed + (1 << 15), 16), tf.uint8)
