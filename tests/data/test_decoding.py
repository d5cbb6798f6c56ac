"""The graph that decodes files: the same notes, the same pixels, and what it refuses."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from images_of_all_kinds import noise
from PIL import Image
from pixels import drawn, exif, png, png_chunk, tiff, write
from test_images import blocks

from nasnet_keras.data import decoding, images
from nasnet_keras.data.decoding import decode

TEXT = tf.TensorSpec((), tf.string)
oriented = tf.function(decoding.exif_orientation, input_signature=[TEXT])
jpeg_notes = tf.function(decoding._jpeg_notes, input_signature=[TEXT])


def graph(size, **options):
    """A function from a file to pixels."""
    decoded = tf.function(lambda content: decode(content, size, **options), input_signature=[TEXT])
    return lambda content: decoded(tf.constant(content)).numpy()


def same(found, expected):
    """Equal, but for halves that are rounded, of which small images have many."""
    assert found.dtype == np.uint8 and found.shape == expected.shape
    apart = np.abs(found.astype(int) - expected)
    assert apart.max(initial=0) <= 2 and apart.mean() < 0.25


@given(st.one_of(blocks(), st.binary(max_size=60), st.binary(max_size=40).map(lambda end: b"II*\0\x08\0\0\0" + end)))
@settings(max_examples=300, deadline=None)
def test_orientations_are_the_same(block):
    assert int(oriented(tf.constant(block))) == images.exif_orientation(block)


JPEG = write(drawn(1, (24, 16))[0], "JPEG")
SEGMENT = st.one_of(
    blocks().map(lambda block: b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block),
    st.binary(max_size=30).map(lambda text: b"\xff\xe1" + struct.pack(">H", len(text) + 2) + text),
    st.just(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"),
    st.binary(max_size=9).map(lambda text: b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text),
    st.sampled_from([b"\xff", b"\xff\xff", b"\xff\0", b"xyz", b"\0" * 2000, b"\xff\xd0", b"\xff\1", b""]),
)


@given(st.lists(SEGMENT, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_segments_of_a_jpeg_are_walked_as_pillow_does(segments):
    content = JPEG[:2] + b"".join(segments) + JPEG[2:]
    try:
        with images.opened(content) as (image, orientation):
            expected = orientation, "adobe" in image.info
    except ValueError:  # Pillow takes none of the marks that have no segment
        return
    found, adobe = jpeg_notes(tf.constant(content))
    assert (int(found), bool(adobe)) == expected


def test_notes_of_a_png_wherever_they_stand(rng):
    pixels = noise(rng, 6, 9)
    decoded = graph((6, 9))
    note = (b"eXIf", exif(3).tobytes()[6:])
    text = (b"tEXt", b"about\0eXIf and tRNS")
    for chunks, behind in (((), ()), ((text,), (note,)), ((note, text), ()), ((text,), (text,)), ((), (note, note))):
        content = png(pixels, 2, chunks=chunks, behind=behind)
        np.testing.assert_array_equal(decoded(content), images.read_image(content, (6, 9)))
    many = [(b"IDAT", zlib.compress(b"")[:0])] * 40  # empty parts of the pixels
    content = png(pixels, 2, behind=(*many, note))
    np.testing.assert_array_equal(decoded(content), pixels[::-1, ::-1])


def test_the_header_of_a_png_is_read_behind_other_chunks(rng):
    greys = png(rng.integers(0, 1 << 16, (6, 9, 1), np.uint16), 0)
    clear = png(rng.integers(0, 256, (6, 9, 4), np.uint8), 6)
    for content, options in ((greys, {"grey_range": (0, 9000)}), (clear, {})):
        content = content[:8] + png_chunk(b"abCd", bytes(20)) + content[8:]
        found = graph((6, 9), **options)(content)
        np.testing.assert_array_equal(found, images.read_image(content, (6, 9), **options))


@pytest.mark.parametrize("size", [(7, 5), (40, 40), (1, 3)])
def test_parts_and_sizes(size):
    decoded = graph(size)
    for width, height in ((24, 16), (16, 24), (1, 30), (97, 3), (64, 64)):
        image = drawn(1, (width, height))[0]
        for orientation in (1, 6):
            content = write(image, "PNG", exif=exif(orientation))
            same(decoded(content), images.read_image(content, size))


def test_large_jpegs_are_reduced_alike():
    for size, sides in ((10, (170, 160)), ((4, 20), (333, 335))):
        decoded = graph(size)
        for orientation in (1, 6):
            for subsampling in (0, 2):
                content = write(drawn(1, sides)[0], "JPEG", exif=exif(orientation), subsampling=subsampling)
                same(decoded(content), images.read_image(content, size))


def test_one_channel():
    decoded = graph(16, channels=1)
    for content in (write(drawn(1)[0], "PNG"), write(drawn(1)[0].convert("L"), "JPEG")):
        same(decoded(content), images.read_image(content, 16, channels=1))


def gif(**options):
    return write(drawn(1, (20, 12))[0].quantize(16), "GIF", **options)


def test_what_is_refused_says_what_it_is_and_what_to_do(rng):
    decoded = graph((8, 8))
    picture = drawn(1, (20, 12))[0]
    cmyk = write(picture.convert("CMYK"), "JPEG")
    place = cmyk.index(b"\xff\xee")
    unmarked = cmyk[:place] + cmyk[place + 2 + struct.unpack_from(">H", cmyk, place + 2)[0] :]
    keyed = png(noise(rng).astype(np.uint16) * 257, 2, chunks=((b"tRNS", bytes(6)),))
    segments = JPEG[:2] + b"\xff\xfe\0\2" * (images.MAX_SEGMENTS + 1) + JPEG[2:]
    for content, words in (
        (write(picture, "WEBP"), "a WebP image"),
        (write(picture, "TIFF"), "a TIFF image"),
        (tiff(np.zeros((2, 2), np.uint8), ">"), "a TIFF image"),
        (write(picture, "AVIF"), "an AVIF image"),
        (b"\0\0\0\x18ftypheic" + bytes(9), "a HEIF image"),
        (write(picture, "PPM"), "a PPM image"),
        (write(picture.quantize(9), "BMP"), "a BMP of another kind than 24 bits"),
        (write(picture.convert("RGBA"), "BMP"), "a BMP of another kind than 24 bits"),
        (
            b"BM" + struct.pack("<IIIIHHHH", 746, 0, 26, 12, 20, 12, 1, 24) + bytes(720),
            "a BMP of another kind than 24 bits",
        ),
        (gif(transparency=3), "a GIF with transparent or free pixels"),
        (gif()[:6] + b"\xff" + gif()[7:], "a GIF with transparent or free pixels"),
        (unmarked, "a JPEG in CMYK without a mark of Adobe"),
        (keyed, "a PNG of 16 bits with a transparent colour"),
        (b"words", "no image of a known kind"),
        (b"", "no image of a known kind"),
        (b"BM", "a BMP of another kind than 24 bits"),
        (b"GIF8", "a GIF with transparent or free pixels"),
    ):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=f"{words}.*send it as PNG or JPEG.*nasnet-keras serve"
        ):
            decoded(content)
    for content, words in (
        (segments, "a JPEG with more than 2000 segments"),
        (JPEG[:200], "Invalid JPEG"),
        (b"\xff\xd8\xff", "Invalid JPEG"),
        (b"\x89PNG\r\n\x1a\n", "Invalid PNG"),
        (JPEG[: len(JPEG) // 2], "Invalid JPEG"),
        (png(noise(rng), 2)[:-90], "Invalid PNG"),
        (gif()[:-40], "Invalid GIF"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            decoded(content)
        with pytest.raises(ValueError, match="cannot read the image"):
            images.read_image(content)


def announced(kind, height, width):
    """A small file whose header says that it has these sides."""
    picture = drawn(1, (20, 12))[0]
    content = bytearray(gif() if kind == "GIF" else write(picture, kind))
    if kind == "JPEG":
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    elif kind == "GIF":
        for place in (6, content.index(b",\0\0\0\0") + 5):
            struct.pack_into("<HH", content, place, width, height)
    elif kind == "BMP":
        struct.pack_into("<ii", content, 18, width, height)
    else:
        head = png_chunk(b"IHDR", struct.pack(">II", width, height) + content[24:29])
        before = png_chunk(b"abCd", bytes(20)) if kind == "PNG" and height == 9000 else b""
        content = content[:8] + before + head + content[33:]
    return bytes(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_what_announces_too_many_pixels_is_refused_before_it_is_decoded(kind):
    decoded = graph(8)
    sides = [(9000, 8889), (65000, 65000), *[(-9000, 8889)] * (kind == "BMP")]
    for content in (announced(kind, *one) for one in sides):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"a {kind} of more than 80,000,000 pixels"):
            decoded(content)
        with pytest.raises(ValueError, match="it has more than 80,000,000 pixels"):
            images.read_image(content)


def test_the_first_header_of_a_png_counts():
    """As for the decoder, which makes room by it before it comes to the next one."""
    large, small = (struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0) for sides in ((9000, 8889), (1, 1)))
    parts = ((b"IHDR", large), (b"IDAT", zlib.compress(b"")), (b"IHDR", small), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts) + b"eXIf"
    with pytest.raises(tf.errors.InvalidArgumentError, match="a PNG of more than 80,000,000 pixels"):
        graph(8)(content)


def test_a_gif_is_decoded_where_it_is_plain():
    decoded = graph((12, 20))
    extended = gif(comment=b"some words " * 60, loop=3, save_all=True, append_images=[Image.new("RGB", (20, 12))])
    for content in (gif(), extended):
        np.testing.assert_array_equal(decoded(content), images.read_image(content))


def second(width, height):
    """A GIF of 20 by 12 whose second frame says that it has these sides."""
    frame = gif()[gif().index(b",\0\0\0\0") :]
    return gif()[:-1] + frame[:5] + struct.pack("<HH", width, height) + frame[9:]


def test_frames_behind_the_first_of_a_gif_are_left_alone():
    """What they announce takes no room: a decoder gives all frames the sides of the largest."""
    decoded = graph((12, 20))
    for sides in ((20, 12), (30, 8), (65535, 65535)):
        np.testing.assert_array_equal(decoded(second(*sides)), images.read_image(gif()))


def parts(rest, sizes):
    """The pixels of a GIF in parts of these sizes, again and again."""
    pixels = bytearray()
    while rest[0]:
        pixels += rest[1 : 1 + rest[0]]
        rest = rest[1 + rest[0] :]
    found, place = b"", 0
    while place < len(pixels):
        for size in sizes:
            part = pixels[place : place + size]
            found, place = found + bytes([len(part)]) * bool(part) + part, place + size
    return found + rest


def test_the_first_frame_of_a_gif_ends_where_its_pixels_do(rng):
    """Whatever the sizes of their parts, and with a table of colours of its own or not."""
    content = write(Image.fromarray(noise(rng, 70, 90)).quantize(256), "GIF")
    decoded, expected = graph((70, 90)), images.read_image(content)
    place, table = content.index(b",\0\0\0\0"), content[13 : 13 + 768]
    head, frame, rest = content[:place], content[place : place + 10], content[place + 10 :]
    own = head[:10] + b"\x70" + head[11:13] + head[13 + 768 :] + frame[:9] + bytes([frame[9] | 0x87]) + table
    for start in (head + frame, own):
        for sizes in ((255,), (254,), (1,), (1, 2, 200, 7)):
            plain = start + rest[:1] + parts(rest[1:], sizes)
            for found in (plain, plain[:-1], plain[:-1] + second(4000, 3000)[gif().index(b",\0\0\0\0") :]):
                np.testing.assert_array_equal(decoded(found), expected)
            for cut in (len(plain) - 20, len(plain) // 2):
                with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid GIF"):
                    decoded(plain[:cut])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"channels": 4}, "`channels`"), ({"grey_range": (2, 1)}, "`grey_range`"), ({"size": 0}, "`image_size`")],
)
def test_bad_arguments(wrong, words):
    with pytest.raises(ValueError, match=words):
        decode(tf.constant(JPEG), **{"size": 8, **wrong})


def test_chunks_are_chunks():
    """The writer of the tests writes what others read."""
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert png_chunk(b"IEND", b"")[-4:] == struct.pack(">I", zlib.crc32(b"IEND"))
    np.testing.assert_array_equal(tf.io.decode_png(png(pixels, 2, interlaced=True)), pixels)
