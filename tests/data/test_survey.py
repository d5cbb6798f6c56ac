"""What is counted in a data set, and which images look the same."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.survey import near_places, survey


def texture(seed, height=40, width=48):
    """A smooth picture with structure, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    for part, start in (("train", 0), ("test", 50)):
        for name, offset in (("a", 0), ("b", 20)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(5):
                texture(start + offset + number).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def test_counts_kinds_and_sizes(folder):
    texture(1, 8, 9).convert("L").save(folder / "train/a/small.jpg")
    texture(1, 90, 100).save(folder / "test/b/large.bmp")
    (folder / "train/a/list.xyz").write_text("no image")
    (folder / "train/b/broken.png").write_bytes((folder / "train/b/1.png").read_bytes()[:20])
    found = survey(open_data(folder, validation=0))
    assert found["images"] == {"train": 11, "validation": 0, "test": 11}
    assert found["classes"][1] == {"name": "b", "train": 5, "validation": 0, "test": 6}
    assert found["kinds"] == {"PNG RGB": 20, "JPEG L": 1, "BMP RGB": 1}
    assert found["sizes"] == {"least": [8, 9], "median": [40, 48], "most": [90, 100], "different": 3}
    files = [path for path in folder.rglob("*") if path.suffix not in ("", ".xyz")]
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    reasons = found["left_out"]
    assert ["train/a/list.xyz"] in reasons.values() and ["train/b/broken.png"] in reasons.values()


def test_data_in_memory():
    found = survey(load_data("digits"))
    assert sum(found["images"].values()) == 1797 and len(found["classes"]) == 10
    assert found["kinds"] is None and found["bytes"] is None and found["sizes"]["most"] == [8, 8]


def test_the_same_picture_in_another_file_is_found(folder):
    picture = texture(0)
    picture.resize((96, 80)).save(folder / "test/b/larger.jpg", quality=60)
    texture(21).filter(ImageFilter.GaussianBlur(1)).save(folder / "test/a/blurred.png")
    texture(0).save(folder / "train/b/same_part.png")  # not looked for
    pairs, _ = near_places(data := open_data(folder, validation=0))
    sources = {part: getattr(data, part).images.sources for part in ("train", "test")}
    names = {tuple((part, sources[part][index][len(str(folder)) + 1 :]) for part, index in pair) for pair in pairs}
    assert names == {
        (("train", "train/a/0.png"), ("test", "test/b/larger.jpg")),
        (("train", "train/b/same_part.png"), ("test", "test/b/larger.jpg")),
        (("train", "train/b/1.png"), ("test", "test/a/blurred.png")),
    }


def test_plain_and_broken_images_are_like_nothing(folder):
    for part in ("train", "test"):
        Image.new("RGB", (20, 20), (9, 9, 9)).save(folder / part / "a/plain.png")
        (folder / part / "a/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert near_places(open_data(folder, validation=0)) == ([], 4)


def test_many_pictures_of_one_look_take_bounded_time(tmp_path):
    """Of a thousand equal pictures each is compared with some, not with all."""
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
    content = tmp_path / "train/a/0.png"
    texture(3, 16, 16).save(content)
    for index in range(1, 1000):
        (tmp_path / ("train", "test")[index % 2] / ("a", "b")[index // 2 % 2] / f"{index}.png").write_bytes(
            content.read_bytes()
        )
    pairs, _ = near_places(open_data(tmp_path, validation=0))
    assert 999 <= len(pairs) <= 100_000


def test_deep_greys_are_compared_by_their_range(tmp_path):
    """Of 12 bits the high byte alone shows next to nothing, and floats nothing at all: those are counted."""
    for part, size in (("train", (48, 40)), ("test", (96, 80))):
        for name, seed in (("a", 0), ("b", 20)):
            (tmp_path / part / name).mkdir(parents=True)
            deep = np.asarray(texture(seed).convert("L").resize(size), np.uint16) * 16
            Image.fromarray(deep).save(tmp_path / part / name / "deep.png")
            deep = np.asarray(texture(seed + 1).convert("L").resize(size), np.float32) * 16
            Image.fromarray(deep).save(tmp_path / part / name / "float.tif")
    pairs, passed_over = near_places(open_data(tmp_path, validation=0, grey_range=(0, 4095)))
    assert passed_over == 0
    assert sorted(pairs) == [(("train", index), ("test", index)) for index in range(4)]
    pairs, passed_over = near_places(open_data(tmp_path, validation=0))
    assert pairs == [] and passed_over == 8
