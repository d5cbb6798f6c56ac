"""Which columns of a table say the part of a row, by marks or among other words; and what is no column of paths."""

import numpy as np
import pytest
from test_tables import ROWS, DataFrame, place, root  # noqa: F401  (fixtures)
from written_tables import HEADER, write

from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import Record
from nasnet_keras.data.tables import read_table


def lengths(listing):
    return {part: len(files) for part, files in listing.parts.items()}


def table(path, cells, names, rows=ROWS):
    """A table whose rows have these further cells, a function of the row's number."""
    write(path, [(*row, *cells(number)) for number, row in enumerate(rows)], (*HEADER, *names))
    return path


@pytest.mark.parametrize(
    ("name", "yes", "no", "part"),
    [
        ("is_valid", "True", "False", "validation"),
        ("valid", "1", "0", "validation"),
        ("isTest", "1.0", "", "test"),
        ("test_set", "yes", "no", "test"),
        ("is train", "f", "t", "test"),
    ],
)
def test_a_column_of_marks_is_used_as_the_part_that_it_is_called(name, yes, no, part, place):  # noqa: F811
    path = table(place / "t.csv", lambda number: ("x", yes if number % 4 == 0 else no), ("note", name))
    listing = read_table(path)
    assert lengths(listing) == {"train": 30, part: 10}
    assert listing.notes[0].startswith(f"the column {name} marks images for ") and "is used as that" in listing.notes[0]
    assert all(int(file[-6:-4]) % 4 == 0 for file in listing.parts[part].paths)
    assert listing.notes[0].endswith("not with --split-column none") and len(listing.notes) == 1
    data = open_data(path, columns=None)
    assert len(getattr(data, part)) == 10


def test_columns_of_marks_for_several_parts(place):  # noqa: F811
    def cells(number):
        return tuple(int(number % 4 == own) for own in (0, 1))

    listing = read_table(table(place / "a.csv", cells, ("is_val", "is_test")))
    assert lengths(listing) == {"train": 20, "validation": 10, "test": 10}
    listing = read_table(
        table(place / "b.csv", lambda number: (*cells(number), number % 4 == 2), ("val", "test", "train"))
    )
    assert lengths(listing) == {"train": 10, "validation": 10, "test": 10}
    assert listing.left_out.summary() == "10 rows of other parts: none given"
    listing = read_table(table(place / "c.csv", cells, ("test", "is_test")))
    assert lengths(listing) == {"train": 40} and "the columns test, is_test mark images of one part" in listing.notes[0]
    listing = read_table(
        table(place / "d.csv", lambda number: ("1", "test" if number % 2 else "train"), ("test", "set"))
    )
    assert lengths(listing) == {"train": 20, "test": 20} and listing.notes[0].startswith("the column set names parts")
    with pytest.raises(ValueError, match="must have rows for train. Received: test"):
        read_table(table(place / "e.csv", lambda number: ("1", "1"), ("test", "valid")))


def test_marks_that_may_mean_something_else(place):  # noqa: F811
    path = table(place / "a.csv", lambda number: (int(number % 8 > 1),), ("valid",))
    listing = read_table(path)
    assert lengths(listing) == {"train": 40} and listing.notes == (
        "the column valid marks most rows, and is not taken for one of validation images: --split-column valid",
    )
    data = load_data(path, split_column="valid")
    assert (
        len(data.validation) == 30 and "the column valid marks images for validation, and is used as that" in data.notes
    )
    for cells in (lambda number: ("0",), lambda number: (str(number % 3),), lambda number: ("",)):
        assert read_table(table(place / "b.csv", cells, ("test",))).notes == ()
    assert load_data(table(place / "c.csv", lambda number: (number % 2,), ("test",)), split_column="none").notes == ()
    write(place / "d.csv", [(file, number % 2, 1 - number % 2) for number, (file, _) in enumerate(ROWS)],
          ("file", "bus", "train"))  # fmt: skip
    assert load_data(place / "d.csv", label_column=["bus", "train"]).class_names == ("bus", "train")


def test_parts_among_other_words_are_told(place):  # noqa: F811
    path = table(place / "a.csv", lambda number: (("extra", "Train", "test", "")[number % 4], number), ("set", "id"))
    listing = read_table(path)
    assert lengths(listing) == {"train": 40} and listing.notes == (
        "the column set names parts among others (extra), and is not used: --split-column set",
    )
    data = load_data(path, split_column="set")
    assert (len(data.test), len(data.left_out)) == (10, 20)
    words = [f"word {number}" for number in range(30)]
    path = table(place / "b.csv", lambda number: ((["train", "test"] + words)[number % 32],), ("text",))
    assert read_table(path).notes == ()  # a text in which they happen to stand


def test_a_training_goes_on_whose_version_did_not_look_at_marks(place):  # noqa: F811
    path = table(place / "a.csv", lambda number: (int(number % 4 == 0),), ("is_valid",))
    old = read_table(path, as_before=True)
    assert lengths(old) == {"train": 40}
    shares = {"test": 0.2, "validation": 0.1}
    kept = Record(
        old.digest(), shares, {"test": ("images/cat00.png",), "validation": ("images/dog00.png",)}, frozenset((b"x",))
    )
    assert (before := open_data(path, held_out=kept)).digest == old.digest() and len(before.validation) < 10
    assert open_data(path).digest != old.digest()


def test_columns_of_marks_and_of_bytes_in_frames_and_parquet(place, monkeypatch):  # noqa: F811
    monkeypatch.chdir(place)
    files, labels = (np.array(column) for column in zip(*ROWS, strict=True))
    marks = np.arange(40) % 4 == 0
    for own in (marks, marks.astype(int), marks.astype(float)):
        assert lengths(read_table(DataFrame(file=files, label=labels, is_valid=own))) == {"train": 30, "validation": 10}
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parts = [b"test" if mark else b"train" for mark in marks]
    pictures = [bytes(50)] * 40
    columns = {"file": list(files), "label": list(labels), "set": parts, "pixels": pictures}
    for kind in (arrow.binary(), arrow.large_binary()):
        columns["set"] = arrow.array(parts, kind)
        parquet.write_table(arrow.table(columns), "a.parquet")
        assert lengths(read_table("a.parquet")) == {"train": 30, "test": 10}
    columns["is_test"] = arrow.array(list(marks))
    parquet.write_table(arrow.table({name: columns[name] for name in columns if name != "set"}), "b.parquet")
    assert lengths(read_table("b.parquet")) == {"train": 30, "test": 10}
