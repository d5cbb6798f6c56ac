"""What names of folders say: flat parts and masks are no classes, and names that a reader takes for the same."""

import os

import pytest
from test_folders import write

from nasnet_keras.data import layouts
from nasnet_keras.data.folders import read_folder
from nasnet_keras.data.layouts import names_alike, words
from nasnet_keras.data.loading import open_data
from nasnet_keras.data.records import Record


def pictures(folder, end=".png", numbers=range(4)):
    return {f"{folder}/a{number}{end}": None for number in numbers}


REFUSED = {
    "COCO": {"train2017": 3, "val2017": 2, "annotations/train.json": b"{}"},
    "all of COCO": {"train2017": 3, "val2017": 2, "test2017": 2, "unlabeled2017": 3},
    "Kaggle": {"train_images": 3, "test_images": 2},
    "dogs against cats": {"train": 3, "test1": 2},
    "two domains": {"trainA": 2, "trainB": 2, "testA": 1, "testB": 1},
    "in one folder": {"images/TrainImages": 2, "images/ValidationImages": 1, "images/TestImages": 1},
    "parts of classes": {"train_cats": 2, "train_dogs": 2, "test_cats": 1, "test_dogs": 1},
    "called alike": {"bounding_box_train": 2, "bounding_box_test": 2, "query": 1},
    "other words": {"train": 2, "evaluation": 2, "val_of_old": 1},
    "a test set in a folder": {"train_images": 3, "test_images/0": 2},
}
MASKS = {
    "VOC": {**pictures("JPEGImages"), **pictures("SegmentationClass", numbers=range(2)),
            **pictures("SegmentationObject", numbers=range(2))},
    "images and a mask": {**pictures("images", ".jpg"), **pictures("mask")},
    "names of masks": {**pictures("img"), **pictures("ground_truth", "_segmentation.png")},
    "ISIC": {**pictures("ISIC_Training_Input", ".jpg"), **pictures("ISIC_Training_GroundTruth", "_mask.png")},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_flat_parts_are_no_classes(name, tmp_path):
    root = write(tmp_path / "photos", REFUSED[name])
    with pytest.raises(ValueError, match="put them into train/; if labels are in a table: --data TABLE") as caught:
        read_folder(root)
    assert str(caught.value).startswith("`data` must hold a folder for each class") and "\n" not in str(caught.value)
    assert any(part in str(caught.value).lower() for part in ("val", "test"))
    for table in ("sample.csv", "train_labels.csv"):
        write(root, {table: b"file,label"})
        with pytest.raises(ValueError) as caught:
            read_folder(root)
        assert str(caught.value).endswith(f"--data {os.path.join(root, table)}")


def test_classes_called_as_parts_have_a_way(tmp_path):
    """Into train/: where the parts are told, nothing else is one."""
    with pytest.raises(ValueError, match="of a class: if they are classes, put them into train/"):
        read_folder(write(tmp_path / "top", {"test_tube": 2, "dev_board": 2}))
    for number, names in enumerate((("test_tube", "dev_board"), ("test_tube", "train_station"), ("dev", "test"))):
        for parts in (["train"], ["train", "test"], ["train", "val"]):
            files = {f"{part}/{name}": 3 for part in parts for name in names}
            listing = read_folder(write(tmp_path / f"{number}{parts[-1]}", files))
            assert listing.folders == tuple(sorted(names)) and len(listing.parts) == len(parts)


def test_each_class_is_looked_through_once_for_masks(tmp_path, monkeypatch):
    files = {name: 3 for name in ("mask", "gas_mask", "ski_mask", "cat", "dog", "cow")}
    root, looked, plain = write(tmp_path / "a", files), [], layouts._stems
    monkeypatch.setattr(layouts, "_with_masks", lambda folder: None)
    monkeypatch.setattr(layouts, "_stems", lambda folder: looked.append(folder.name) or plain(folder))
    assert len(read_folder(root).notes) == 3 and sorted(looked) == sorted(files)


def test_what_a_training_was_begun_with_goes_on_with_the_same_words(tmp_path):
    for number, files in enumerate(({"train2017": 9, "val2017": 9}, MASKS["images and a mask"])):
        root = write(tmp_path / str(number), files)
        with pytest.raises(ValueError) as caught:
            open_data(root)
        kept = open_data(root, held_out=Record("of another list", {"test": 0.2, "validation": 0.1}))
        assert len(kept.class_names) == 2 and len(kept.train)
        said = str(caught.value).partition(f"{root} with ")[2]
        assert said and f"taken for classes as before: {said}" in kept.notes


def test_a_table_beside_flat_parts_is_named(tmp_path):
    root = write(
        tmp_path / "photos", {"train": 3, "test": 2, "sample.csv": b"x", "train.CSV": b"x", "a/train.csv": b"x"}
    )
    with pytest.raises(ValueError, match="train must hold a folder for each class") as caught:
        read_folder(root)
    assert str(caught.value).endswith(f"; if labels are in a table: --data {os.path.join(root, 'train.CSV')}")


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_images_are_no_class(name, tmp_path):
    with pytest.raises(ValueError, match="with images in .*, and what is called as masks of these in ") as caught:
        read_folder(write(tmp_path / "photos", MASKS[name]))
    assert "\n" not in str(caught.value)


PIECES = {
    "HAM10000": ({"HAM10000_images_part_1": 2, "HAM10000_images_part_2": 3}, "HAM10000_metadata.csv"),
    "chest X-rays": ({"images_001/images": 2, "images_002/images": 2, "images_012/images": 1}, "Data_Entry_2017.csv"),
    "in train": ({"train/photos1": 2, "train/Photos 2": 2}, "labels.csv"),
}


@pytest.mark.parametrize("name", PIECES)
def test_pieces_of_one_heap_are_no_classes(name, tmp_path):
    files, table = PIECES[name]
    root = write(tmp_path / "a", files)
    assert any("are called as images and differ in numbers alone" in note for note in read_folder(root).notes)
    write(root, {table: b"file,label"})
    with pytest.raises(ValueError, match="are called as images and differ in numbers alone: if they are ") as caught:
        read_folder(root)
    assert str(caught.value).endswith(f"; if labels are in a table: --data {os.path.join(root, table)}")
    assert len(read_folder(root, begun=True).folders) == len(files)


def test_numbered_classes_are_classes(tmp_path):
    for number, names in enumerate(
        (("1", "2"), ("set_1", "set_2"), ("class1", "class2"), ("data1", "data2"), ("img_猫", "img_犬"))
    ):
        root = write(tmp_path / str(number), {**dict.fromkeys(names, 2), "labels.csv": b"x"})
        assert read_folder(root).notes == ()


def test_classes_that_may_be_masks_or_parts_are_told(tmp_path):
    """Faces with a mask and without one are numbered alike, too."""
    listing = read_folder(write(tmp_path / "a", {**pictures("mask"), **pictures("bare"), "thing": 2}))
    assert listing.class_names == ("bare", "mask", "thing")
    (note,) = listing.notes
    assert note.startswith("mask/ is taken for a class, although most of its files are called as images in bare/")
    for one, other in (("with_mask", "without_mask"), ("with_mask", "original"), ("mask", "no_mask")):
        assert read_folder(write(tmp_path / one / other, {**pictures(one), **pictures(other)})).notes == ()
    assert read_folder(write(tmp_path / "c", {**pictures("mask"), "bare": 5})).notes == ()
    notes = read_folder(write(tmp_path / "d", {"test_tube": 2, "train_station": 3, "valley": 1})).notes
    assert notes == ("test_tube/, train_station/ are taken for classes, and for no parts",)
    notes = read_folder(write(tmp_path / "e", {"cat": 2, "dog": 3, "test2017": 2})).notes
    assert notes == ("test2017/ is taken for a class, and for no part",)


def test_words_of_names():
    assert words("JPEGImages_2017") == ["jpeg", "images"] and words("stage1-trainA") == ["stage", "train", "a"]
    assert words("isTest") == ["is", "test"] and words("IS_TEST") == ["is", "test"] and words("\u732b 7") == []


def test_names_that_a_reader_takes_for_the_same():
    """Letters in two forms, blanks, and numbers that have become floats; and what programs write for nothing."""
    assert list(names_alike(["1", "10", "1.5", "none", "caf\u00e9", "Cat", "dog"])) == []
    case, other, gaps = names_alike(["Cat", "cat", "1", "1.0", "a  b", "a b", "cafe\u0301", "caf\u00e9", "nan", "<NA>"])
    assert case.endswith("only in upper and lower case are different ones: Cat and cat")
    assert other.endswith("are different ones: 1 and 1.0, a  b and a b, cafe\u0301 and caf\u00e9")
    assert gaps.startswith("nan, <NA>: ")
