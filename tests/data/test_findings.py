"""What was found out about files is kept: a second start looks into none, or only into those that are other ones."""

import builtins
import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.cli import main
from nasnet_keras.data import equal_files, findings, folders, images
from nasnet_keras.data.findings import Findings, readable_ones
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.loading import load_data

LONG_AGO = 1_600_000_000


def written(path, content, changed=LONG_AGO):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return path


@pytest.fixture
def photos(tmp_path):
    """Photographs of equal sizes in bytes, one of them cut off, and a file without a suffix."""
    rng = np.random.default_rng(0)
    for label in "ab":
        for number in range(8):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
            written(path, path.read_bytes().ljust(2500, b"\0"))
    written(tmp_path / "photos/a/cut.png", (tmp_path / "photos/a/0.png").read_bytes()[:900])
    written(tmp_path / "photos/b/bare", (tmp_path / "photos/b/0.png").read_bytes() + b"other")
    return tmp_path / "photos"


@pytest.fixture
def opened(monkeypatch):
    """Counts the files that are looked into, by name."""
    counts = Counter()

    def counting(path, *args, **kwargs):
        if not isinstance(path, int):
            counts[os.path.basename(path)] += 1
        return builtins.open(path, *args, **kwargs)

    for module in (images, equal_files, folders):
        monkeypatch.setattr(module, "open", counting, raising=False)
    return counts


def load(photos, **options):
    return load_data(photos, memory_limit=0, **options)


def test_a_second_start_looks_into_no_file_that_can_be_read(photos, opened):
    written(photos / "b/notes", b"no image")
    first = load(photos)
    assert opened["3.png"] and opened["cut.png"] and opened["bare"] and opened["notes"]
    opened.clear()
    again = load(photos)
    assert set(opened) == {"cut.png"}
    assert dict(again.left_out) == dict(first.left_out) and "cut.png" in str(dict(first.left_out))
    assert (again.notes, again.image_shape) == (first.notes, first.image_shape)
    for part in ("train", "validation", "test"):
        assert getattr(again, part).images.sources == getattr(first, part).images.sources
    np.testing.assert_array_equal(again.train.images[:3], first.train.images[:3])


def test_only_other_files_are_looked_into(photos, opened):
    load(photos)
    opened.clear()
    written(photos / "a/3.png", (photos / "a/3.png").read_bytes(), LONG_AGO + 1)  # another time
    written(photos / "a/4.png", (photos / "a/5.png").read_bytes() + b"1")  # another size
    written(photos / "b/new.png", b"no image")
    os.unlink(photos / "b/7.png")
    left_out = load(photos).left_out
    assert set(opened) == {"3.png", "4.png", "new.png", "cut.png"}
    assert set(left_out) == {"a/cut.png", "b/new.png"}
    os.unlink(photos / "a/cut.png")
    os.unlink(photos / "b/new.png")
    opened.clear()
    load(photos)
    assert not opened


def test_what_was_just_written_is_looked_into_again(photos, opened, monkeypatch):
    """It may change once more without another time."""
    os.utime(photos / "a/3.png", (LONG_AGO + 500, LONG_AGO + 500))
    monkeypatch.setattr(findings.time, "time", lambda: LONG_AGO + 501.0)
    load(photos)
    opened.clear()
    load(photos)
    assert set(opened) == {"3.png", "cut.png"}


def test_other_greys_and_other_decoders_see_anew(photos, opened, monkeypatch):
    load(photos)
    opened.clear()
    load(photos, grey_range=(0, 100))
    assert opened["3.png"] == 2  # in each class there is one
    monkeypatch.setattr(findings.PIL, "__version__", "0")
    opened.clear()
    load(photos)
    assert opened["cut.png"] and opened["3.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_could_not_be_opened_is_tried_again(photos, opened):
    os.chmod(photos / "a/3.png", 0)
    assert load(photos).left_out["a/3.png"] == "broken file: Permission denied"
    os.chmod(photos / "a/3.png", 0o644)
    assert "a/3.png" not in load(photos).left_out


def test_a_failure_is_not_kept(tmp_path):
    file, answers = str(written(tmp_path / "a", b"")), [ValueError("it is cut off"), None, True, "never asked"]

    def find(_):
        if isinstance(answer := answers.pop(0), ValueError):
            raise answer
        return answer

    for expected in ([], [None, True], [True, True]):
        found = Findings(tmp_path, tmp_path / "cache")
        assert list(readable_ones("pixels", [file] * max(len(expected), 1), find, found)) == expected
        found.save()
    assert answers == ["never asked"]


@pytest.mark.parametrize("bare", [MemoryError(), OSError("decoder png not available")])
def test_what_failed_for_want_of_memory_or_of_a_decoder_is_tried_again(bare, photos, monkeypatch):
    """As Python, as Pillow's decoders and as NumPy say it; also of a file whose suffix says nothing."""
    errors = {"3.png": MemoryError(), "4.png": OSError("out of memory error when reading image file"),
              "5.png": MemoryError("Unable to allocate 9 GiB for an array"), "bare": bare,
              "6.png": OSError("decoder png not available")}  # fmt: skip
    opened = images._open

    def starved(stream):
        if error := errors.get(os.path.basename(stream.name)):
            raise error
        return opened(stream)

    monkeypatch.setattr(images, "_open", starved)
    assert set(load(photos).left_out) == {"a/cut.png", "b/bare", *(f"{c}/{n}.png" for c in "ab" for n in "3456")}
    monkeypatch.setattr(images, "_open", opened)
    assert set(load(photos).left_out) == {"a/cut.png"}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":"nasnet-findings/3"}', "cut"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    file = str(written(tmp_path / "a", b""))
    one = Findings(tmp_path, tmp_path / "cache")
    one.about("size", file, lambda _: [3, 4])
    one.save()
    content = one.path.read_bytes()
    one.path.write_bytes(content[: len(content) // 2] if damage == "cut" else damage)
    another = Findings(tmp_path, tmp_path / "cache")
    assert another.about("size", file, lambda _: [5, 6]) == [5, 6]
    another.save()
    assert Findings(tmp_path, tmp_path / "cache").about("size", file, None) == [5, 6]


def test_it_is_bounded(tmp_path, monkeypatch):
    """Files that have changed and folders that have gone are forgotten at last."""
    monkeypatch.setattr(findings, "MOST", 10)
    monkeypatch.setattr(findings, "FOLDERS", 3)
    for start in range(6):
        found = Findings(tmp_path, tmp_path / "cache")
        for number in range(4):
            found.about(
                "size", str(written(tmp_path / "a", b"", LONG_AGO + 10 * start + number)), lambda _, start=start: start
            )
        found.save()
    kept = json.loads(found.path.read_bytes())["found"]["size"]
    assert set(kept) == {"4", "5"}
    for number in range(6):
        root = tmp_path / f"root{number}"
        found = Findings(root, tmp_path / "cache")
        found.about("size", str(written(root / "a", b"")), lambda _: 1)
        found.save()
    assert len(list((tmp_path / "cache").iterdir())) == 3 and found.path.exists()


def test_a_cache_that_cannot_be_written_is_no_obstacle(photos, opened, monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "PLACE", str(written(tmp_path / "file", b"")))
    load(photos)
    opened.clear()
    load(photos)
    assert opened["3.png"]


def test_encoded_images_are_always_checked(photos):
    broken = (photos / "a/cut.png").read_bytes()
    files = ImageFiles((broken, (photos / "a/0.png").read_bytes()), (8, 8), findings=Findings(photos))
    assert list(files.check()) == [0] == list(files.check())


@pytest.fixture
def decoded_files(monkeypatch):
    """The names of the files of which pixels were decoded, one by one."""
    found, decode = [], ImageFiles._decode

    def counting(self, index, part=None):
        found.append(os.path.basename(self.name(index)))
        return decode(self, index, part)

    monkeypatch.setattr(ImageFiles, "_decode", counting)
    return found


def test_a_check_that_is_interrupted_is_remembered(photos, decoded_files):
    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(photos, progress=interrupted)
    assert decoded_files
    load(photos)
    assert len([name for name in decoded_files if name != "cut.png"]) == 17 and "cut.png" in decoded_files  # once


def test_the_command_data_remembers_its_check(photos, decoded_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", str(photos), "--check"]) == 0
    assert len(decoded_files) == 18
    assert main(["data", str(photos), "--check"]) == 0
    assert decoded_files[18:] == ["cut.png"]
