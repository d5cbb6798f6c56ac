"""Names in tables without the suffix of their file, or in other letters."""

import os
import tracemalloc

import pytest
from PIL import Image
from written_tables import write

from nasnet_keras.data.columns import Columns
from nasnet_keras.data.file_names import FileNames
from nasnet_keras.data.loading import load_data
from nasnet_keras.data.tables import read_table

SUFFIXES = (".jpg", ".JPG", ".png", ".jpeg")


@pytest.fixture
def place(tmp_path):
    """Twelve images in a folder, with a file of another kind beside each."""
    (tmp_path / "train").mkdir()
    for number in range(12):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "train" / f"{number:03}bec{SUFFIXES[number % 4]}")
        (tmp_path / "train" / f"{number:03}bec.txt").touch()
    return tmp_path


def rows(name):
    return [(name(number), ("boxer", "collie")[number % 2]) for number in range(12)]


def test_ids_without_a_suffix_are_completed(place):
    write(place / "labels.csv", rows(lambda number: f"{number:03}bec"), ("id", "breed"))
    data = load_data(place / "labels.csv", file_column="id", label_column="breed", file_root=place / "train")
    assert len(data.train) + len(data.validation) + len(data.test) == 12 and not data.left_out
    assert data.notes[0] == "12 names are completed by the suffix of their file: 000bec, which is 000bec.jpg"
    write(place / "labels.csv", rows(lambda number: f"train\\{number:03}bec"), ("file", "label"))
    assert len(read_table(place / "labels.csv").notes) == 1


def test_names_in_other_letters_are_found(place):
    write(place / "t.csv", rows(lambda number: f"train/{number:03}BEC{SUFFIXES[number % 4].swapcase()}"))
    listing = read_table(place / "t.csv")
    assert (
        len(listing.parts["train"]) == 12
        and not listing.left_out
        and all(map(os.path.exists, listing.parts["train"].paths))
    )
    said = "12 names have other letters, upper or lower, than their file: train/000BEC.JPG, which is train/000bec.jpg"
    assert listing.notes == (said,) and listing.completed
    write(
        place / "t.csv",
        [*rows(lambda number: f"train/{number:03}bec{SUFFIXES[number % 4]}"), ("train/000Bec", "boxer")],
    )
    listing = read_table(place / "t.csv")
    assert listing.left_out.summary() == "1 file that is not there" and not listing.notes and not listing.completed
    assert len(listing.parts["train"]) == 12


def test_what_may_be_one_of_two_files_is_missing(place):
    for name in ("a.jpg", "a.png", "b.jpg", "B.jpg"):
        (place / "train" / name).write_bytes((place / "train" / "000bec.jpg").read_bytes())
    names = FileNames(str(place))
    train = os.path.join(place, "train", "")
    assert names.meant(train + "a") is None and names.meant(train + "b.JPG") is None
    assert names.meant(train + "b") == train + "b.jpg" and names.meant(train + "B") == train + "B.jpg"
    assert names.meant(train + "A.JPG") == train + "a.jpg" and names.meant(train + "c") is None
    assert names.meant(str(place / "none" / "a")) is None and names.meant(str(place) + "/x" * 1500) is None
    write(place / "t.csv", [*rows(lambda number: f"train/{number:03}bec{SUFFIXES[number % 4]}"), ("train/a", "boxer")])
    assert read_table(place / "t.csv").left_out.summary() == "1 file that is not there"


@pytest.mark.parametrize("order", [1, -1])
def test_a_missing_row_takes_no_other_rows_file(order, place):
    """Ids of letters in both cases: of two of them one file is gone."""
    names = [f"train/{number:03}bec{SUFFIXES[number % 4]}" for number in range(12)]
    every = [(name, ("boxer", "collie")[number % 2], "train") for number, name in enumerate(names)]
    for strange in (("train/000BEC.jpg", "collie", "train"), ("train/000Bec", "boxer", "test")):
        write(place / "t.csv", [*every, strange][::order], ("file", "label", "split"))
        listing = read_table(place / "t.csv")
        assert list(listing.left_out) == [strange[0]] and listing.left_out.summary() == "1 file that is not there"
        assert {part: len(files) for part, files in listing.parts.items()} == {"train": 12}
    # A row that is not used has its file all the same; and of two names for one file it is not clear which is wrong.
    unused = ("train/000bec.jpg", "boxer", "extra")
    write(place / "t.csv", [unused, *every[1:], ("train/000BEC.jpg", "collie", "train")][::order],
          ("file", "label", "split"))  # fmt: skip
    assert len(read_table(place / "t.csv", Columns(split="split")).parts["train"]) == 11
    write(place / "t.csv", [("train/000Bec", "boxer"), *(row[:2] for row in every[1:]), ("train/000bEC", "collie")])
    listing = read_table(place / "t.csv")
    assert len(listing.parts["train"]) == 11 and listing.left_out.summary() == "2 files that are not there"


def test_each_folder_is_listed_once(place, monkeypatch):
    listed, plain = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or plain(folder))
    write(place / "t.csv", [*rows(lambda number: f"train/{number:03}bec"), *rows(lambda number: f"gone/{number}")])
    assert len(read_table(place / "t.csv").left_out) == 12
    assert sorted(listed) == sorted([str(place / "gone"), str(place / "train")])


def test_many_names_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda folder: (f"ISIC_{number:07}.jpg" for number in range(20_000)))
    names = FileNames(str(tmp_path))
    tracemalloc.start()
    found = names.meant(os.path.join(tmp_path, "isic_0000007.JPG"))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert found == os.path.join(tmp_path, "ISIC_0000007.jpg") and taken < 300 * 20_000
