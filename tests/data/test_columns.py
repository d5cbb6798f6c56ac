"""Which columns of a table say the part of a row, by marks or among other words; and what is no column of paths."""

import base64
import io
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tables import ROWS, DataFrame, place, root  # noqa: F401  (fixtures)
from written_tables import HEADER, write

from nasnet_keras.data.columns import LOOKED_AT, Columns, Division, choose
from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import Record, mark, read_record, write_record
from nasnet_keras.data.table_files import open_table
from nasnet_keras.data.tables import note_of_joined, read_table

ROWS_OF_MANY = 3000


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
    said = (
        "must have rows for train. Received: test, validation; the columns test, dev mark images for test, validation"
    )
    with pytest.raises(ValueError, match=said):
        read_table(table(place / "e.csv", lambda number: (number % 2, 1 - number % 2), ("test", "dev")))
    for names in (("note", "test"), ("dev", "is_test")):  # rows of a table that were chosen by their mark
        listing = read_table(table(place / "f.csv", lambda number: ("1", "1"), names))
        assert lengths(listing) == {"train": 40}
        assert f"the column {names[1]} marks all rows for test, none for training, and is not used" in listing.notes


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
    path = table(place / "c.csv", lambda number: (("Training", "PublicTest", "PrivateTest")[number % 3],), ("Usage",))
    assert read_table(path).notes == (
        "the column Usage names parts among others (PrivateTest, PublicTest), and is not used: --split-column Usage",
    )
    path = table(place / "d.csv", lambda number: (("0", "train", "test")[number % 3],), ("test",))
    assert "names parts among others (0), and is not used" in read_table(path).notes[0]
    words = [f"word {number}" for number in range(30)]
    path = table(place / "b.csv", lambda number: ((["train", "test"] + words)[number % 32],), ("text",))
    assert read_table(path).notes == ()  # a text in which they happen to stand


MARKED = {  # cells of a row, and what its column is called
    "marks.csv": (lambda number: (int(number % 4 == 0),), "is_test"),
    "marks.parquet": (lambda number: (number % 4 == 0,), "is_valid"),
    "bytes.parquet": (lambda number: (b"train" if number % 4 else b"test",), "set"),
}


@pytest.mark.parametrize("name", MARKED)
def test_a_directory_goes_on_whose_version_passed_columns_over(name, place):  # noqa: F811
    cells, column = MARKED[name]
    path = table(place / name, cells, (column,))
    part = "validation" if column == "is_valid" else "test"
    kept = open_data(path, columns=Columns(split="none")).record  # as that version read it
    assert set(kept.shares) == {"validation", "test"} and kept.digest == read_table(path, as_before=True).digest()
    assert open_data(path).digest != kept.digest
    said = f"what the table marks for {part} is not used: other images were held out before"
    data = open_data(path, held_out=kept)
    assert data.digest == kept.digest and said in data.notes
    corrected = [(file, "dog" if number == 5 else label) for number, (file, label) in enumerate(ROWS)]
    for rows in (corrected, ROWS[:-1], ROWS[:9] + [("images/none.png", "cat")] + ROWS[9:]):
        data = open_data(table(path, cells, (column,), rows), held_out=kept)
        assert said in data.notes and set(data.record.shares) == {"validation", "test"}
        assert {*data.record.sides[part]} <= {*kept.sides[part]}
    # Of images that it has not seen the marks count.
    names = [(f"./images/../other/{number}.png", label) for number, (_, label) in enumerate(ROWS)]
    (place / "other").mkdir()
    for number, (file, _) in enumerate(ROWS):
        os.link(place / file, place / "other" / f"{number}.png")
    assert len(getattr(open_data(table(path, cells, (column,), names), held_out=kept), part)) == 10


def test_a_column_that_is_added_later_divides_nothing_anew(place):  # noqa: F811
    """Names without a suffix stay completed then."""
    rows = [(file.removesuffix(".png"), label) for file, label in ROWS]
    write(place / "a.csv", rows)
    kept = open_data(place / "a.csv").record
    data = open_data(table(place / "a.csv", lambda number: (number % 2,), ("is_test",), rows), held_out=kept)
    assert data.digest == kept.digest and data.record.sides == kept.sides


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


PNG = io.BytesIO()
Image.new("RGB", (4, 4)).save(PNG, "PNG")
PNG = PNG.getvalue()
CELLS = {
    "bytes": PNG,
    "Hugging Face's": {"bytes": PNG, "path": None},
    "Pillow's": Image.new("RGB", (4, 4)),
    "an array": np.zeros((4, 4, 3), np.uint8),
    "a list": [[0, 1], [2, 3]],
    "text": base64.b64encode(PNG * 100).decode(),
    "a file": io.BytesIO(PNG),
}


@pytest.mark.parametrize("kind", CELLS)
def test_images_in_the_table_are_told_in_a_line(kind):
    column = np.empty(3, object)
    column[1] = CELLS[kind]
    frame = DataFrame(image=column, label=np.array(["a", "b", "a"]))
    said = r"^`file_column` must name a column of paths. Received: the column image, which holds the images themselves"
    with pytest.raises(ValueError, match=said) as caught:
        read_table(frame)
    assert str(caught.value).endswith("write the images to files, or give `load_data` (bytes, label) pairs")


def test_images_in_parquet_are_told_after_the_first_rows(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    column = arrow.array([{"bytes": PNG, "path": f"{number}.png"} for number in range(20)])
    parquet.write_table(arrow.table({"image": column, "label": [0, 1] * 10}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="the column image, which holds the images themselves"):
        load_data(tmp_path / "a.parquet")
    # As a further column of many rows they are not read to the end.
    columns = {"file": ["x.png"] * ROWS_OF_MANY, "label": ["a"] * ROWS_OF_MANY, "pixels": [PNG] * ROWS_OF_MANY}
    columns["set"] = ["train", "test"] * (ROWS_OF_MANY // 2)
    parquet.write_table(arrow.table(columns), tmp_path / "b.parquet")
    division, read = chosen(tmp_path / "b.parquet")
    assert division.columns == ("set",) and read["set"] > ROWS_OF_MANY and 0 < read["pixels"] <= LOOKED_AT


def chosen(path):
    """(the `Division` of a table, {name of a column: how many rows of it were read for that})."""
    table, read = open_table(path), Counter()
    plain = table.rows

    def counted(names):
        for row in plain(names):
            read.update(names)
            yield row

    table.rows = counted
    return choose(table, Columns(), labelled=True)[2], read


def test_columns_of_words_alone_are_not_read_to_the_end(tmp_path):
    rows = []
    for number in range(ROWS_OF_MANY):
        is_late = number > LOOKED_AT
        rows.append(("x.png", "a", "red", "test" if is_late else "early", "test" if is_late else ""))
    write(tmp_path / "a.csv", rows, ("file", "label", "colour", "note", "kind"))
    division, read = chosen(tmp_path / "a.csv")
    assert read["colour"] == read["note"] == LOOKED_AT and read["kind"] == ROWS_OF_MANY + LOOKED_AT
    assert division == Division()


def test_paths_of_every_kind_are_none_of_images(place, monkeypatch):  # noqa: F811
    monkeypatch.chdir(place)
    labels = np.array([label for _, label in ROWS])
    for kind in (str, Path, os.fsencode):
        files = np.empty(40, object)
        files[:] = [kind(file) for file, _ in ROWS]
        files[0] = None
        assert len(read_table(DataFrame(file=files, label=labels)).parts["train"]) == 39
    for number in range(40):
        os.link(ROWS[number][0], f"{number}.png")
    for kind in (int, float):  # ids without a suffix, of which one is not there
        files = np.arange(40).astype(kind)
        assert len(read_table(DataFrame(file=files, label=labels)).parts["train"]) == 40


def test_names_of_any_length_are_kept_short(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    write(tmp_path / "t.csv", [("a.png", "x"), ("b" * 100_000, "y"), ("b" * 100_001, "y")])
    left_out = read_table(tmp_path / "t.csv").left_out
    assert len(left_out) == 2 and max(map(len, left_out)) < 600


LISTS_OF = {
    "python": [repr(["cat", "dog"]), repr(("dog",)), repr([])],
    "json": [json.dumps(["cat", "dog"]), json.dumps(["dog"]), " [] "],
}


@pytest.mark.parametrize("separator", [None, ","])
@pytest.mark.parametrize("kind", LISTS_OF)
@pytest.mark.parametrize("name", ["a.csv", "b.jsonl"])
def test_texts_of_lists_are_lists(name, kind, separator, place):  # noqa: F811
    """As `pandas.to_csv` writes them; each was a class, and a separator made labels such as `['cat'`."""
    rows = [(file, LISTS_OF[kind][number % 3]) for number, (file, _) in enumerate(ROWS)]
    write(place / name, rows)
    listing = read_table(place / name, Columns(separator=separator))
    assert listing.folders == ("cat", "dog") and listing.parts["train"].labels.sum(0).tolist() == [14, 27]
    assert listing.notes[0].startswith("labels are texts of lists: an image may have several")
    assert ("the separator ',' is not used" in listing.notes[0]) == (separator is not None)
    assert "13 images without any label count as having none of them" in listing.notes
    # An earlier version's directory goes on with its classes.
    kept = open_data(place / name, held_out=None, columns=Columns(separator=separator)).record
    before = read_table(place / name, Columns(separator=separator), lists=False)
    assert before.folders != listing.folders and not before.listed
    kept = replace(kept, lists=False)
    data = open_data(place / name, held_out=replace(kept, digest=before.digest()), columns=Columns(separator=separator))
    assert data.class_names == before.class_names
    assert any("texts of lists are a class each" in note for note in data.notes)


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("marks", [False, True])
def test_lists_are_classes_where_an_earlier_version_began(marks, grown, place):  # noqa: F811
    """Whether or not that used a column of marks, and also where a row has come since."""
    path, several = place / "a.csv", place / "b.csv"
    rows = [(file, repr([label]), number % 4 == 3) for number, (file, label) in enumerate(ROWS)]
    write(path, rows[: -1 if grown else None], (*HEADER, "is_valid"))
    write(several, rows[:-2], (*HEADER, "is_valid"))
    new = open_data(several)
    before = read_table(path, as_before=not marks, lists=False)
    assert before.folders == ("['cat']", "['dog']") and before.listed_as_classes
    assert before.parts.keys() == ({"train", "validation"} if marks else {"train"})
    names = map(before.name_of, before.parts["train"].paths)
    shares = {"test": 0.2} if marks else {"test": 0.2, "validation": 0.1}
    kept = Record(before.digest(), shares, trained=frozenset(map(mark, names)))
    write(path, rows, (*HEADER, "is_valid"))
    data = open_data(path, held_out=kept)
    assert data.class_names == before.folders and not data.record.lists
    assert data.digest == kept.digest or grown
    assert any("texts of lists are a class each" in note for note in data.notes)
    assert any("marks for validation is not used" in note for note in data.notes) == (not marks)
    # What this version began goes on with its labels, whatever has come.
    write_record(place / "run", new)
    write(several, rows, (*HEADER, "is_valid"))
    assert open_data(several, held_out=read_record(place / "run")).class_names == ("cat", "dog")


def test_a_text_of_a_list_is_read_once(place, monkeypatch):  # noqa: F811
    read, loads = [], json.loads
    monkeypatch.setattr("nasnet_keras.data.columns.json.loads", lambda text: read.append(text) or loads(text))
    write(place / "a.csv", [(file, json.dumps([label, "read once"])) for file, label in ROWS])
    assert read_table(place / "a.csv").folders == ("cat", "dog", "read once") and len(read) == 2


OTHERS = [
    ["[0, 1]", "[1, 0]"],
    ["[0 1]", "[1 0]"],
    ["[cat]", "['dog']"],
    ["(1)", "(2)"],
    ["(0, 2)", "(25, 32)"],  # ages of Adience
    ["{1, 2}", "{3, 4}"],
    ["('cat', 1)", "('dog', 2)"],
]


@pytest.mark.parametrize("cells", OTHERS)
def test_other_texts_in_brackets_are_classes(cells, place):  # noqa: F811
    write(place / "a.csv", [(file, cells[number % 2]) for number, (file, _) in enumerate(ROWS)])
    assert read_table(place / "a.csv").folders == tuple(sorted(cells))


TAGS = ["clear primary", "cloudy", "clear primary road", "haze primary", "haze primary road", "clear road", "haze road"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (TAGS, "labels such as clear primary are one each: --separator ' ' makes them several"),
        ([f"{colour} {animal}" for colour in ("black", "white", "red") for animal in ("cat", "dog", "cow")], None),
        (["cat", "dog", "great dane", "great tit"], None),
        (["left", "right", "far left", "far right", "far"], None),
        ([f"{number // 10},{number % 10}" for number in range(30)], None),  # decimal commas
        (["1,2", "1", "2", "3", "2,3"], "labels such as 1,2 are one each: --separator ',' makes them several"),
        (["1,2", "2,3", "1,2,3", "1,3"], "labels such as 1,2 are one each: --separator ',' makes them several"),
    ],
)
def test_labels_that_look_like_several_in_one_are_told(names, said):
    assert note_of_joined(names) == said


def test_numbers_with_decimal_commas_are_told(place):  # noqa: F811
    rows = [(file, f'"{number // 10},{number % 10}"') for number, (file, _) in enumerate(ROWS)]
    (place / "a.csv").write_text("file;label\n" + "".join(f"{file};{label}\n" for file, label in rows))
    (note,) = read_table(place / "a.csv").notes
    assert note == "numbers such as 0,0 are a class each: that a number is learnt (regression) is not there"
