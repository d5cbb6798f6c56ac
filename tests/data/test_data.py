"""Data: decoding, sources, splits, augmentation, batches."""

import io
import json
import socket
import struct
import sys
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nasnet_keras.data import image_files as image_files_module
from nasnet_keras.data import images as images_module
from nasnet_keras.data.augmentation import AUGMENTATIONS, augment
from nasnet_keras.data.batches import Batches
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import read_pillow, read_size
from nasnet_keras.data.loading import Split, load_data, normalize, read_image
from nasnet_keras.data.splits import hold_out

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


# ---------------------------------------------------------------- decoding


def encode(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def halves(left, right, width=16, height=8):
    image = Image.new("RGB", (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def giant_png():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )


def truncated_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), "JPEG")
    return content[: len(content) // 2]


def test_a_colour_file_is_read_unchanged_from_a_path_and_from_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    content = encode(Image.fromarray(pixels))
    (tmp_path / "a.png").write_bytes(content)
    for source in (content, tmp_path / "a.png", str(tmp_path / "a.png")):
        image = read_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels)
        image[0] = 0  # the caller owns the array


def test_greyscale_and_bilevel_become_rgb():
    np.testing.assert_array_equal(read_image(encode(Image.new("L", (3, 2), 77))), np.full((2, 3, 3), 77))
    np.testing.assert_array_equal(read_image(encode(Image.new("1", (3, 2), 1))), np.full((2, 3, 3), 255))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(format):
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    image = read_image(encode(Image.fromarray(values), format))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])
    assert (image == image[..., :1]).all()


def test_sixteen_bit_colour_is_scaled():
    row = b"\x00" + struct.pack(">6H", 0, 32768, 65535, 65535, 256, 0)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(row))
    np.testing.assert_array_equal(read_image(content + png_chunk(b"IEND", b"")), [[[0, 128, 255], [255, 1, 0]]])


def test_transparency_is_composited_over_white():
    np.testing.assert_array_equal(read_image(encode(Image.new("RGBA", (1, 1), (255, 0, 0, 0))))[0, 0], WHITE)
    half = read_image(encode(Image.new("RGBA", (1, 1), (255, 0, 0, 128))))[0, 0]
    np.testing.assert_allclose(half, (255, 127, 127), atol=1)
    np.testing.assert_array_equal(read_image(encode(Image.new("LA", (1, 1), (9, 0))))[0, 0], WHITE)
    keyed = encode(halves(RED, BLUE, 2, 1), transparency=RED)
    np.testing.assert_array_equal(read_image(keyed)[0], [WHITE, BLUE])


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_palette_with_transparency(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read_image(encode(image, transparency=transparency))[0], [WHITE, BLUE])


def test_cmyk_jpeg():
    content = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95)
    np.testing.assert_allclose(read_image(content)[4, 4], (0, 255, 255), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(pixels), exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(read_image(content), upright)
    assert read_size(content) == upright.shape[:2]


def test_a_jpeg_photographed_sideways_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's right side was down: left becomes top
    image = read_image(encode(halves(RED, BLUE, 32, 16), "JPEG", exif=exif, quality=95))
    assert image.shape == (32, 16, 3)
    np.testing.assert_allclose(image[2, 8], RED, atol=6)
    np.testing.assert_allclose(image[-2, 8], BLUE, atol=6)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_a_photograph():
    content = encode(Image.new("RGB", (8, 8), WHITE), "JPEG", exif=b"Exif\x00\x00MM\x00*nonsense")
    assert read_image(content).shape == (8, 8, 3)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(content), np.broadcast_to(RED, (4, 4, 3)))


def test_webp():
    image = halves(RED, BLUE)
    np.testing.assert_array_equal(read_image(encode(image, "WEBP", lossless=True)), np.asarray(image))


def test_resizing_keeps_the_centre_undistorted():
    image = Image.new("RGB", (40, 20), RED)
    image.paste(GREEN, (10, 0, 30, 20))
    for size in (20, 10, (10, 10)):
        assert (read_image(encode(image), size) == GREEN).all()
    assert read_image(encode(image), (10, 40)).shape == (10, 40, 3)
    assert read_image(encode(Image.new("RGB", (1, 300))), 8).shape == (8, 8, 3)


def test_a_large_jpeg_is_reduced_without_visible_change():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (600, 1))] * 3, -1)
    image = read_image(encode(Image.fromarray(pixels), "JPEG", quality=95), 32)
    expected = np.asarray(Image.fromarray(pixels[:, 100:700]).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(image.astype(int), expected, atol=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"these are words, not pixels", "not a JPEG"),
        (b"", "not a JPEG"),
        (truncated_jpeg(), "truncated"),
        (giant_png(), "more than 80,000,000 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a JPEG"),
        (encode(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pixels_are_counted_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 15)
    monkeypatch.setattr(images_module, "_rgb", lambda image: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="more than 15 pixels"):
        read_image(encode(Image.new("RGB", (4, 4))))


def test_missing_and_mistyped_images(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jpg: No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="path or as bytes"):
        read_image(3)


@pytest.mark.parametrize("size", [0, -1, 9000, 2.5, (8,), (8, 8, 3), (8, 0), "8", True])
def test_bad_image_sizes(size):
    with pytest.raises(ValueError, match="`image_size`"):
        read_image(encode(Image.new("RGB", (4, 4))), size)


def test_image_files_index_like_an_array():
    contents = tuple(encode(Image.new("L", (4, 4), value)) for value in range(150))
    files = ImageFiles(contents, (4, 4))
    whole = files.decode()
    assert files.shape == whole.shape == (150, 4, 4, 3)
    np.testing.assert_array_equal(whole, np.broadcast_to(np.arange(150)[:, None, None, None], whole.shape))
    for index in (3, -1, slice(1, 140), np.array([5, 0, 0])):
        np.testing.assert_array_equal(files[index], whole[index])
    np.testing.assert_array_equal(files.take([4, 2]).decode(), whole[[4, 2]])


def test_progress_counts_up_to_all():
    seen = []
    files = ImageFiles((encode(Image.new("L", (1, 1))),) * 150, (1, 1))
    files.decode(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (150, 150) and seen == sorted(seen) and len(seen) > 1


# ---------------------------------------------------------------- folders


def make_folder(root, counts, size=(8, 8), start=0):
    """Images of which no two are alike; returns the root."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            colour = (number % 251, number // 251, 200)
            Image.new("RGB", size, colour).save(root / name / f"{index:04}.png")
            number += 1
    return root


def prints(split):
    """The images of a split, each as a hashable fingerprint."""
    return [image.tobytes() for image in split.images[np.arange(len(split))]]


def assert_apart(data, total):
    every = prints(data.train) + prints(data.validation) + prints(data.test)
    assert len(every) == len(set(every)) == total


def test_a_folder_of_classes_is_divided_class_by_class(tmp_path):
    data = load_data(make_folder(tmp_path / "set", {"cat": 20, "ant": 40}))
    assert data.class_names == ("ant", "cat")
    assert data.image_shape == data.train.images.shape[1:] == (8, 8, 3)
    counts = [np.bincount(part.labels, minlength=2) for part in (data.train, data.validation, data.test)]
    assert sum(counts).tolist() == [40, 20] and (np.array(counts) >= 1).all()
    assert_apart(data, 60)
    assert data.train.labels.dtype == np.int32 and data.train.images.dtype == np.uint8
    first_ant = np.asarray(Image.open(tmp_path / "set" / "ant" / "0000.png"))
    labels = {
        image: label
        for part in (data.train, data.validation, data.test)
        for image, label in zip(prints(part), part.labels, strict=True)
    }
    assert labels[first_ant.tobytes()] == 0


@pytest.mark.parametrize("validation", [None, "val", "validation"])
def test_a_given_test_set_is_the_test_set(tmp_path, validation):
    make_folder(tmp_path / "train", {"a": 10, "b": 10})
    make_folder(tmp_path / "test", {"a": 3, "b": 4}, start=100)
    if validation:
        make_folder(tmp_path / validation, {"a": 2, "b": 2}, start=200)
    (tmp_path / "notes").mkdir()
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (20 if validation else 20 - len(data.validation), 7)
    assert len(data.validation) == 4 if validation else len(data.validation) >= 2
    assert_apart(data, 31 if validation else 27)
    given = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "test").rglob("*.png")}
    assert set(prints(data.test)) == given


def test_a_train_folder_alone_also_gives_the_test_set(tmp_path):
    make_folder(tmp_path / "train", {"a": 10, "b": 10})
    data = load_data(tmp_path)
    assert set(data.test.labels) == set(data.validation.labels) == {0, 1}
    assert_apart(data, 20)


def test_a_class_may_be_called_train(tmp_path):
    assert load_data(make_folder(tmp_path, {"bus": 4, "train": 4})).class_names == ("bus", "train")


def test_other_files_are_ignored(tmp_path):
    make_folder(tmp_path, {"a": 4, "b": 4})
    for name in ("a/readme.txt", "a/.hidden.jpg", "b/Thumbs.db", "stray.jpg"):
        (tmp_path / name).write_text("not an image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "a" / "folder.jpg").mkdir()
    (tmp_path / "a" / "0000.png").rename(tmp_path / "a" / "UPPER.PNG")
    assert_apart(load_data(tmp_path), 8)


def test_the_seed_divides_all_but_new_folders(tmp_path):
    make_folder(tmp_path, {"a": 30, "b": 30})
    one, other = (load_data(tmp_path, seed=seed) for seed in (1, 2))
    assert prints(one.test) == prints(other.test) and prints(one.validation) == prints(other.validation)
    one, same, other = (load_data(tmp_path, seed=seed, split_rule="seeded") for seed in (1, 1, 2))
    assert prints(one.test) == prints(same.test) and prints(one.validation) == prints(same.validation)
    assert set(prints(one.test)) != set(prints(other.test))


def test_sizes(tmp_path):
    small = make_folder(tmp_path / "small", {"a": 3, "b": 3}, size=(20, 10))
    assert load_data(small).image_shape == (10, 20, 3)
    assert load_data(small, image_size=6).image_shape == (6, 6, 3)
    mixed = make_folder(tmp_path / "mixed", {"a": 3, "b": 3})
    Image.new("RGB", (30, 50)).save(mixed / "b" / "0000.png")
    assert load_data(mixed).image_shape == (224, 224, 3)
    large = make_folder(tmp_path / "large", {"a": 3, "b": 3}, size=(300, 300))
    assert load_data(large).image_shape == (224, 224, 3)


def test_only_the_chosen_files_are_decoded(tmp_path, monkeypatch):
    make_folder(tmp_path, {"a": 50, "b": 50})
    decoded = []

    def counting(source, *arguments, **others):
        decoded.append(source)
        return read_pillow(source, *arguments, **others)

    monkeypatch.setattr(image_files_module, "read_pillow", counting)
    data = load_data(tmp_path, limit=16)
    assert len(data.train) + len(data.validation) == 16
    assert len(decoded) == len(set(decoded)) == 16 + len(data.test)
    whole = load_data(tmp_path)
    assert abs(np.diff(np.bincount(data.train.labels))) <= 2
    assert set(prints(data.train)) < set(prints(whole.train))
    assert set(prints(data.validation)) < set(prints(whole.validation))
    assert prints(data.test) == prints(whole.test)


def test_what_does_not_fit_in_memory_is_decoded_on_the_fly(tmp_path):
    make_folder(tmp_path, {"a": 20, "b": 20})
    near, far = load_data(tmp_path), load_data(tmp_path, memory_limit=1000)
    assert isinstance(far.train.images, ImageFiles) and isinstance(near.train.images, np.ndarray)
    assert prints(near.train) == prints(far.train) and far.image_shape == near.image_shape
    assert prints(near.train.take(7, 3)) == prints(far.train.take(7, 3))
    batches = [Batches(data.train, 8, training=True, augmentation="cifar", seed=5)[1] for data in (near, far)]
    np.testing.assert_array_equal(batches[0][0], batches[1][0])
    (tmp_path / "a" / "0003.png").write_text("words")
    assert "a/0003.png" in load_data(tmp_path, memory_limit=1000).left_out


def test_two_thousand_classes(tmp_path):
    content = encode(Image.new("RGB", (2, 2)))
    for number in range(2000):
        folder = tmp_path / f"class_{number:04}"
        folder.mkdir()
        for index in range(3):
            (folder / f"{index}.png").write_bytes(content)
    data = load_data(tmp_path)
    assert len(data.class_names) == 2000
    assert len(data.train) == len(data.validation) == len(data.test) == 2000
    assert sorted(data.validation.labels) == list(range(2000))


STRANGE = {
    "grey.png": encode(Image.new("L", (9, 7), 40)),
    "deep.png": encode(Image.fromarray(np.full((7, 9), 40000, np.uint16))),
    "palette.png": encode(Image.new("P", (9, 7)), transparency=0),
    "alpha.png": encode(Image.new("RGBA", (9, 7), (1, 2, 3, 4))),
    "cmyk.jpg": encode(Image.new("CMYK", (9, 7)), "JPEG"),
    "moving.gif": encode(Image.new("P", (9, 7)), "GIF", save_all=True, append_images=[Image.new("P", (9, 7), 1)]),
    "modern.webp": encode(Image.new("RGB", (9, 7)), "WEBP"),
    "wide.jpg": encode(Image.new("RGB", (90, 7)), "JPEG"),
}


@pytest.mark.filterwarnings("error")
def test_a_folder_of_strange_images_loads(tmp_path):
    make_folder(tmp_path, {"a": 4, "b": 4}, size=(9, 7))
    for name, content in STRANGE.items():
        (tmp_path / "b" / name).write_bytes(content)
    data = load_data(tmp_path, image_size=12)
    assert len(data.train) + len(data.validation) + len(data.test) == 8 + len(STRANGE)


@pytest.mark.parametrize("name", ["words.jpg", "cut.jpg", "giant.png"])
def test_one_bad_file_among_many_is_left_out_and_named(tmp_path, name):
    make_folder(tmp_path, {"a": 70, "b": 70})
    content = {"words.jpg": b"words", "cut.jpg": truncated_jpeg(), "giant.png": giant_png()}[name]
    (tmp_path / "b" / name).write_bytes(content)
    data = load_data(tmp_path)
    assert list(data.left_out) == [f"b/{name}"] and "1 broken file" in data.left_out.summary()
    assert_apart(data, 140)
    with pytest.raises(ValueError, match=f"`strict`.*{name}") as caught:
        load_data(tmp_path, strict=True)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(tmp_path):
    def refused(folder, text, **options):
        with pytest.raises(ValueError, match=text) as caught:
            load_data(folder, **options)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "gone", "gone', which does not exist")
    refused(tmp_path / ("long" * 100), "which does not exist")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "file', which is a file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "a folder for each class")
    refused(make_folder(tmp_path / "one", {"a": 5}), r"at least two classes.*\['a'\]")
    refused(make_folder(tmp_path / "hollow", {"a": 5, "nothing": 0}), "two classes.*without images: nothing")
    few, seeded = make_folder(tmp_path / "few", {"a": 9, "rare": 2}), {"split_rule": "seeded"}
    assert len(load_data(few, **seeded).train) == 8
    parted = make_folder(tmp_path / "parted" / "train", {"a": 5, "b": 5}).parent
    make_folder(parted / "test", {"a": 2, "c": 2})
    refused(parted, "same classes.*differ in: b, c", **seeded)
    refused(few, "below 1 together", test=0.5, validation=0.5)
    for name in ("words", "more"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "0.jpg").write_text("words")
    refused(tmp_path / "broken", "no image for training that can be read.*2 broken files")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"validation": 1}, "validation"),
        ({"validation": -0.1}, "validation"),
        ({"test": "half"}, "test"),
        ({"test": True}, "test"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"limit": 0}, "limit"),
        ({"limit": 19}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"image_size": 0}, "image_size"),
        ({"memory_limit": None}, "memory_limit"),
    ],
)
def test_bad_arguments_are_named(options, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        load_data("digits", **options)


@pytest.mark.parametrize("name", [3, None, ""])
def test_bad_data_names(name):
    with pytest.raises(ValueError, match=r"`data`.*Received"):
        load_data(name)


# ---------------------------------------------------------------- digits


def test_digits():
    from sklearn.datasets import load_digits

    data = load_data("digits")
    assert data.name == "digits" and data.class_names == tuple("0123456789") and data.image_shape == (8, 8, 3)
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    assert_apart(data, 1797)  # no scan is there twice, so this also says that no image is in two splits
    source = load_digits()
    originals = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes(): int(label)
        for image, label in zip(source.images, source.target, strict=True)
    }
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert originals[image[..., 0].tobytes()] == label
        assert (image == image[..., :1]).all()
    assert data.test.images.max() == 255
    share = np.bincount(data.validation.labels) / np.bincount(source.target)
    assert (abs(share - 0.1) < 0.01).all()


def test_digits_of_another_size_and_number():
    data = load_data("digits", image_size=(16, 20), limit=100, validation=0.2)
    assert data.image_shape == (16, 20, 3)
    assert (len(data.train), len(data.validation)) == (75, 25)  # 0.6 and 0.2 of all
    assert len(load_data("digits", validation=0).validation) == 0


# ---------------------------------------------------------------- splits


class Numbers:
    """Stands for images, so that their identity can be followed."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)
        self.shape = (len(self.numbers), 1, 1, 3)

    def take(self, indices, axis):
        return Numbers(self.numbers[indices])


@given(
    st.lists(st.integers(4, 30), min_size=2, max_size=6),
    st.floats(0, 0.35),
    st.floats(0, 0.35),
    st.integers(0, 2**40),
    st.randoms(),
)
@settings(deadline=None, max_examples=60)
def test_held_out_parts_never_overlap(counts, test, validation, seed, random):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    split = Split(Numbers(range(len(labels))), labels)
    names = [f"c{label}" for label in range(len(counts))]
    parts = hold_out(split, {"test": test, "validation": validation}, seed, names)
    every = np.concatenate([part.images.numbers for part in parts.values()])
    assert sorted(every) == list(range(len(labels)))
    for part in parts.values():
        np.testing.assert_array_equal(part.labels, np.array(labels)[part.images.numbers])
    for name, share in (("test", test), ("validation", validation)):
        held = np.bincount(parts[name].labels, minlength=len(counts))
        wanted = np.maximum(np.array(counts) * share, share > 0)
        assert (abs(held - wanted) <= 0.5 + 1e-9).all()


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(1, 100), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_a_subset_keeps_the_shares_and_contains_smaller_ones(counts, n, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    split = Split(Numbers(range(len(labels))), labels)
    part, larger = split.take(n, seed), split.take(n + 5, seed)
    assert len(part) == min(n, len(split))
    assert set(part.images.numbers) <= set(larger.images.numbers)
    assert sorted(set(part.images.numbers)) == list(part.images.numbers)
    np.testing.assert_array_equal(part.images.numbers, split.take(n, seed).images.numbers)
    taken = np.bincount(part.labels, minlength=len(counts))
    if n >= len(counts):
        assert (taken > 0).all()
    assert (abs(taken - np.array(counts) * len(part) / len(split)) <= len(counts)).all()


def test_splits_check_their_parts():
    good = np.zeros((3, 2, 2, 3), np.uint8)
    for images in (good[0], good[..., :0], good.astype(np.float32), None):
        with pytest.raises(ValueError, match="`images`"):
            Split(images, np.zeros(3, int))
    for labels in (np.zeros(2, int), np.zeros(3), None):
        with pytest.raises(ValueError, match="`labels`"):
            Split(good, labels)
    with pytest.raises(ValueError, match="`n`"):
        Split(good, np.zeros(3, int)).take(0, 0)


# ---------------------------------------------------------------- TensorFlow Datasets


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("the network was asked")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared data set on disk, in two versions, with and without a test split."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    root = tmp_path_factory.mktemp("tfds")

    def examples(start, count):
        grey = ((index, np.full((8, 8, 1), start + index, np.uint8)) for index in range(count))
        return [(index, {"image": image, "label": index % 2}) for index, image in grey]

    features = {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(names=["even", "odd"])}
    for version, splits in (
        ("9.0.0", {"train": examples(0, 30)}),
        ("10.0.0", {"train": examples(0, 40), "test": examples(90, 10)}),
    ):
        tfds.dataset_builders.store_as_tfds_dataset(
            name="shades",
            version=version,
            data_dir=root,
            features=tfds.features.FeaturesDict(features),
            split_datasets=splits,
            disable_shuffling=True,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    return root


def test_a_prepared_data_set_opens_offline(prepared, no_network):
    data = load_data("tfds:shades", data_dir=prepared)
    assert data.class_names == ("even", "odd") and data.image_shape == (8, 8, 3)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    assert_apart(data, 50)
    for part in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(part.images[:, 0, 0, 0] % 2, part.labels)
    assert data.test.images.min() == 90
    older = load_data("tfds:shades:9.0.0", data_dir=prepared, limit=8, image_size=4)
    assert len(older.train) + len(older.validation) == 8 and len(older.test) == 6
    assert older.image_shape == (4, 4, 3)
    large = load_data("tfds:shades", data_dir=prepared, memory_limit=10)  # stays on disk
    np.testing.assert_array_equal(large.train.images[:], data.train.images)


@pytest.mark.parametrize("declared", [("image", "label"), None])
def test_of_several_labels_a_data_set_says_which_is_meant(tmp_path, declared):
    """As CIFAR-100 does, which has coarse ones as well, and sets of animals, which have masks."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    shapes = {name: tfds.features.Image(shape=(8, 8, 1)) for name in ("image", "mask")}
    labels = {name: tfds.features.ClassLabel(num_classes=number) for name, number in (("coarse", 2), ("label", 4))}
    rows = [
        {"image": np.full((8, 8, 1), number, np.uint8), "mask": np.full((8, 8, 1), 200, np.uint8)}
        | {"coarse": number % 2, "label": number % 4}
        for number in range(40)
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="animals",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict({**shapes, **labels}),
        split_datasets={"train": list(enumerate(rows))},
        disable_shuffling=True,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    if declared:  # as builders write it
        items = {"items": [{"featureKey": key} for key in declared]}
        file = tmp_path / "animals/1.0.0/dataset_info.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "supervisedKeys": {"tuple": items}}))
    if declared is None:
        with pytest.raises(ValueError, match="one class label .* images: image, mask; labels: coarse, label"):
            load_data("tfds:animals", data_dir=tmp_path)
        return
    data = load_data("tfds:animals", data_dir=tmp_path)
    assert data.class_names == ("0", "1", "2", "3")
    assert "of each example image and label are used, and not coarse, mask" in data.notes
    np.testing.assert_array_equal(data.train.images[:, 0, 0, 0] % 4, data.train.labels)


def test_what_is_not_prepared_is_refused_at_once(tmp_path, no_network):
    pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    for name in ("tfds:mnist", "tfds:no_such_set", "tfds:mnist:1.0.0"):
        with pytest.raises(
            ValueError, match=f"'{name}' is not prepared in .*: `load_data.*download=True.* in Python prepares it there"
        ):
            load_data(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot be downloaded: the network was asked"):
        load_data("tfds:mnist", data_dir=tmp_path, download=True)
    for name in ("tfds:", "tfds:../../etc", "tfds:mnist:new"):
        with pytest.raises(ValueError, match="`data` must be tfds:NAME"):
            load_data(name, data_dir=tmp_path)


def test_options_of_tfds_are_for_it(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\n")
    pairs = [(np.zeros((8, 8, 3), np.uint8), number % 2) for number in range(4)]
    for name, received in (
        (tmp_path / "labels.csv", "labels.csv"),
        (tmp_path, ""),
        ("digits", "digits"),
        (pairs, "list"),
    ):
        with pytest.raises(ValueError, match=f"`data_dir` and `download` are for tfds:NAME. Received: .*{received}"):
            load_data(name, data_dir=tmp_path, download=True)
        with pytest.raises(ValueError, match="`data_dir` is for tfds:NAME"):
            load_data(name, data_dir=tmp_path)
        with pytest.raises(ValueError, match="`download` is for tfds:NAME"):
            load_data(name, download=True)


@pytest.mark.parametrize("package", ["tensorflow_datasets", "sklearn.datasets"])
def test_a_missing_package_is_one_line(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = {"tensorflow_datasets": "tfds:mnist", "sklearn.datasets": "digits"}[package]
    with pytest.raises(ValueError, match="needs the package") as caught:
        load_data(name)
    assert package in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- augmentation


def noise(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("cutout", [0, 5])
@pytest.mark.parametrize("recipe", AUGMENTATIONS)
def test_recipes_are_seeded_and_leave_their_input_alone(recipe, cutout):
    images = noise(6, 16)
    before = images.copy()
    one, same, other = (augment(images, recipe, np.random.default_rng(seed), cutout) for seed in (1, 1, 2))
    assert one.shape == images.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() == (recipe != "none" or cutout > 0)


def test_cifar_crops_come_from_the_image_enlarged_to_40():
    images = noise(40)
    positions = set()
    for image, varied in zip(images, augment(images, "cifar", np.random.default_rng(0)), strict=True):
        enlarged = np.asarray(Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
        found = [
            (top, left, step)
            for top in range(9)
            for left in range(9)
            for step in (1, -1)
            if abs(enlarged[top : top + 32, left : left + 32][:, ::step] - varied).max() <= 2  # two roundings
        ]
        assert len(found) == 1
        positions.add(found[0])
    assert len({position[2] for position in positions}) == 2
    assert {0, 8} <= {side for position in positions for side in position[:2]}


def test_digits_are_shifted_by_at_most_one_pixel_and_never_mirrored():
    images = noise(60, 8)
    seen = set()
    for image, varied in zip(images, augment(images, "digits", np.random.default_rng(0)), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        found = [(y, x) for y in range(3) for x in range(3) if (padded[y : y + 8, x : x + 8] == varied).all()]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 9


def test_short_trainings_shift_and_mirror():
    images = noise(200, 8)
    mirrored = 0
    for image, varied in zip(images, augment(images, "shifts", np.random.default_rng(0)), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        windows = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        found = [flip for flip in (1, -1) for window in windows if (window[:, ::flip] == varied).all()]
        assert len(found) == 1
        mirrored += found[0] == -1
    assert 70 < mirrored < 130


def test_reflected_crops_are_windows_of_the_image_padded_by_reflection():
    for side, most in ((8, 1), (16, 2), (1, 0)):
        images, seen = noise(60, side), set()
        for image, varied in zip(images, augment(images, "alternating", np.random.default_rng(0)), strict=True):
            padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="reflect")
            places = [(y, x) for y in range(2 * most + 1) for x in range(2 * most + 1)]
            found = [(y, x) for y, x in places if (padded[y : y + side, x : x + side] == varied).all()]
            assert len(found) == 1
            seen.add(found[0])
        assert len(seen) > 1.5 * most * most


def test_photographs_keep_their_content_within_bounds():
    grey = np.full((50, 20, 30, 3), 100, np.uint8)
    varied = augment(grey, "photo", np.random.default_rng(0)).astype(int)
    assert (np.ptp(varied, axis=(1, 2, 3)) <= 1).all()  # no black border, and grey stays grey
    levels = varied.mean((1, 2, 3))
    assert 70 < levels.min() < 90 < 110 < levels.max() < 131
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, None, :, None], (80, 64, 64, 3))
    slopes = np.diff(augment(ramp, "photo", np.random.default_rng(1))[:, 32, 8:56, 0].astype(int), axis=1).mean(1)
    assert (slopes > 0).any() and (slopes < 0).any()  # mirrored and not
    assert abs(slopes).max() < 4 * 1.2 * 1.2 and abs(slopes).min() > 4 * 0.55 * 0.64


def test_cutout_paints_one_grey_square():
    images = np.full((200, 32, 32, 3), 7, np.uint8)
    varied = augment(images, "none", np.random.default_rng(0), cutout=16)
    painted = (varied == 128).all(-1)
    assert (painted | (varied == 7).all(-1)).all()
    for mask in painted:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns) and 8 <= len(rows) <= 16 and 8 <= len(columns) <= 16
    assert painted.sum((1, 2)).max() == 256
    assert painted.any(0).all()  # no pixel is spared for ever
    assert abs(normalize(np.uint8([128]))).max() < 0.005


@pytest.mark.parametrize(
    ("recipe", "cutout", "argument"),
    [("blur", 0, "augmentation"), (3, 0, "augmentation"), ("none", -1, "cutout"), ("none", 1.5, "cutout")],
)
def test_bad_augmentations(recipe, cutout, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        augment(noise(1, 8), recipe, np.random.default_rng(0), cutout)
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        Batches(Split(noise(4, 8), np.zeros(4, int)), 2, training=True, augmentation=recipe, cutout=cutout)


# ---------------------------------------------------------------- batches


def numbered(n, size=4):
    """A split whose labels number the images."""
    return Split(np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3)), np.arange(n))


def labels_of(batches):
    return [batches[index][1].tolist() for index in range(len(batches))]


def test_normalisation_is_exact():
    images = np.arange(256, dtype=np.uint8)
    scaled = normalize(images)
    assert scaled.dtype == np.float32 and scaled[0] == -1 and scaled[-1] == 1
    np.testing.assert_array_equal(scaled, images.astype(np.float32) / np.float32(127.5) - np.float32(1))


def test_evaluation_keeps_order_and_every_image():
    batches = Batches(numbered(10), 4)
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    images, labels = batches[2]
    assert images.dtype == np.float32 and labels.dtype == np.int32 and images.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(images[:, 0, 0, 0], normalize(np.uint8([8, 9])))
    with pytest.raises(IndexError):
        batches[3]


def test_smaller_images_are_averages():
    grey = np.tile(np.uint8([0, 200]), (4, 8, 2))[..., None].repeat(3, -1)
    batches = Batches(Split(grey, np.arange(4)), 4)
    assert batches[0][0].shape == (4, 8, 4, 3)
    images = Batches(Split(grey, np.arange(4)), 4, image_size=(2, 2))[0][0]
    assert images.shape == (4, 2, 2, 3)
    np.testing.assert_allclose(images, normalize(100), atol=0.12)  # a little uneven at the edges


def test_training_shuffles_and_leaves_out_an_incomplete_batch():
    batches = Batches(numbered(50), 8, training=True, seed=3)
    assert len(batches) == 6
    epochs = []
    for epoch in range(12):
        batches.epoch = epoch
        labels = [label for batch in labels_of(batches) for label in batch]
        assert len(labels) == len(set(labels)) == 48
        epochs.append(tuple(labels))
    assert len(set(epochs)) == 12
    assert set().union(*epochs) == set(range(50))  # those left out differ
    assert len(Batches(numbered(3), 8, training=True)) == 1


def test_an_image_is_varied_anew_in_every_batch_and_epoch():
    batches = Batches(Split(np.repeat(noise(1, 16), 24, 0), np.arange(24)), 8, training=True, augmentation="photo")
    seen = set()
    for epoch in range(3):
        batches.epoch = epoch
        seen |= {image.tobytes() for index in range(3) for image in batches[index][0]}
    assert len(seen) == 72


def test_a_batch_depends_only_on_seed_epoch_and_number():
    split = Split(noise(40, 8), np.arange(40))
    options = {"training": True, "augmentation": "photo", "cutout": 3, "seed": 7}
    one, two = Batches(split, 8, **options), Batches(split, 8, **options)
    forwards = [one[index] for index in range(5)]
    backwards = [two[index] for index in reversed(range(5))][::-1]
    for left, right in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])
    two.epoch = 1
    assert (two[0][1] != forwards[0][1]).any()
    two.epoch = 0
    np.testing.assert_array_equal(two[0][0], forwards[0][0])
    assert (Batches(split, 8, **{**options, "seed": 8})[0][1] != forwards[0][1]).any()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"split": "digits"}, "split"),
        ({"split": Split(noise(0), np.zeros(0, int))}, "split"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"augmentation": "cifar"}, "training"),
        ({"cutout": 8}, "training"),
    ],
)
def test_bad_batches(arguments, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        Batches(**{"split": numbered(4), "batch_size": 2, **arguments})
    with pytest.raises(ValueError, match="`epoch`"):
        Batches(numbered(4), 2, training=True).epoch = -1
    for size in (0, (0, 3), "8"):
        with pytest.raises(ValueError, match="`image_size` must be"):
            Batches(numbered(4), 2, image_size=size)


def linear_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(40)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


class Recording(Batches):
    """Remembers which batches of which epochs were asked for."""

    def __getitem__(self, index):
        self.__dict__.setdefault("asked", []).append((self.epoch, index))
        return super().__getitem__(index)


@pytest.mark.jax
def test_fit_goes_through_the_epochs_and_can_be_resumed():
    split = Split(noise(40, 4), np.arange(40))
    options = {"training": True, "augmentation": "digits", "seed": 1}
    whole = Recording(split, 12, **options)
    model = linear_model()
    model.fit(whole, epochs=3, shuffle=False, verbose=0, validation_data=Batches(split, 16))
    assert whole.epoch == 3
    assert set(whole.asked) == {(epoch, index) for epoch in range(3) for index in range(3)}

    first = linear_model()
    first.fit(Batches(split, 12, **options), epochs=2, shuffle=False, verbose=0)
    rest = Batches(split, 12, **options)
    rest.epoch = 2
    first.fit(rest, epochs=3, initial_epoch=2, shuffle=False, verbose=0)
    assert rest.epoch == 3
    for left, right in zip(model.weights, first.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(left.value), keras.ops.convert_to_numpy(right.value))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX looks at a lone batch as fit does")
def test_an_epoch_of_one_batch_counts_once():
    batches = Batches(numbered(8), 8, training=True)
    linear_model().fit(batches, epochs=2, shuffle=False, verbose=0)
    assert batches.epoch == 2


@pytest.mark.jax
def test_evaluate_and_predict_see_every_image_in_order():
    split = numbered(10)
    model = linear_model()
    logits = model.predict(Batches(split, 4), verbose=0)
    np.testing.assert_allclose(logits, model.predict(normalize(split.images), verbose=0), atol=1e-5)
    accuracy = model.evaluate(Batches(split, 4), verbose=0, return_dict=True)["accuracy"]
    assert accuracy == pytest.approx((logits.argmax(1) == split.labels).mean())


def test_a_class_without_images_holds_nothing_out():
    """Labels that count from 1, and data sets that name more classes than they have."""
    split = Split(Numbers(range(30)), np.repeat([1, 2, 4], 10))
    parts = hold_out(split, {"test": 0.2, "validation": 0.1}, 0, list("abcde"))
    assert {part: one.counts(5).tolist() for part, one in parts.items()} == {
        "test": [0, 2, 2, 0, 2],
        "validation": [0, 1, 1, 0, 1],
        "train": [0, 7, 7, 0, 7],
    }


def test_a_small_class_is_for_training_alone_as_that_of_a_folder(tmp_path):
    """Of a long tail, however large the shares are; and the rest is divided as it was."""
    labels = np.repeat([0, 1, 2, 3], [1, 2, 3, 10])
    split, notes = Split(Numbers(range(16)), labels), []
    parts = hold_out(split, {"test": 0.2, "validation": 0.1}, 0, list("abcd"), notes)
    assert {part: one.counts(4).tolist() for part, one in parts.items()} == {
        "test": [0, 0, 1, 2], "validation": [0, 0, 1, 1], "train": [1, 2, 1, 7]}  # fmt: skip
    assert notes == ["classes with fewer than 3 images are for training alone: a, b"]
    alone = hold_out(split.select(np.arange(3, 16)), {"test": 0.2, "validation": 0.1}, 0, list("abcd"))
    assert [len(alone[part]) for part in ("test", "validation", "train")] == [3, 2, 8]
    parts = hold_out(split, {"test": 0.5, "validation": 0.45}, 0, list("abcd"))
    assert {part: one.counts(4).tolist() for part, one in parts.items()} == {
        "test": [0, 0, 1, 5], "validation": [0, 0, 1, 4], "train": [1, 2, 1, 1]}  # fmt: skip
    assert hold_out(split, {"test": 0.2}, 0, list("abcd"))["test"].counts(4).tolist() == [0, 1, 1, 2]
    with pytest.raises(
        ValueError, match="'a' has 1 images, too few to train on after holding out 0.5 for test and 0.5"
    ):
        hold_out(split, {"test": 0.5, "validation": 0.5}, 0, list("abcd"))
    images = np.zeros((16, 4, 4, 3), np.uint8)
    data = load_data((images, labels))
    assert data.notes == ("classes with fewer than 3 images are for training alone: 0, 1",)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [11, 2, 3]
