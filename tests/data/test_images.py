"""What an image file means: orientation, transparency, greys of more than 8 bits, the reduction of large JPEGs."""

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_of_all_kinds import announce
from PIL import Image, ImageOps
from pixels import alpha, colours, deep, drawn, exif, inks, png, png_chunk, tiff, write

from nasnet_keras.data.greys import grey_note
from nasnet_keras.data.images import (
    RATIOS,
    Header,
    as_png,
    exif_orientation,
    jpeg_ratio,
    of_pillow,
    read_header,
    read_image,
    read_size,
    scale_greys,
)
from nasnet_keras.data.loading import open_data

WHITE = [255, 255, 255]


@pytest.fixture
def photograph():
    return drawn(1, (24, 16))[0]


def turned(pixels, orientation):
    """Pixels as they are to be seen, by the definition of the eight orientations."""
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}[
        orientation
    ]
    pixels = pixels[::rows, ::columns]
    return pixels.swapaxes(0, 1) if orientation > 4 else pixels


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF LZW", "AVIF"])
def test_every_format_is_turned_once(kind, orientation, photograph):
    pixels = np.asarray(photograph)
    if kind == "TIFF":  # Pillow turns it by itself
        content = tiff(pixels, photometric=2, orientation=orientation)
    elif kind == "TIFF LZW":
        tags = {0x112: orientation}
        content = write(photograph, "TIFF", compression="tiff_lzw", tiffinfo=tags)
    else:
        options = (
            {} if kind == "PNG" else {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": "4:4:4"}
        )
        content = write(photograph, kind, exif=exif(orientation), **options)
    found = read_image(content)
    expected = turned(pixels, orientation)
    assert found.shape == expected.shape and read_size(content) == expected.shape[:2]
    assert np.abs(found.astype(int) - expected).mean() < (4 if kind == "AVIF" else 1e-9)


def test_only_the_first_exif_block_counts_and_no_xmp(photograph):
    xmp = b'<rdf tiff:Orientation="6"/>'
    content = write(photograph, "JPEG", exif=exif(3))
    block = b"Exif\0\0" + exif(6).tobytes()
    second = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    behind = content.index(b"\xff\xdb")  # after the first block
    for other in (content[:behind] + second + content[behind:], content):
        np.testing.assert_array_equal(
            read_image(other), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        )
    plain = np.asarray(photograph)
    assert read_image(write(photograph, "JPEG", xmp=xmp)).shape == plain.shape
    tagged = write(photograph, "TIFF", tiffinfo={700: xmp})
    assert Image.open(io.BytesIO(tagged)).getexif()[0x112] == 6  # which Pillow would go by
    np.testing.assert_array_equal(read_image(tagged), plain)
    assert read_size(tagged) == plain.shape[:2]


def test_a_png_is_turned_also_by_a_note_behind_its_pixels(photograph):
    pixels = np.asarray(photograph)
    note = (b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    other = (b"eXIf", exif(3).tobytes().removeprefix(b"Exif\0\0"))
    for content in (png(pixels, 2, chunks=(note,)), png(pixels, 2, behind=(note, other))):
        np.testing.assert_array_equal(read_image(content), turned(pixels, 6))
        assert read_size(content) == (24, 16)
    assert read_size(png(pixels, 2, behind=((b"eXIf", b"MM"),))) == (16, 24)


ENTRY = st.tuples(
    st.sampled_from([0x112, 0x10F, 0x111]), st.sampled_from([1, 3, 4, 9]), st.integers(0, 2), st.integers(0, 9)
)


@st.composite
def blocks(draw):
    """EXIF blocks: right ones, and ones that are broken in some place."""
    order = draw(st.sampled_from("<>"))
    gap = draw(st.integers(0, 6))
    start = draw(st.sampled_from([8 + gap, 8 + gap, 0, 4, 300, 2**32 - 1]))
    entries = draw(st.lists(ENTRY, max_size=4))
    count = draw(st.sampled_from([len(entries), len(entries), 0, len(entries) + 3, 65535]))
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start) + bytes(gap)
    block += struct.pack(f"{order}H", count)
    for tag, kind, number, value in entries:
        form = {1: "B3x", 3: "H2x"}.get(kind, "I")
        block += struct.pack(f"{order}HHI{form}", tag, kind, number, value)
    block += draw(st.sampled_from([bytes(4), b"", b"\x12\x01"]))
    block = block[: draw(st.sampled_from([len(block), len(block), draw(st.integers(0, len(block)))]))]
    return draw(st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0Exif\0\0", b"x"])) + block


@given(blocks())
@settings(max_examples=300, deadline=None)
def test_orientations_are_those_that_pillow_reads(block):
    """Where a block is broken in other places Pillow may give up, or take other kinds of numbers."""
    ours = exif_orientation(block)
    assert 1 <= ours <= 8
    notes = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            notes.load(block)
            theirs = notes.get(0x112, 1)
        except Exception:
            return
    entries = [entry for entry in range(len(block)) if block[entry : entry + 2] in (b"\x01\x12", b"\x12\x01")]
    if len(entries) == 1 and isinstance(theirs, int) and 1 <= theirs <= 8 and theirs != 1:
        number = block[entries[0] + 4 : entries[0] + 8]
        kind = block[entries[0] + 2 : entries[0] + 4]
        if sum(number) == 1 and sum(kind) in (3, 4):
            assert ours == theirs


# ---------------------------------------------------------------- transparency


def composited(image):
    """Over white, by the definition."""
    values = np.asarray(image.convert("RGBA"), np.float64)
    share = values[..., 3:] / 255
    return values[..., :3] * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "LA", "La", "palette", "GIF"])
def test_transparency_over_white(kind, photograph):
    image = alpha(photograph)
    assert 0 < np.asarray(image)[..., 3].mean() < 255
    if kind in ("PNG", "WEBP", "TIFF"):
        content = write(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    elif kind == "LA":
        image = image.convert("LA")
        content = write(image, "PNG")
    elif kind == "La":  # greys that are multiplied by their opacity already
        image = image.convert("LA")
        grey, opacity = np.moveaxis(np.asarray(image, np.int64), -1, 0)
        values = np.stack([np.round(grey * opacity / 255), opacity], -1).astype(np.uint8)
        content = tiff(values).replace(struct.pack("<HHII", 339, 3, 2, 0x10001), struct.pack("<HHII", 338, 3, 1, 1))
        assert Image.open(io.BytesIO(content)).mode == "La"
    else:
        image = photograph.quantize(32)
        options = {"palette": ("PNG", bytes(range(0, 256, 8))), "GIF": ("GIF", 5)}[kind]
        content = write(image, options[0], transparency=options[1])
        image = Image.open(io.BytesIO(content)).convert("RGBA")
    np.testing.assert_allclose(read_image(content), composited(image), atol=2 if kind == "La" else 0.51)


@pytest.mark.parametrize(("depth", "factor"), [(1, 255), (2, 85), (4, 17), (8, 1), (16, 1 / 257)])
def test_a_transparent_grey_of_every_depth(depth, factor):
    """Pillow compares the key of 2 and 4 bits with pixels of 8, so nothing would be transparent, or the wrong grey."""
    greys = np.arange(min(2**depth, 16))
    greys = greys if depth < 16 else greys * 4369
    bits = "".join(f"{grey:0{depth}b}" for grey in greys)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    key = int(greys[1])
    header = struct.pack(">IIBBBBB", len(greys), 1, depth, 0, 0, 0, 0)
    import zlib

    parts = (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", key)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
    expected = np.floor(greys * factor)
    expected[1] = 255
    np.testing.assert_array_equal(read_image(content)[0, :, 0], expected)


def test_a_transparent_colour_of_16_bits():
    values = np.array([[[257 * 10, 257 * 20, 257 * 30], [257 * 20, 0, 0]]], np.uint16)
    content = png(values, 2, chunks=((b"tRNS", struct.pack(">3H", *values[0, 0].tolist())),))
    np.testing.assert_array_equal(read_image(content), [[WHITE, [20, 0, 0]]])


# ---------------------------------------------------------------- greys of more than 8 bits


@pytest.mark.parametrize("order", "<>")
def test_a_range_of_deep_greys(order, photograph):
    values = deep(photograph, 4095)
    twelve = values.astype(np.uint16)
    expected = np.rint(values * (255 / 4095))
    for content in (tiff(twelve, order), png(twelve[..., None], 0), write(Image.fromarray(twelve), "PPM")):
        assert read_image(content).max() <= 15  # the signal is gone
        np.testing.assert_array_equal(read_image(content, grey_range=(0, 4095))[..., 0], expected)
    signed = (values - 1024).astype(np.int16)
    for content in (tiff(signed, order, signed=True), tiff(signed.astype(np.float32), order)):
        with pytest.raises(
            ValueError, match="no agreed range: give `grey_range`, on the command line --grey-range LOW"
        ):
            read_image(content)
        np.testing.assert_array_equal(read_image(content, grey_range=(-1024, 3071))[..., 1], expected)
    assert read_image(write(photograph, "PNG"), grey_range=(0, 4095)).tolist() == np.asarray(photograph).tolist()


def test_a_range_of_an_image_s_own_numbers(photograph):
    twelve = deep(photograph, 4095).astype(np.uint16)
    content = png(twelve[..., None], 0)
    low, high = np.int16(twelve.min()), twelve.max()
    expected = read_image(content, grey_range=(int(low), int(high)))
    for pair in ((low, high), np.array([low, high])):
        np.testing.assert_array_equal(read_image(content, grey_range=pair), expected)


def test_scaling_clips_and_takes_no_number_for_black():
    values = [-np.inf, -5, 0, 1, 2, 4, 9, np.inf, np.nan]
    assert scale_greys(values, (0, 4)).tolist() == [0, 0, 0, 64, 128, 255, 255, 255, 0]


@pytest.mark.parametrize(
    "wrong", [5, (1,), (3, 3), (4, 1), ("0", "1"), (0, float("inf")), (float("nan"), 1), (True, 2)]
)
def test_bad_ranges(wrong, photograph):
    with pytest.raises(ValueError, match=r"`grey_range` must be None or \(low, high\).*Received"):
        read_image(write(photograph, "PNG"), grey_range=wrong)


def test_the_user_is_told_of_dark_greys(photograph):
    eight = write(photograph, "PNG")
    twelve = [png(deep(photograph, 4095).astype(np.uint16)[..., None], 0)] * 3
    note = grey_note((eight, *twelve, b"broken"))
    assert (
        note == "3 of 5 images looked at have greys of more than 8 bits, and use 16 of 256 greys: --grey-range 0:4095"
    )
    signed = tiff(deep(photograph, 3071, -1024).astype(np.int16), signed=True)
    assert "have greys of more than 8 bits without an agreed range, here from -" in grey_note((signed,))
    full = png(deep(photograph).astype(np.uint16)[..., None], 0)
    shallow = write(Image.fromarray(deep(photograph, 4095).astype(np.uint16)), "PPM")  # scaled by what it says itself
    assert grey_note((eight, full)) is None and grey_note(()) is None and grey_note(twelve, (0, 4095)) is None
    assert grey_note(
        (shallow,)
    ) == "1 of 1 images looked at have greys of more than 8 bits, and use 16 of 256 greys: " + ("--grey-range 0:4095")


def test_the_user_is_told_of_dark_colours_of_16_bits(photograph):
    """Of colours the high byte is kept, whatever range there is."""
    full, clear = colours(photograph), colours(photograph, alpha_channel=True)
    clear[..., 3] |= 1 << 15
    twelve, veiled = full >> 4, np.concatenate([clear[..., :3] >> 4, clear[..., 3:]], -1)
    kinds = (
        png(twelve, 2),
        png(veiled, 6),
        png(veiled[..., [0, 3]], 4),
        tiff(twelve, "<", photometric=2),
        tiff(twelve, ">", photometric=2),
        b"P6 24 16 65535 " + (twelve >> 1).astype(">u2").tobytes(),
    )
    for content in kinds:
        assert read_header(content).deep_colours
        assert grey_note((write(photograph, "PNG"), content)) == (
            "1 of 2 images looked at have colours of 16 bits, and use 16 of 256 values: convert them to 8 bits"
        )
        note = grey_note((content,), (0, 4095))
        assert "which --grey-range does not change: it is for greys, and use 16 of 256 values" in note
        np.testing.assert_array_equal(read_image(content), read_image(content, grey_range=(0, 4095)))
    for content in (png(full, 2), tiff(full, photometric=2), b"P6 24 16 4095 " + twelve.astype(">u2").tobytes()):
        assert grey_note((content,)) is None
        assert grey_note((content,), (0, 9)).endswith("which --grey-range does not change: it is for greys")
    greys = png(deep(photograph, 4095).astype(np.uint16)[..., None], 0)
    assert grey_note((greys, kinds[0])).count(" of 2 images looked at ") == 2
    assert not read_header(greys).deep_colours and not read_header(write(photograph, "TIFF")).deep_colours


# ---------------------------------------------------------------- TIFFs that say more than Pillow heeds


@pytest.mark.parametrize("tags", [{254: 1}, {254: 5}, {255: 2}])
def test_a_preview_is_not_taken_for_the_image(tags, photograph):
    for options in ({}, {"compression": "tiff_lzw"})[: 1 if 255 in tags else 2]:  # libtiff does not write that
        content = write(photograph, "TIFF", tiffinfo=tags, **options)
        for read in (read_image, read_size):
            with pytest.raises(ValueError, match="its first image is only a preview .*develop it"):
                read(content)


@pytest.mark.parametrize("tags", [{254: 0}, {254: 2}, {255: 1}])
def test_pages_and_whole_images_are_read(tags, photograph):
    np.testing.assert_array_equal(read_image(write(photograph, "TIFF", tiffinfo=tags)), np.asarray(photograph))


@pytest.mark.parametrize("grey_range", [None, (0, 65535), (0, 4095), (100, 3000)])
def test_greys_whose_lowest_value_is_white(grey_range, photograph):
    """Pillow turns those of 8 bits only."""
    values = deep(photograph, 4095 if grey_range and grey_range[1] < 65535 else 65535).astype(np.uint16)
    expected = 255 - read_image(tiff(values), grey_range=grey_range)
    image = Image.fromarray(values)
    for content in (
        tiff(values, photometric=0),
        write(image, "TIFF", tiffinfo={262: 0}),
        write(image, "TIFF", tiffinfo={262: 0}, compression="tiff_lzw"),
    ):
        np.testing.assert_array_equal(read_image(content, grey_range=grey_range), expected)
        np.testing.assert_array_equal(read_image(as_png(content, grey_range=grey_range)), expected)
    if grey_range:
        for order in "<>":
            floats = tiff(values.astype(np.float32), order, photometric=0)
            np.testing.assert_array_equal(read_image(floats, grey_range=grey_range), expected)
    eight = np.asarray(photograph.convert("L"))
    np.testing.assert_array_equal(read_image(tiff(eight, photometric=0))[..., 0], 255 - eight)
    assert grey_note((tiff(values >> 4, photometric=0),)) == grey_note((tiff(values >> 4),)) is not None


def in_planes(values, order="<"):
    """A TIFF of an array [height, width, 3], one colour after the other, not compressed."""
    height, width, count = values.shape
    planes = [plane.astype(values.dtype.newbyteorder(order)).tobytes() for plane in np.moveaxis(values, -1, 0)]
    end, size = 8 + sum(map(len, planes)), len(planes[0])
    lists = [struct.pack(f"{order}3H", *[8 * values.itemsize] * 3),
             struct.pack(f"{order}3I", 8, 8 + size, 8 + 2 * size), struct.pack(f"{order}3I", *[size] * 3)]  # fmt: skip
    places = [end, end + len(lists[0]), end + len(lists[0]) + len(lists[1])]
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, places[0]), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 3, places[1]), (277, 3, 1, count), (278, 4, 1, height), (279, 4, 3, places[2]), (284, 3, 1, 2)]
    entries = b"".join(
        struct.pack(f"{order}HHI" + ("H2x" if form == 3 and number == 1 else "I"), tag, form, number, value)
        for tag, form, number, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", end + sum(map(len, lists)))
    return head + b"".join(planes) + b"".join(lists) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", "<>")
def test_colours_of_16_bits_in_planes_are_refused(order, photograph):
    """Pillow would read the bytes of each value as two pixels."""
    np.testing.assert_array_equal(read_image(in_planes(np.asarray(photograph), order)), np.asarray(photograph))
    for read in (read_image, read_size):
        with pytest.raises(ValueError, match="store it with interleaved colours"):
            read(in_planes(colours(photograph), order))


# ---------------------------------------------------------------- inks, luma, headers, large JPEGs


def test_inks_become_light(photograph):
    image = inks(photograph)
    content = write(image, "TIFF")
    parts = 255 - np.asarray(image, np.int64)
    np.testing.assert_array_equal(read_image(content), parts[..., :3] * parts[..., 3:] // 255)
    np.testing.assert_allclose(read_image(content), np.asarray(photograph), atol=3)


def test_one_channel_is_luma(photograph):
    grey = read_image(write(photograph, "PNG"), channels=1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(photograph.convert("L")))
    with pytest.raises(ValueError, match="`channels` must be 1 or 3. Received: 4"):
        read_image(write(photograph, "PNG"), channels=4)


def test_headers_by_content_never_by_name(tmp_path, photograph):
    path = tmp_path / "odd.jpg"
    for content, header in (
        (write(photograph, "PNG"), Header("PNG", "RGB", 16, 24)),
        (write(photograph, "JPEG", exif=exif(6)), Header("JPEG", "RGB", 24, 16)),
        (write(photograph, "MPO", save_all=True, append_images=[photograph]), Header("JPEG", "RGB", 16, 24)),
        (write(photograph, "AVIF"), Header("AVIF", "RGB", 16, 24)),
        (tiff(deep(photograph).astype(np.uint16), orientation=8), Header("TIFF", "I;16", 24, 16)),
    ):
        path.write_bytes(content)
        assert read_header(path) == read_header(content) == header
    with pytest.raises(ValueError, match="it has more than 383 pixels"):
        read_header(path, 383)


def test_a_png_is_the_same_image(photograph):
    content = tiff(deep(photograph, 4095).astype(np.uint16), orientation=6)
    copy = as_png(content, grey_range=(0, 4095))
    assert read_header(copy).format == "PNG"
    np.testing.assert_array_equal(read_image(copy), read_image(content, grey_range=(0, 4095)))


def test_heif_is_read_or_what_it_needs_is_said(photograph):
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    try:
        import pillow_heif
    except ImportError:
        with pytest.raises(
            ValueError, match=r"it is a HEIF image, which needs a package: pip install nasnet_keras\[heic\]"
        ):
            read_image(content)
        return
    smooth, buffer = photograph.resize((240, 160)), io.BytesIO()  # its colours have half the pixels
    pillow_heif.from_pillow(smooth).save(buffer, quality=95, exif=exif(6).tobytes())
    found = read_image(buffer.getvalue())
    assert found.shape == (240, 160, 3) and read_size(buffer.getvalue()) == (240, 160)
    assert np.abs(found.astype(int) - turned(np.asarray(smooth), 6)).mean() < 3
    with pytest.raises(ValueError, match="cannot read the image"):
        read_image(content)


def test_names_are_one_line(tmp_path):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"words")
    with pytest.raises(ValueError, match=r"two\\nlines\.png': it is not a JPEG") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_the_decoder_reduces_by_the_ratio_that_it_is_told(height, width, rows, columns):
    ratio = jpeg_ratio(height, width, (rows, columns))
    for greater in RATIOS:
        fits = height >= 2 * greater * rows and width >= 2 * greater * columns
        assert not fits or greater <= ratio
    image = Image.open(io.BytesIO(announce(write(Image.new("RGB", (8, 8)), "JPEG"), "JPEG", width, height)))
    if ratio > 1:
        image.draft(None, (width // ratio, height // ratio))
        assert image.decoderconfig[0] == ratio
        assert image.size == (-(-width // ratio), -(-height // ratio))
        assert min(image.height - 2 * rows, image.width - 2 * columns) >= 0


def test_a_range_that_no_image_needs_is_told(photograph, tmp_path):
    eight, deeper = write(photograph, "PNG"), png(deep(photograph, 4095).astype(np.uint16)[..., None], 0)
    unused = "`grey_range` changes nothing here: none of 2 images looked at has greys of more than 8 bits; "
    assert grey_note((eight, b"broken"), (0, 9), given=True).startswith(unused)
    assert grey_note((eight, eight), (0, 9)) is None  # a model's own
    assert grey_note((eight, deeper), (0, 9), given=True) is None and grey_note((eight,), given=True) is None
    assert grey_note((b"broken",), (0, 9), given=True) is None
    assert grey_note((eight, png(colours(photograph), 2)), (0, 9), given=True).endswith("it is for greys")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / f"{number}.png").write_bytes(eight)
    told = {given: open_data(tmp_path, grey_range=(0, 9), range_given=given).notes for given in (True, False)}
    assert [len([note for note in notes if "grey_range" in note]) for notes in told.values()] == [1, 0]


def test_a_range_for_data_that_are_no_files_is_told(photograph):
    arrays = (np.zeros((4, 8, 8, 3), np.uint8) + 99, np.arange(4) % 2)
    pictures = [(photograph, number % 2) for number in range(4)]
    scan = Image.fromarray(deep(photograph, 4095).astype(np.uint16))
    for data, is_told in (("digits", True), (arrays, True), (pictures, True), ([(scan, 0), (scan, 1)] * 2, False)):
        notes = open_data(data, validation=0, test=0, grey_range=(0, 4095)).notes
        assert [note.startswith("`grey_range` changes nothing here: the ") for note in notes] == [True] * is_told
        assert not open_data(data, validation=0, test=0).notes
    assert not open_data("digits", grey_range=(0, 4095), range_given=False).notes


@pytest.mark.parametrize("most", [1023, 4095, 4000, 40_000, 65_535])
@pytest.mark.parametrize("plain", [False, True], ids=["binary", "text"])
def test_a_grey_range_is_of_the_values_in_a_pgm(most, plain):
    """Which Pillow scales to 16 bits by the greatest value that the file names."""
    values = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    header = b"%s 8 8 %d\n" % (b"P2" if plain else b"P5", most)
    pixels = b" ".join(b"%d" % value for value in values.ravel()) if plain else values.astype(">u2").tobytes()
    content = header + pixels + b"\n" * plain
    for low, high in ((0, most), (0, most // 2), (100, 900)):
        read = read_image(content, grey_range=(low, high))
        np.testing.assert_array_equal(read[..., 0], scale_greys(values, (low, high)))
        tif = tiff(values, "<")
        np.testing.assert_array_equal(read, read_image(tif, grey_range=(low, high)))
        np.testing.assert_array_equal(
            read[..., 0], np.array(Image.open(io.BytesIO(as_png(content, grey_range=(low, high)))))[..., 0]
        )
    for ways in ([(0, most), None, (100, 900)], [None, (0, most)]):  # Pillow forgets how it was stored
        picture = Image.open(io.BytesIO(content))
        for grey_range in ways * 2:
            np.testing.assert_array_equal(of_pillow(picture, grey_range), read_image(content, grey_range=grey_range))
    whole = read_image(content)[..., 0]  # by its own range
    assert whole.min() == 0 and whole.max() == 255
    assert grey_note([content]) is None


def test_a_pgm_that_was_loaded_before_has_no_range():
    """Nothing says any more what its greys were in the file; by their own range they are what they were."""
    content = b"P5 4 4 4095\n" + np.arange(0, 4096, 256, np.uint16)[:16].astype(">u2").tobytes()
    picture = Image.open(io.BytesIO(content))
    picture.load()
    np.testing.assert_array_equal(of_pillow(picture), read_image(content))
    with pytest.raises(ValueError, match="^it is a PGM that was loaded before, where no `grey_range` applies: give"):
        of_pillow(picture, (0, 4095))
    with pytest.raises(ValueError, match="`data` must have images that can be read. Received: it is a PGM"):
        open_data([(picture, 0), (picture, 1)], grey_range=(0, 4095))
