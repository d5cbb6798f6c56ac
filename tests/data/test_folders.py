"""Folders as people have them: what is used, what is left out with a count, what is refused and why."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.data import equal_files as equal_files_module
from nasnet_keras.data import folders as folders_module
from nasnet_keras.data.equal_files import equal_files
from nasnet_keras.data.folders import read_folder
from nasnet_keras.data.loading import load_data, open_data

stream = io.BytesIO()
Image.new("RGB", (6, 6), (200, 30, 30)).save(stream, "PNG")
PNG = stream.getvalue()


def write(root, files):
    """{path: a number of images in that folder, or a file's content}; no two images are alike."""
    number = 0
    root = os.fsencode(root)
    for name, content in files.items():
        path = os.path.join(root, os.fsencode(name))
        os.makedirs(path if isinstance(content, int) else os.path.dirname(path), exist_ok=True)
        images = {f"{index}.png": None for index in range(content)} if isinstance(content, int) else {"": content}
        for own, content in images.items():
            number += 1
            with open(os.path.join(path, os.fsencode(own)) if own else path, "wb") as file:
                file.write(PNG + str(number).encode() if content is None else content)
    return os.fsdecode(root)


TRAIN = {"train/cat": 4, "train/dog": 5}
# name: files, {class: images in train}, {further part: its labels}, what is said.
USED = {
    "classes": ({"cat": 3, "dog": 4}, {"cat": 3, "dog": 4}, {}, ""),
    "images in sub-folders": ({"cat/a": 3, "cat/b/c": 2, "dog": 4}, {"cat": 5, "dog": 4}, {},
                              "cat: images in folders of a class are the class's, such as a, b in cat"),
    "train alone": (TRAIN, {"cat": 4, "dog": 5}, {}, ""),
    "all parts": (
        {**TRAIN, "val/cat": 1, "val/dog": 1, "test/cat": 1, "test/dog": 2},
        {"cat": 4, "dog": 5},
        {"validation": [0, 1], "test": [0, 1, 1]},
        "",
    ),
    "Roboflow": ({**TRAIN, "valid/cat": 1, "valid/dog": 1, "data.yaml": b"x"}, {"cat": 4, "dog": 5},
                 {"validation": [0, 1]}, "1 file of unknown type: .yaml"),
    "brain scans": ({"Training/cat": 3, "Training/dog": 3, "Testing/cat": 1, "Testing/dog": 1}, {"cat": 3, "dog": 3},
                    {"test": [0, 1]}, ""),
    "TRAIN and DEV": ({"TRAIN/cat": 3, "TRAIN/dog": 3, "DEV/cat": 1, "DEV/dog": 1}, {"cat": 3, "dog": 3},
                      {"validation": [0, 1]}, ""),
    "a flat test": ({**TRAIN, "test": 3}, {"cat": 4, "dog": 5}, {},
                    "test/ has no labels and is not used | 3 images without labels: test/"),
    "a flat val": ({**TRAIN, "val": 3, "test/cat": 1, "test/dog": 1}, {"cat": 4, "dog": 5}, {"test": [0, 1]},
                   "val/ has no labels and is not used | 3 images without labels: val/"),
    "a test of one strange folder": ({**TRAIN, "test/unknown": 3}, {"cat": 4, "dog": 5}, {},
        "test/ has none of the classes of the training images and is not used | "
        "3 images of classes that there are not in training: unknown"),
    "classes beside a labelled test": ({"cat": 3, "dog": 3, "test/cat": 1, "test/dog": 1}, {"cat": 3, "dog": 3},
                                       {"test": [0, 1]}, ""),
    "classes beside a flat test": ({"cat": 3, "dog": 3, "test": 2}, {"cat": 3, "dog": 3}, {},
                                   "test/ has no labels and is not used | 2 images without labels: test/"),
    "classes beside a test of one strange folder": ({"cat": 3, "dog": 3, "test/unknown": 2}, {"cat": 3, "dog": 3}, {},
        "test/ has none of the classes of the training images and is not used | "
        "2 images of classes that there are not in training: unknown"),
    "classes beside test/test": ({"cat": 3, "dog/old": 2, "dog": 1, "Test/Test": 2}, {"cat": 3, "dog": 3}, {},
        "Test/ has none of the classes of the training images and is not used"),
    "classes beside a part in other letters": ({"cat": 3, "dog": 3, "valid/Cat": 2, "valid/Dog": 1},
        {"cat": 3, "dog": 3}, {}, "valid/ has none of the classes of the training images and is not used | "
        "names that differ only in upper and lower case are other classes: Cat, Dog in valid/"),
    "a class called test, of folders like the others": ({"cat/a": 2, "dog/b": 2, "test/c": 1},
        {"cat": 2, "dog": 2, "test": 1}, {}, "test/ is taken for a class, and for no part"),
    "a class that sounds like a part": ({"flask": 2, "test_tube/long": 2, "test_tube/short": 1},
        {"flask": 2, "test_tube": 3}, {}, "test_tube/ is taken for a class, and for no part"),
    "a class called test in training": ({**TRAIN, "train/test": 2}, {"cat": 4, "dog": 5, "test": 2}, {},
        "train/test/ is taken for a class, and for no part"),
    "masks beside images": (
        {"sound": 3, **{f"lump/lump ({n}){end}.png": None for n in range(3) for end in ("", "_mask", "_mask_1")}},
        {"lump": 9, "sound": 3}, {}, "lump: files called as masks of others are trained on as images, unless | "
        "masks/, such as lump (0)_mask"),
    "segmentations in a folder of a class": (
        {"a": 3, **{f"b/{n}.png": None for n in range(3)}, **{f"b/s/{n}-Segmentation.png": None for n in range(3)}},
        {"a": 3, "b": 6}, {}, "b: files called as masks of others"),
    "names that end as those of masks": ({"a": 3, **{f"b/{name}.png": None for name in ("1", "mask", "2_mask", "gt")}},
                                         {"a": 3, "b": 4}, {}, ""),
    "one letter in two forms": ({"caf\u00e9": 2, "cafe\u0301": 3}, {"cafe\u0301": 3, "caf\u00e9": 2}, {},
                                "classes whose names differ only in blanks, a .0, or how a letter"),
    "a class that test lacks": ({**TRAIN, "test/dog": 2}, {"cat": 4, "dog": 5}, {"test": [1, 1]},
                                "test/ has no images of 1 of 2 classes: cat"),
    "an empty class of test": ({**TRAIN, "test/dog": 2, "test/cat": 0}, {"cat": 4, "dog": 5}, {"test": [1, 1]},
        "test/ has no images of 1 of 2 classes: cat | 1 folder without images: cat"),
    "a class that only test has": ({**TRAIN, "test/ant": 2, "test/dog": 1}, {"cat": 4, "dog": 5}, {"test": [1]},
        "classes that training does not have, which are not used: ant | test/ has no images of 1 of 2 classes: cat"
        " | 2 images of classes that there are not in training: ant"),
    "an unknown sibling": ({**TRAIN, "extra/cat": 2}, {"cat": 4, "dog": 5}, {},
        "extra/ is none of train, validation and test, and is not used | 2 images in folders that are no parts: extra"),
    "packed twice": ({"photos/cat": 3, "photos/dog": 3, "a.txt": b""}, {"cat": 3, "dog": 3}, {},
                     "photos/ is the only folder with images | 1 file of unknown type: .txt"),
    "packed parts": ({"x/y/train/cat": 3, "x/y/train/dog": 3}, {"cat": 3, "dog": 3}, {}, "x/y/ is the only folder"),
    "packed training": ({"train/images/cat": 3, "train/images/dog": 3, "test/images/dog": 1}, {"cat": 3, "dog": 3},
                        {"test": [1]}, "train/images/ is the only folder"),
    "empty and foreign": (
        {"cat": 3, "dog": 3, "nothing": 0, "masks": 3, "@eaDir": 1, "__MACOSX/cat": 1, ".ipynb_checkpoints": 1},
        {"cat": 3, "dog": 3}, {}, "4 foreign folders: | 1 folder without images: nothing"),
    "foreign inside": ({"cat": 3, "dog": 3, "dog/@eaDir": 2}, {"cat": 3, "dog": 3}, {}, "1 foreign folder: @eaDir"),
    "Cat beside cat": ({"Cat": 2, "cat": 3}, {"Cat": 2, "cat": 3}, {}, "only in upper and lower case"),
    "a class called train": ({"bus": 2, "train": 3}, {"bus": 2, "train": 3}, {}, "is taken for a class"),
    "foreign files": (
        {"cat": 3, "dog": 3, "cat/Thumbs.db": b"x", "dog/.DS_Store": b"x", "cat/desktop.ini": b"x", "a.csv": b"x"},
        {"cat": 3, "dog": 3}, {}, "3 files of unknown type: .csv, .db, .ini | 1 hidden file"),
    "a stray image": ({"cat": 3, "dog": 3, "cover.png": None}, {"cat": 3, "dog": 3}, {},
                      "1 image outside of the class folders"),
    "no suffix": ({"cat": 3, "dog": 3, "dog/photo": None, "dog/photo.bak": None, "dog/Python": b"Python is no image"},
                  {"cat": 3, "dog": 5}, {}, "1 file of unknown type: without a suffix"),
    "an empty file": ({"cat": 3, "dog": 3, "dog/a.jpg": b""}, {"cat": 3, "dog": 3}, {},
                      "1 broken file: dog/a.jpg (it is empty)"),
    "parts inside of classes": ({"cat/train": 3, "cat/test": 1, "dog/train": 2, "dog/test": 2}, {"cat": 4, "dog": 4},
                                {}, "classes have folders called test, train inside"),
    "kinds of pictures": ({"grey/ant": 1, "grey/bee": 2, "red/ant": 1, "red/bee": 2}, {"grey": 3, "red": 3}, {},
                          "all of the 2 classes have the same folders inside (ant, bee)"),
}  # fmt: skip
REFUSED = {
    "two names for one part": (
        {**TRAIN, "val/cat": 1, "valid/cat": 1},
        "must have one folder for validation.*val/ and valid/",
    ),
    "two spellings of one part": ({**TRAIN, "Train/cat": 1}, "must have one folder for train.*Train/ and train/"),
    "nothing to train on": ({"test/cat": 2, "val/cat": 1}, "must have a folder train/ beside .*test/"),
    "flat parts": ({"train": 3, "test": 2}, "train must hold a folder for each class.*3 images in no such folder"),
    "flat": ({"a.png": None, "b.gif": b"x"}, "must hold a folder for each class"),
    "nothing": ({"cat": 0, "dog/a.txt": b"x"}, "a folder for each class.*1 file of unknown type: .txt"),
}


@pytest.mark.parametrize("name", USED)
def test_a_layout_is_used_and_what_is_left_out_is_told(name, tmp_path):
    files, train, further, said = USED[name]
    root = write(tmp_path / "photos", files)
    listing = read_folder(root)
    assert dict(zip(listing.class_names, np.bincount(listing.parts["train"].labels).tolist(), strict=True)) == train
    assert {part: one.labels.tolist() for part, one in listing.parts.items() if part != "train"} == further
    lines = " | ".join([*listing.notes, listing.left_out.summary()])
    for text in filter(None, said.split(" | ")):
        assert text in lines, lines
    assert bool(lines.strip(" |")) == bool(said), lines
    assert "\n" not in lines
    used = {path for one in listing.parts.values() for path in one.paths}
    left_out = {os.path.join(root, name) for name in listing.left_out}
    below = tuple(name for name in left_out if name.endswith("/"))
    every = {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}
    assert {path for path in every if not path.startswith(below)} == used | {name for name in left_out if name in every}
    if listing.left_out:
        with pytest.raises(ValueError, match="`strict`.*Received") as caught:
            open_data(root, strict=True)
        assert listing.left_out.summary() in str(caught.value)
    elif len(train) > 1:
        assert open_data(root, strict=True).class_names == tuple(train)


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_tell_is_refused_in_one_line(name, tmp_path):
    files, text = REFUSED[name]
    with pytest.raises(ValueError, match=text) as caught:
        read_folder(write(tmp_path / "photos", files))
    assert "\n" not in str(caught.value) and "photos" in str(caught.value)


def test_files_that_need_a_package_are_counted_with_its_name(tmp_path, monkeypatch):
    root = write(tmp_path, {"cat": 3, "dog": 3, **{f"cat/{n}.HEIC": b"x" for n in range(6)}})
    monkeypatch.setattr(folders_module, "find_spec", lambda name: None)
    summary = read_folder(root).left_out.summary()
    assert summary == "6 files of unknown type: .heic (pip install nasnet_keras[heic])"
    monkeypatch.setattr(folders_module, "find_spec", lambda name: name)
    assert len(read_folder(root).parts["train"]) == 12


def test_links_are_followed_and_loops_end(tmp_path):
    root = write(tmp_path / "set", {"cat": 2, "dog": 2})
    write(tmp_path / "far", {"bird": 3, "bird/more": 1})
    os.symlink(tmp_path / "far/bird", root + "/bird")
    os.symlink("..", root + "/cat/up")
    os.symlink(root + "/dog", root + "/cat/friend")
    os.symlink(root + "/cat", root + "/dog/friend")
    os.symlink("itself", root + "/cat/itself.png")
    os.symlink("nowhere", root + "/cat/gone.png")
    os.symlink("0.png", root + "/dog/again.png")
    os.mkfifo(root + "/dog/pipe.png")
    listing = read_folder(root)
    # Each class has its own images and those of the other that it links to.
    assert dict(zip(listing.folders, np.bincount(listing.parts["train"].labels).tolist(), strict=True)) == {
        "bird": 4,
        "cat": 5,
        "dog": 5,
    }
    kinds = {kind for kind, _ in listing.left_out.entries.values()}
    assert kinds == {"again", "unreadable", "special"} and "\n" not in listing.left_out.summary()


def test_many_links_between_folders_cost_no_more_than_their_pairs(tmp_path):
    names = [f"c{number:02}" for number in range(30)]
    root = write(tmp_path, dict.fromkeys(names, 1))
    for one in names:
        for other in names:
            if one != other:
                os.symlink(f"{root}/{other}", f"{root}/{one}/{other}")
    assert len(read_folder(root).parts["train"]) == len(names) ** 2


def test_nests_and_crowds_of_folders_end_in_a_line(tmp_path, monkeypatch):
    root = write(tmp_path / "deep", {"cat": 2, "dog": 2})
    handle = os.open(root + "/cat", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    listing = read_folder(root)
    assert len(listing.parts["train"]) == 4 and "1 folder that lies too deep" in listing.left_out.summary()
    while os.path.exists(root + "/cat/d"):  # pytest's own removal is recursive
        os.rename(root + "/cat/d", root + "/e")
        if os.path.exists(root + "/e/d"):
            os.rename(root + "/e/d", root + "/cat/d")
        os.rmdir(root + "/e")
    monkeypatch.setattr(folders_module, "MAX_CLASSES", 30)
    with pytest.raises(ValueError, match="at most 30 classes.*with 31"):
        read_folder(write(tmp_path / "wide", {f"c{number}": 1 for number in range(31)}))
    monkeypatch.setattr(folders_module, "MAX_ENTRIES", 30)
    with pytest.raises(ValueError, match="at most 30 files and folders"):
        read_folder(tmp_path / "wide")


@pytest.mark.parametrize("odd", ["two\nlines", b"caf\xe9", "tab\there", "\x1b[31mred", "\u202eright", "a'b\"c"])
def test_any_name_goes(odd, tmp_path):
    odd = os.fsdecode(odd)
    root = write(
        tmp_path / odd, {"cat": 6, odd: 6, f"cat/{odd}.txt": b"", f"cat/{odd}.jpg": b"no image", f"{odd}.png": None}
    )
    data = load_data(root)
    assert len(data.class_names) == 2 and all(name.isprintable() for name in data.class_names)
    assert set(data.left_out) == {f"cat/{odd}.txt", f"cat/{odd}.jpg", f"{odd}.png"}
    said = data.left_out.summary()
    assert said.isprintable() and "1 broken file" in said
    said.encode()
    assert len(data.train) + len(data.validation) + len(data.test) == 12
    with pytest.raises(ValueError, match="`strict`") as caught:
        load_data(root, strict=True)
    str(caught.value).encode()
    assert str(caught.value).isprintable()


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    root = write(tmp_path, {"cat": 3, "dog": 3, "dog/closed": 2})
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders_module.os, "scandir", closed)
    left_out = read_folder(root).left_out
    assert dict(left_out) == {"dog/closed/": "entry that cannot be read: Permission denied"}


def test_the_digest_is_of_the_list_and_of_no_place(tmp_path):
    root = write(tmp_path / "photos", {"cat": 3, "dog": 3})
    digest = read_folder(root).digest()
    os.symlink(root, tmp_path / "link")
    write(tmp_path / "other" / "packed", {"cat": 3, "dog": 3})
    for same in (root + "/", f"{tmp_path}/./photos", tmp_path / "link", tmp_path / "other"):
        assert read_folder(same).digest() == digest
    os.rename(root, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert read_folder(moved).digest() == digest
    (moved / "cat" / "0.png").rename(moved / "cat" / "9.png")
    renamed = read_folder(moved).digest()
    (moved / "cat" / "9.png").write_bytes(PNG)
    resized = read_folder(moved).digest()
    (moved / "cat").rename(moved / "cow")
    assert len({digest, renamed, resized, read_folder(moved).digest()}) == 4


def test_equal_files_in_different_parts_are_told(tmp_path):
    root = write(tmp_path, {**TRAIN, "test/cat": 2, "test/dog": 1})
    assert open_data(root).notes == ()
    big = PNG + b"0" * 9000
    for name, content in {"train/cat/x.png": PNG, "test/dog/y.png": PNG, "train/dog/b.png": big, "test/cat/b.png": big,
                          "train/cat/c.png": PNG + b"1" * 9000}.items():  # fmt: skip
        with open(os.path.join(root, name), "wb") as file:
            file.write(content)
    note, other = open_data(root).notes
    assert re.match(r"2 files have an equal one in another part: .*\(train\) and test/.*\(test\)", note)
    assert re.match(r"2 files have an equal one in another class: ", other)


PARTED = {
    "seg": ("seg_train/seg_train", "seg_test/seg_test", None),
    "sets": ("training_set", "test_set", "validation_set"),
    "spaces": ("train set ", "Test-Images", "val images"),
    "a space behind": ("Train ", "Test", None),
    "a small one beside": ("train", "test", "val"),
}


@pytest.mark.parametrize("name", PARTED)
def test_parts_by_names_of_several_words(name, tmp_path):
    train, test, validation = PARTED[name]
    files = {f"{train}/cat": 3, f"{train}/dog": 3, f"{test}/cat": 1, f"{test}/dog": 2}
    files |= {f"{validation}/dog": 1} if validation else {}
    files |= {"train_small/cat": 2} if name == "a small one beside" else {}
    listing = read_folder(write(tmp_path / "photos", files))
    assert listing.class_names == ("cat", "dog") and len(listing.parts["train"]) == 6
    assert listing.parts["test"].labels.tolist() == [0, 1, 1] and ("validation" in listing.parts) == bool(validation)
    assert ("train_small/ is none of train" in " ".join(listing.notes)) == (name == "a small one beside")


def test_names_of_classes_that_only_sound_like_parts(tmp_path):
    """Without folders of images inside it is a class."""
    listing = read_folder(write(tmp_path / "photos", {"test_tube": 2, "train_station": 3, "valley": 1}))
    assert listing.class_names == ("test_tube", "train_station", "valley")


def test_classes_that_seem_to_be_something_else_are_told(tmp_path):
    notes = read_folder(write(tmp_path / "a", {"fold1/cat": 2, "fold1/dog": 2, "fold2/cat": 1, "fold2/dog": 1})).notes
    assert "if fold1, fold2 are parts, call them train, validation and test" in notes[0]
    notes = read_folder(
        write(tmp_path / "b", {"animal/cat": 2, "animal/dog": 2, "plant/rose": 1, "plant/tulip": 1})
    ).notes
    assert notes == ("animal, plant: images in folders of a class are the class's, such as cat, dog in animal",)


def test_names_of_one_meaning_in_two_forms_are_one_class(tmp_path):
    """Some systems take letters apart from their accents."""
    files = {"train/caf\u00e9": 3, "train/the": 3, "test/cafe\u0301": 2, "test/the": 1}
    root = write(tmp_path / "photos", files)
    listing = read_folder(root)
    assert listing.parts["test"].labels.tolist() == [0, 0, 1] and listing.notes == ()
    write(root, {"test/caf\u00e9": 3})  # which some systems would say is there already
    listing = read_folder(root)
    assert listing.parts["test"].labels.tolist() == [0] * 5 + [1] and listing.notes == ()
    assert list(listing.parts["test"].paths) == sorted(listing.parts["test"].paths) and not listing.left_out
    notes = read_folder(write(tmp_path / "other", {"train/Cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 1})).notes
    assert "names that differ only in upper and lower case are other classes: cat in test/" in notes
    assert "classes whose names differ" not in "".join(notes)


def test_a_share_of_a_part_that_is_there_is_told(tmp_path):
    root = write(tmp_path, {**TRAIN, "test/cat": 2, "test/dog": 1})
    said = "is not used: the data have images for test of their own"
    assert open_data(root, test=0.3).notes == (f"`test` 0.3 {said}",)
    assert open_data(root, test=0.2, validation=0.3).notes == () == open_data(root, test=0, validation=0).notes


def test_a_camera_s_raw_file_is_no_image(tmp_path):
    """It is a TIFF that begins with a preview."""
    root = write(tmp_path, {"cat": 3, "dog": 3})
    Image.new("RGB", (160, 120)).save(f"{root}/cat/1.nef", "TIFF", tiffinfo={254: 1})
    Image.new("RGB", (160, 120)).save(f"{root}/dog/1.xyz", "TIFF", tiffinfo={254: 0})
    listing = read_folder(root)
    assert listing.left_out.summary() == "1 file of unknown type: .nef" and len(listing.parts["train"]) == 7


def test_a_class_that_cannot_be_read_is_not_called_empty(tmp_path, monkeypatch):
    root = write(tmp_path / "photos", {"cat": 3, "dog": 3, "eel": 3})
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("eel"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(folders_module.os, "scandir", refuse)
    assert read_folder(root).left_out.summary() == "1 entry that cannot be read: Permission denied"


def test_one_picture_under_two_labels_is_told(tmp_path):
    root = write(
        tmp_path / "photos", {"cat": 6, "dog": 6, "cat/same.png": PNG + b"same", "dog/same.png": PNG + b"same"}
    )
    data = open_data(root, validation=0, test=0)
    assert data.notes == ("1 file has an equal one in another class: cat/same.png and dog/same.png",)


@pytest.mark.parametrize("rule", ["hashed", "seeded"])
@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_files_of_a_relative_folder_are_found_from_any_other(tmp_path, monkeypatch, rule, memory_limit):
    root = write(tmp_path / "photos", {"cat": 12, "dog": 12})
    monkeypatch.chdir(tmp_path)
    data = load_data("photos", split_rule=rule, memory_limit=memory_limit)
    same = load_data(root, split_rule=rule, memory_limit=memory_limit)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert data.train.files.sources == same.train.files.sources and len(data.train.files.decode())
    assert data.name == "photos" and data.digest == same.digest


def test_every_file_that_has_an_equal_one_counts(tmp_path):
    copies = {f"test/dog/{number}.png": PNG + b"same" for number in range(3)}
    root = write(tmp_path, {**TRAIN, "test/cat": 2, "train/dog/same.png": PNG + b"same", **copies})
    (note,) = open_data(root, validation=0).notes
    assert note.startswith("3 files have an equal one in another part: train/dog/same.png (train) and test/dog/")


def test_of_more_files_than_are_compared_each_part_has_its_share(tmp_path, monkeypatch):
    """Bitmaps of one size: all of the test images are compared, and larger files are as well."""
    paths, contents = [], {}

    def add(content, count):
        for number in range(count):
            paths.append(str(tmp_path / f"{len(paths)}.bmp"))
            contents[len(paths) - 1] = content(number)

    add(lambda number: b"%04d" % number, 40)  # train: of one size
    add(lambda number: b"a larger one %04d" % number, 2)
    add(lambda number: b"%04d" % (number + 2), 3)  # test: all of them are equal to one of the first of train
    add(lambda number: b"a larger one %04d" % (number + 1), 2)
    for path, content in zip(paths, contents.values(), strict=True):
        Path(path).write_bytes(content)
    sizes = np.array(list(map(len, contents.values())))
    parts = np.repeat([0, 2], [42, 5])
    every = [(2, 42), (3, 43), (4, 44), (41, 45)]
    assert equal_files(paths, sizes, parts) == (every, 0)
    monkeypatch.setattr(equal_files_module, "MOST_FILES", 14)
    assert equal_files(paths, sizes, parts) == (every, 33)  # 4 larger ones, 3 of test and 7 of train
    monkeypatch.setattr(equal_files_module, "MOST_FILES", 20_000)
    monkeypatch.setattr(equal_files_module, "BLOCK", 1)
    monkeypatch.setattr(equal_files_module, "MOST_BYTES", 4 * 17)
    assert equal_files(paths, sizes, parts) == ([(41, 45)], 43)


def test_of_many_groups_only_those_that_are_compared_take_time(monkeypatch):
    """ImageNet has 200,000 sizes that several files have; most of them are beyond what is compared."""
    opened, ordered = [], []
    plain = equal_files_module._in_turn
    monkeypatch.setattr(equal_files_module, "MOST_FILES", 5)
    monkeypatch.setattr(equal_files_module, "_digest", lambda path, *_: opened.append(path) or path)
    monkeypatch.setattr(equal_files_module, "_in_turn", lambda *group: ordered.append(group) or plain(*group))
    sizes, parts = np.repeat(np.arange(100, 2100), 2), np.tile([0, 2], 2000)
    assert equal_files(range(4000), sizes, parts) == ([], 3995)
    assert opened == [0, 1, 2, 3, 4] and len(ordered) == 1
    assert equal_files(range(4000), sizes, np.zeros(4000, int)) == ([], 0) == equal_files((), sizes[:0], parts[:0])


def test_files_that_were_not_compared_are_told(tmp_path, monkeypatch):
    root = write(tmp_path, {**TRAIN, "test/cat/x.png": PNG + b"one", "train/cat/y.png": PNG + b"two"})
    monkeypatch.setattr(equal_files_module, "MOST_FILES", 0)
    notes = open_data(root, validation=0).notes
    said = r"no file is known to have an equal one in another part; \d+ files of equal size were not compared"
    assert any(re.fullmatch(said, note) for note in notes)
