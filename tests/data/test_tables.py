"""Tables as people have them: formats, columns, what is left out, and what strangers put in them."""

import codecs
import json
import os
import time
import unicodedata
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from written_tables import HEADER, write

from nasnet_keras.commands.datasets import Told
from nasnet_keras.data.loading import load_data, open_data
from nasnet_keras.data.records import knows, read_record, write_record
from nasnet_keras.data.splits import placed, strata
from nasnet_keras.data.tables import Columns, read_table

ROWS = [(f"images/{name}{number:02}.png", name) for name in ("cat", "dog") for number in range(20)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty images in one folder, whose names alone do not tell what they are of."""
    root = tmp_path_factory.mktemp("tables")
    (root / "images").mkdir()
    for number, (file, _) in enumerate(ROWS):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(root / file)
    return root


@pytest.fixture
def place(root, tmp_path):
    """A folder of the test's own with these images."""
    (tmp_path / "images").symlink_to(root / "images")
    return tmp_path


def commas(rows, header=HEADER, **options):
    text = ",".join(header) + "\r\n"
    return text + "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in rows) + "\r\n"


@pytest.mark.parametrize("name", ["a.csv", "b.tsv", "c.jsonl", "d.parquet"])
def test_every_format_says_the_same(name, place):
    write(place / name, ROWS)
    data = load_data(place / name)
    other = load_data(place / name, seed=5)
    assert data.class_names == ("cat", "dog") and not data.left_out and not data.notes
    assert [len(split) for split in (data.train, data.validation, data.test)] == [
        len(split) for split in (other.train, other.validation, other.test)
    ]
    for split in (data.train, data.validation, data.test):
        numbers = split.images[:, 0, 0, 0]  # the red of an image is its number
        assert len(split) and [ROWS[number][1] for number in numbers] == [data.class_names[i] for i in split.labels]


def encoded(text, kind):
    marks = {"utf-8-sig": b"", "utf-8": b"", "utf-16-le": codecs.BOM_UTF16_LE}
    return marks[kind] + text.encode(kind)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (commas(ROWS), "utf-8-sig"),
        (commas(ROWS), "utf-16-le"),
        (commas(ROWS).replace(",", ";"), "utf-8"),
        (commas(ROWS).replace('"', ""), "utf-8"),
        (commas(ROWS) + "\r\n\r\n", "utf-8"),
        (commas(ROWS, ("Image_Path", "Class")), "utf-8"),
        (commas([(file.replace("/", "\\"), label) for file, label in ROWS]), "utf-8"),
        (commas([(f"./images/../{file}", f" {label} ") for file, label in ROWS]), "utf-8"),
        (commas([(i, *row) for i, row in enumerate(ROWS)], ("", "file", "label")), "utf-8"),
        ("\r\n".join(f"{file},{label}" for file, label in ROWS), "utf-8"),
    ],
)
def test_text_as_spreadsheets_and_programs_write_it(content, kind, place):
    (place / "t.csv").write_bytes(encoded(content, kind))
    columns = (
        {} if "ile" in content.splitlines()[0] or "mage_" in content else {"file_column": "1", "label_column": "2"}
    )
    data = load_data(place / "t.csv", **columns)
    assert data.class_names == ("cat", "dog") and not data.left_out
    assert sum(map(len, (data.train, data.validation, data.test))) == 40


def test_names_with_commas_quotes_and_line_ends(place):
    for number in range(2):
        for copy in range(3):
            Image.new("RGB", (4, 4), (number, copy, 7)).save(place / f"odd, {number} {copy}.png")
    write(place / "t.csv", [(f"odd, {n} {c}.png", name) for n, name in enumerate(['a "b", c', "two\nlines"])
                            for c in range(3)])  # fmt: skip
    assert load_data(place / "t.csv").class_names == ('a "b", c', "two\\nlines")


def test_parts_are_those_of_the_column(place):
    parts = ["Train", "valid", "testing", "train"]
    rows = [(file, label, parts[number % 4]) for number, (file, label) in enumerate(ROWS)]
    write(place / "t.csv", [*rows, ("images/cat00.png", "cat", "holdout")], (*HEADER, "split"))
    data = load_data(place / "t.csv")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 10, 10]
    assert data.left_out.summary() == "1 row of another part: holdout"
    write(place / "u.csv", [(*row, "front") for row in ROWS], (*HEADER, "part"))
    data = load_data(place / "u.csv")
    assert "the column part names no part, and is not used" in data.notes[0] and len(data.test)
    with pytest.raises(ValueError, match="must have a row whose file is there. Received: 40 rows of other parts"):
        load_data(place / "u.csv", split_column="part")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_column_of_parts_is_used_whatever_it_is_called(name, place):
    """What it marks must not be trained on."""
    parts = ["Train", "valid", "testing", "train"]
    header, rows = ("file", "id", "label", "data set"), []
    for number, (file, label) in enumerate(ROWS):
        rows.append((file, number, label, parts[number % 4] if number else "train"))
    write(place / name, rows, header)
    data = load_data(place / name)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 10, 10]
    assert data.notes == ("the column data set names parts, and is used as that; not with --split-column none",)


def test_columns_that_only_may_be_parts_are_told(place):
    def notes(cells, header=("file", "label", "one", "two"), **options):
        write(place / "t.csv", [(*row, *cells(number)) for number, row in enumerate(ROWS)], header)
        return load_data(place / "t.csv", **options).notes

    both = notes(lambda number: ("train", "train" if number % 2 else "val") if number % 3 else ("test", ""))
    assert both == ("the columns one, two name parts, and are not used: --split-column says which one counts",)
    for cells in ((("test", "dev"), "x"), (("test", ""), "x")):
        (none,) = notes(lambda number, cells=cells: (cells[0][number % 2], cells[1]))
        assert none == "the column one names parts but none for training, and is not used"
    assert notes(lambda number: ("train", "train" if number < 39 else "tram")) == ()
    assert notes(lambda number: ("train", ("train", "test")[number % 2]), split_column="two") == ()
    assert notes(lambda number: ("x", ("train", "test")[number % 2]), split_column="none") == ()


def test_the_words_for_parts_are_told_where_others_stand(place):
    rows = [(*row, str(number % 2)) for number, row in enumerate(ROWS)]
    write(place / "t.csv", rows, (*HEADER, "fold"))
    words = "; parts are called train, training, val, valid, validation, dev, test, testing"
    with pytest.raises(ValueError, match="must have a row whose file is there") as error:
        load_data(place / "t.csv", split_column="fold")
    assert str(error.value).endswith(f"Received: 40 rows of other parts: 0, 1{words}")
    write(place / "t.csv", [*rows, ("images/cat00.png", "cat", "test")], (*HEADER, "fold"))
    with pytest.raises(ValueError, match="must have rows for train. Received: test, and 40 rows of other") as error:
        load_data(place / "t.csv", split_column="fold")
    assert str(error.value).endswith(words)


def test_what_cannot_be_used_is_counted_by_reason(place):
    (place / "empty.png").touch()
    (place / "folder.png").mkdir()
    (place / "loop.png").symlink_to("loop.png")
    (place / "web.png").write_text("<html>")
    more = [("gone.png", "cat"), ("empty.png", "cat"), ("folder.png", "cat"), ("loop.png", "cat"), ("web.png", "cat"),
            ("images/cat00.png", "cat"), ("images/dog00.png", ""), ("", "dog"), ("x\0.png", "dog")]  # fmt: skip
    (place / "t.jsonl").write_text(
        "".join(json.dumps({"file": file, "label": label}) + "\n" for file, label in ROWS[:20] + ROWS[21:] + more)
    )
    data = load_data(place / "t.jsonl")
    counted = {reason.partition(":")[0]: len(names) for reason, names in data.left_out.by_reason().items()}
    assert counted == {
        "file that is not there": 2, "broken file": 1, "entry that is no file": 1, "entry that cannot be read": 1,
        "row that is there twice": 1, "image without a label": 1, "row without a file": 1,
    } | {"broken file": 1}  # fmt: skip
    assert sum(len(names) for names in data.left_out.by_reason().values()) == 9
    with pytest.raises(ValueError, match="`strict` allows nothing that is left out"):
        load_data(place / "t.jsonl", strict=True)


def test_a_row_that_is_left_out_has_another_name_than_the_image_that_is_used(place):
    """Which may turn out to be broken: that is told, too."""
    (place / "web.png").write_text("<html>")
    more = [
        ("web.png", "cat"),
        ("web.png", "cat"),
        ("web.png", "cat"),
        ("web.png", ""),
        ("gone.png", "a"),
        ("gone.png", "a"),
    ]
    write(place / "t.csv", [*ROWS, *more, ("images/cat00.png", "")])
    listing = read_table(place / "t.csv")
    twice, empty, gone = ("twice", ""), ("label", ""), ("missing", "")
    assert listing.left_out.entries == {
        "web.png, again in row 43": twice, "web.png, again in row 44": twice, "web.png, again in row 45": empty,
        "gone.png": gone, "gone.png, again in row 47": gone, "images/cat00.png, again in row 48": empty,
    }  # fmt: skip
    data = load_data(place / "t.csv")
    assert dict(data.left_out)["web.png"].startswith("broken file") and len(data.left_out) == 7
    told = Told(open_data(place / "t.csv"))
    told.data.train.images.broken[str(place / "web.png")] = "it is none"
    assert set(told.data.all_left_out()) - told.known == {"web.png"}


def test_a_file_with_two_labels_is_refused_unless_it_may_have_several(place):
    write(place / "t.csv", [*ROWS, (ROWS[0][0], "dog")])
    with pytest.raises(ValueError, match=r"one label for a file.*two for images/cat00.png, the second in row 42"):
        load_data(place / "t.csv")
    data = load_data(place / "t.csv", separator="|")
    assert data.several and data.notes == ("1 rows name a file of another row: their labels are joined",)
    every = np.concatenate([split.labels for split in (data.train, data.validation, data.test)])
    assert every.sum(0).tolist() == [20, 21] and every.all(1).sum() == 1


PARTED = [(*row, ("train", "validation", "test", "train")[number % 4]) for number, row in enumerate(ROWS)]
SPLIT = (*HEADER, "split")


def test_a_file_has_one_label_in_all_parts_and_is_of_one(place):
    write(place / "t.csv", [*PARTED, (ROWS[0][0], "dog", "test")], SPLIT)
    with pytest.raises(ValueError, match=r"one label for a file.*two for images/cat00.png, the second in row 42"):
        load_data(place / "t.csv")
    write(place / "t.csv", [*PARTED, (ROWS[0][0], "cat", "test")], SPLIT)
    data = open_data(place / "t.csv")
    told = "1 row that is there twice: train keeps a file that has rows of train and test"
    assert data.left_out.summary() == told and [len(data.train), len(data.test)] == [20, 10]
    assert open_data(place / "t.csv").digest != read_table(place / "t.csv", in_each_part=True).digest()
    with pytest.raises(ValueError, match="`strict` allows nothing that is left out"):
        load_data(place / "t.csv", strict=True)
    write(place / "t.csv", [*PARTED, (ROWS[0][0], "dog", "test")], SPLIT)
    data = open_data(place / "t.csv", columns=Columns(separator="|"))
    assert data.left_out.summary() == told and len(data.train) == 20 and data.train.labels.all(1).sum() == 1


@pytest.mark.parametrize("label", ["cat", "dog"])
@pytest.mark.parametrize("suffix", [".png", ""])
def test_a_directory_goes_on_whose_version_had_a_file_in_two_parts(label, suffix, place):
    rows = [(file.removesuffix(".png") + suffix, *more) for file, *more in PARTED]
    write(place / "t.csv", [*rows, (rows[0][0], label, "test")], SPLIT)
    listing = read_table(place / "t.csv", in_each_part=True)
    write(place / "u.csv", rows, SPLIT)
    kept = replace(open_data(place / "u.csv").record, digest=listing.digest())
    data = open_data(place / "t.csv", held_out=kept)
    assert data.digest == kept.digest and [len(data.train), len(data.test)] == [20, 11] and not data.left_out
    said = "files that have rows of several parts are used in each: so it was when this directory was begun"
    assert said in data.notes
    if label == "dog":  # what is begun anew, or with another table, is refused
        with pytest.raises(ValueError, match="must have one label for a file"):
            open_data(place / "t.csv", held_out=replace(kept, digest="0" * 32))


@pytest.mark.parametrize("form", ["separator", "columns", "lists", "minus"])
def test_several_labels_in_every_form(form, place, rng):
    marks = rng.random((40, 3)) < 0.4
    names = ("blue", "red", "tall")
    options = {"label_column": list(names)}
    if form == "separator":
        rows = [(file, "; ".join(np.array(names)[own])) for (file, _), own in zip(ROWS, marks, strict=True)]
        write(place / "t.csv", rows)
        options = {"separator": ";"}
    elif form == "lists":
        rows = [(file, np.array(names)[own].tolist()) for (file, _), own in zip(ROWS, marks, strict=True)]
        write(place / "t.jsonl", rows)
        options = {}
    else:
        no = "-1" if form == "minus" else "0"
        rows = [(file, *("1" if one else no for one in own)) for (file, _), own in zip(ROWS, marks, strict=True)]
        write(place / "t.csv", rows, ("file", *names))
    data = load_data(next(place.glob("t.*")), **options)
    assert data.class_names == names and data.several and not data.left_out
    for split in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(split.labels, marks[split.images[:, 0, 0, 0]])
    assert len(data.test) and len(data.validation)
    corrected = load_data(place / next(place.glob("t.*")).name, **options)
    assert corrected.digest == data.digest


def test_columns_that_are_no_marks_are_refused(place):
    write(place / "t.csv", [(file, "1", "maybe") for file, _ in ROWS], ("file", "a", "b"))
    with pytest.raises(ValueError, match=r"1 or 0.*'maybe' in row 2 of b"):
        load_data(place / "t.csv", label_column=["a", "b"])
    write(
        place / "t.csv",
        [(file, "1", "0" if number else "-1") for number, (file, _) in enumerate(ROWS)],
        ("file", "a", "b"),
    )
    with pytest.raises(ValueError, match="-1 beside 0"):
        load_data(place / "t.csv", label_column=["a", "b"])


def test_labels_that_look_like_several_are_told(place):
    write(place / "t.csv", [(file, ("a", "b", "a|b")[number % 3]) for number, (file, _) in enumerate(ROWS)])
    assert "--separator '|' makes them several" in " ".join(load_data(place / "t.csv").notes)


def test_an_image_stays_on_its_side_when_its_label_is_corrected_or_the_table_grows(place):
    write(place / "t.csv", ROWS[:-3])
    before = load_data(place / "t.csv", test=0.3)
    write(place / "u.csv", [(ROWS[0][0], "dog"), *ROWS[1:]])
    after = load_data(place / "u.csv", test=0.3)
    assert set(before.test.images[:, 0, 0, 0]) <= set(after.test.images[:, 0, 0, 0])
    assert before.digest != after.digest
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "images").symlink_to(place / "images")
    write(place / "elsewhere" / "t.csv", ROWS[:-3])
    assert load_data(place / "elsewhere" / "t.csv").digest == before.digest


# ---------------------------------------------------------------- what strangers write


def test_paths_that_leave_the_folder_are_refused_unless_asked(place, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Image.new("RGB", (4, 4)).save(other / "x.png")
    for name in (f"../{other.name}/x.png", str(other / "x.png"), f"images/../../{other.name}/x.png"):
        write(place / "t.csv", [*ROWS, (os.path.relpath(other / "x.png", place) if name[0] == "." else name, "cat")])
        with pytest.raises(ValueError, match=r"must name files in .*unless `outside` is set.*in row 42"):
            load_data(place / "t.csv")
        assert not load_data(place / "t.csv", outside=True).left_out
    write(place / "t.csv", [(str(place / file), label) for file, label in ROWS])
    assert not load_data(place / "t.csv").left_out  # absolute, and inside
    write(place / "elsewhere.csv", [(file.removeprefix("images/"), label) for file, label in ROWS])
    with pytest.raises(ValueError, match=r"40 files that are not there, such as cat00.png; paths are relative to"):
        load_data(place / "elsewhere.csv")
    assert not load_data(place / "elsewhere.csv", file_root=place / "images").left_out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "must be text"),
        (b"file,label\na.png,\xff\xfe\n", "must be text in UTF-8"),
        (b"", "names of its columns"),
        (b"file,label\n", "must have a row whose file is there. Received: no row"),
        (b"file,label\na.png\n", "must have 2 cells in a line. Line 2 has 1"),
        (b"file,label\na.png,b,c\n", "must have 2 cells in a line. Line 2 has 3"),
        (b'file,label\n"a.png,b\n', "must be a table. Line 2"),
        (b"file,label\n" + b'"' + b"x" * 200_000 + b'",b\n', "must be a table. Line 2"),
        (b"file,file\na.png,b\n", "different names"),
        (b"file,word\na.png,b\n", "`label_column` must be given for"),
        (b"file,path,label\na.png,b,c\n", "`file_column` must be given for.*several that may be meant"),
    ],
)
def test_what_is_no_table_is_one_line(content, says, place):
    (place / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        load_data(place / "t.csv")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("content", [b"[1]\n", b"{\n", b"[" * 100_000, b'{"file": "a"'])
def test_lines_that_are_no_objects(content, place):
    (place / "t.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="a JSON object in each line, unlike line 1"):
        load_data(place / "t.jsonl")


def test_a_parquet_file_that_is_none(place):
    pytest.importorskip("pyarrow")
    (place / "t.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ValueError, match=r"cannot read `data` .*t.parquet"):
        load_data(place / "t.parquet")


def test_a_million_labels_end_in_a_line(place):
    (place / "t.csv").write_text("file,label\n" + "".join(f"images/cat00.png,{number}\n" for number in range(60_000)))
    with pytest.raises(ValueError, match="at most 50,000 labels"):
        read_table(place / "t.csv", Columns(separator="|"))
    rows = "".join(f"gone{number}.png,label {number}\n" for number in range(60_000))
    (place / "t.csv").write_text("file,label\n" + rows)
    with pytest.raises(ValueError, match="at most 50,000 labels"):
        read_table(place / "t.csv")


def test_formulas_and_labels_of_any_letters_are_text(place):
    names = ["=cmd|' /C calc'!A0", "Ünïcödé 猫"]
    write(place / "t.csv", [(file, names[number % 2]) for number, (file, _) in enumerate(ROWS)])
    assert load_data(place / "t.csv").class_names == tuple(names)


def test_columns_are_for_tables(tmp_path):
    with pytest.raises(ValueError, match="are for a table. Received: digits"):
        load_data("digits", label_column="a")
    for wrong, says in (
        ({"separator": ""}, "`separator`"),
        ({"label_column": ["a", "a"]}, "different columns"),
        ({"label_column": ["a", "b"], "separator": "|"}, "one column of labels"),
        ({"file_root": tmp_path / "none"}, "`file_root` must be a folder"),
        ({"file_column": 3}, "`file_column` must be the name of a column"),
    ):
        with pytest.raises(ValueError, match=says):
            load_data(tmp_path / "t.csv", **wrong)


def test_a_data_frame(place, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["path", "class"])
    frame.loc[3, "class"] = None
    monkeypatch.chdir(place)
    data = load_data(frame)
    assert data.class_names == ("cat", "dog") and data.name == "a DataFrame"
    assert data.left_out.summary().startswith("1 image without a label")
    frame = pandas.DataFrame(
        {"file": [file for file, _ in ROWS], "a": np.arange(40) % 2 == 0, "b": np.arange(40) % 3 == 0}
    )
    found = load_data(frame, label_column=["a", "b"])
    numbers = found.train.images[:, 0, 0, 0]
    np.testing.assert_array_equal(found.train.labels, np.stack([numbers % 2 == 0, numbers % 3 == 0], 1))


def test_the_rarest_label_decides_on_the_group():
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    assert strata(labels).tolist() == [1, 0, 2, 3, 1]


# ---------------------------------------------------------------- cells of every kind


def every(data):
    """(The reds, which number the images, and their labels) of all parts."""
    splits = [split for split in (data.train, data.validation, data.test) if len(split)]
    return (np.concatenate([split.images[:, 0, 0, 0] for split in splits]),
            np.concatenate([split.labels for split in splits]))  # fmt: skip


@pytest.mark.parametrize(
    "label",
    [["a", ["b"]], {"name": "cat"}, [{"name": "cat"}], [["cat", "dog"]]],
    ids=["a list in a list", "an object", "a list of objects", "nested lists"],
)
def test_what_is_no_label_is_refused(label, place):
    (place / "t.jsonl").write_text("".join(json.dumps({"file": file, "label": label}) + "\n" for file, _ in ROWS))
    with pytest.raises(ValueError, match="must have texts or numbers in its columns") as error:
        load_data(place / "t.jsonl")
    assert "\n" not in str(error.value)


def test_lists_of_marks_are_not_taken_for_lists_of_labels(place):
    for names in ((0, 1), (False, True), (0.0, 1.0)):
        lists = [[names[number % 2], names[number // 2 % 2], names[0]] for number in range(40)]
        write(place / "t.jsonl", [(file, own) for (file, _), own in zip(ROWS, lists, strict=True)])
        with pytest.raises(ValueError, match="lists of the labels that an image has.*Received: lists of 1 and 0"):
            load_data(place / "t.jsonl")
    write(place / "t.jsonl", [(file, [0, 1][: number % 3]) for number, (file, _) in enumerate(ROWS)])
    assert load_data(place / "t.jsonl").class_names == ("0", "1")  # numbers of labels, as many as an image has


def test_a_key_that_the_first_line_lacks_counts(place):
    parts = ["train", "test", "validation"]
    lines = [{"file": file, "label": label, "split": parts[number % 3]} for number, (file, label) in enumerate(ROWS)]
    del lines[0]["split"]
    (place / "t.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines), encoding="utf-8-sig")
    data = load_data(place / "t.jsonl")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [13, 13, 13]
    assert data.left_out.summary() == "1 row of another part: none given"


def test_a_column_of_parts_without_training_images_is_refused(place):
    rows = [(file, label, "test" if number % 4 == 0 else "") for number, (file, label) in enumerate(ROWS)]
    write(place / "t.csv", rows, (*HEADER, "split"))  # what is marked must not be trained on
    with pytest.raises(ValueError, match="must have rows for train. Received: test"):
        load_data(place / "t.csv")
    again = [(file, label, part) for part in ("test", "train") for file, label in ROWS]
    write(place / "t.csv", again, (*HEADER, "split"))  # each row for train names a file of test
    with pytest.raises(ValueError, match="rows for train. Received: test, and 40 .*test keeps a file") as error:
        load_data(place / "t.csv")
    assert "\n" not in str(error.value)
    write(place / "t.csv", [(*row, "front") for row in rows], (*HEADER, "split", "part"))
    with pytest.raises(ValueError, match="`split_column` must be given for .*several that may be meant, split, part"):
        load_data(place / "t.csv")


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("TRUE", "False"), ("yes", "No"), ("t", "f"), ("1.0", "-1.0"), ("1", "")],
)
def test_marks_in_every_spelling(yes, no, place):
    cells = [(yes, no) if number % 2 else (no, yes) for number in range(40)]
    write(place / "t.csv", [(file, *own) for (file, _), own in zip(ROWS, cells, strict=True)], ("file", "a", "b"))
    data = load_data(place / "t.csv", label_column=["a", "b"])
    numbers, labels = every(data)
    np.testing.assert_array_equal(labels[:, 0], numbers % 2 == 1)
    assert (labels.sum(1) == 1).all() and len(data.notes) == 1


def test_labels_of_which_each_image_has_one_are_told(place):
    said = "each image has exactly one of the labels, which are trained as independent: "
    marks = [(file, int(label == "cat"), int(label == "dog")) for file, label in ROWS]
    write(place / "t.csv", marks, ("file", "cat", "dog"))
    assert read_table(place / "t.csv", Columns(label=("cat", "dog"))).notes == (
        f"{said}one column with their names in the place of several makes them classes",
    )
    write(place / "t.csv", [*marks[:-1], (ROWS[-1][0], 0, 0)], ("file", "cat", "dog"))
    assert read_table(place / "t.csv", Columns(label=("cat", "dog"))).notes == ()
    write(place / "t.jsonl", [(file, [label]) for file, label in ROWS])
    assert read_table(place / "t.jsonl").notes == (f"{said}a name in the place of each list makes them classes",)
    write(place / "t.jsonl", [*((file, [label]) for file, label in ROWS), (ROWS[0][0], ["dog"])])
    assert not any(note.startswith(said) for note in read_table(place / "t.jsonl").notes)
    write(place / "t.csv", ROWS)
    assert f"{said}without --separator they are classes" in read_table(place / "t.csv", Columns(separator="|")).notes


def test_what_may_be_a_mistake_is_told(place):
    rows = [(file, "1", "" if number % 9 == 0 else "0") for number, (file, _) in enumerate(ROWS)]
    write(place / "t.csv", rows, ("file", "a", "b"))
    assert "empty cells of label columns count as 0" in load_data(place / "t.csv", label_column=["a", "b"]).notes
    write(place / "t.csv", [(file, ("cat", "Cat", "dog|cat")[number % 3]) for number, (file, _) in enumerate(ROWS)])
    notes = load_data(place / "t.csv", separator=";").notes
    assert "no cell has the separator ';': each image has one label at most" in notes
    alike = "classes whose names differ only in upper and lower case are different ones: Cat and cat"
    assert alike in notes and alike in load_data(place / "t.csv", separator="|").notes
    write(place / "t.csv", [(file, number / 7) for number, (file, _) in enumerate(ROWS)])
    assert "a class each: that a number is learnt (regression) is not there" in " ".join(
        load_data(place / "t.csv").notes
    )


def test_a_separator_that_lists_do_not_need_is_told(place):
    said = "no cell has the separator '|': it is not used, as cells are lists"
    cells = [["cat"], ["cat", "dog"], ["dog|cat"]]
    write(place / "t.jsonl", [(file, cells[number % 3]) for number, (file, _) in enumerate(ROWS)])
    data = load_data(place / "t.jsonl", separator="|")
    assert said in data.notes and data.class_names == ("cat", "dog", "dog|cat")
    write(place / "t.jsonl", [(file, cells[number % 2]) for number, (file, _) in enumerate([*ROWS, *ROWS])])
    assert said in load_data(place / "t.jsonl", separator="|").notes  # also where rows of one file are joined
    mixed = ["cat|dog", ["dog"]]
    write(place / "t.jsonl", [(file, mixed[number % 2]) for number, (file, _) in enumerate(ROWS)])
    assert not any("separator" in note for note in load_data(place / "t.jsonl", separator="|").notes)


def test_images_without_any_label_are_told(place):
    """An empty cell may say that there is none of the labels, or that nobody has looked."""
    rows = [(file, ("", "a|b", "b")[number % 3]) for number, (file, _) in enumerate(ROWS)]
    write(place / "t.csv", rows)
    data = load_data(place / "t.csv", separator="|")
    assert data.notes == ("14 images without any label count as having none of them",)
    write(place / "t.csv", [*rows[1:], ("images/cat00.png", "a"), ("gone.png", "")])
    assert "13 images without any label count" in load_data(place / "t.csv", separator="|").notes[0]
    write(place / "t.jsonl", [(file, ["a", "b"][: number % 3]) for number, (file, _) in enumerate(ROWS)])
    assert load_data(place / "t.jsonl").notes == ()  # a list without any is said as it is


def test_labels_that_stand_for_none_and_those_of_one_meaning_are_told(place):
    cells = ("1", "1.0", "nan", "2")
    write(place / "t.csv", [(file, cells[number % 4]) for number, (file, _) in enumerate(ROWS)])
    notes = load_data(place / "t.csv").notes
    assert any(note.startswith("nan: a class of its own, although programs write that") for note in notes)
    assert any(note.endswith("are different ones: 1 and 1.0") for note in notes) and len(notes) == 2


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_files_named_in_another_form_are_found(written, stored, place):
    """Some systems take letters apart from their accents."""
    folder = place / unicodedata.normalize(stored, "Zo\u00eb")
    folder.mkdir()
    rows = []
    for number, (file, label) in enumerate(ROWS[:6] + ROWS[-6:]):
        name = f"caf\u00e9 {number}.png"
        os.link(place / file, folder / unicodedata.normalize(stored, name))
        rows.append((unicodedata.normalize(written, f"Zo\u00eb/{name}"), label))
    write(place / "t.csv", [*rows, (unicodedata.normalize(written, "Zo\u00eb/caf\u00e9.png"), "cat")])
    data = load_data(place / "t.csv")
    assert data.left_out.summary() == "1 file that is not there" and sum(len(split) for split in (
        data.train, data.validation, data.test)) == 12  # fmt: skip


def test_labels_that_are_numbers_are_names(place):
    write(place / "t.jsonl", [(file, (0, 1.0, 10, True)[number % 4]) for number, (file, _) in enumerate(ROWS)])
    data = load_data(place / "t.jsonl")
    assert data.class_names == ("0", "1", "10", "True")
    numbers, labels = every(data)
    assert [data.class_names[label] for label in labels] == [("0", "1", "10", "True")[n % 4] for n in numbers]


def test_columns_of_parquet_in_every_type(place):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files, names = zip(*ROWS, strict=True)
    lists = [[name, "pet"][: 1 + number % 2] for number, name in enumerate(names)]
    columns = {
        "file": arrow.array(files).dictionary_encode(),
        "word": arrow.array(names).dictionary_encode(),
        "bytes": arrow.array([name.encode() for name in names]),
        "number": arrow.array([None if n == 3 else n % 2 for n in range(40)], arrow.int8()),
        "list": arrow.array(lists, arrow.large_list(arrow.string())),
        "cat": arrow.array([name == "cat" for name in names]),
        "dog": arrow.array([float(name == "dog") for name in names]),
        "object": arrow.array([{"name": name} for name in names]),
    }
    parquet.write_table(arrow.table(columns), place / "t.parquet", row_group_size=7)
    for column, expected in (("word", ("cat", "dog")), ("bytes", ("cat", "dog")), ("list", ("cat", "dog", "pet"))):
        data = load_data(place / "t.parquet", label_column=column)
        assert data.class_names == expected and not data.left_out and data.several == (column == "list")
    data = load_data(place / "t.parquet", label_column="number")
    assert data.class_names == ("0", "1") and data.left_out.summary().startswith("1 image without a label")
    numbers, labels = every(load_data(place / "t.parquet", label_column=["cat", "dog"]))
    np.testing.assert_array_equal(labels, np.stack([numbers < 20, numbers >= 20], 1))
    with pytest.raises(ValueError, match="must have texts or numbers"):
        load_data(place / "t.parquet", label_column="object")


def test_a_data_frame_of_any_index_and_type(place, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(place)
    frame = pandas.DataFrame(ROWS, columns=["file", "label"]).sample(frac=1, random_state=0)
    frame["label"] = frame["label"].astype("category")
    for one in (frame, frame.set_index("file"), frame.set_index("file", drop=False), frame.set_index("label")):
        data = load_data(one)
        assert data.class_names == ("cat", "dog") and not data.left_out
        numbers, labels = every(data)
        np.testing.assert_array_equal(labels, numbers >= 20)
    frame["label"] = [{name, "pet"} for name in frame["label"]]
    assert load_data(frame).class_names == ("cat", "dog", "pet")
    double = pandas.concat([frame, frame[["label"]]], axis=1)
    with pytest.raises(ValueError, match="different names for its columns. Received: label twice"):
        load_data(double)


def test_tables_that_would_be_waited_for_or_fill_the_memory_are_refused(place):
    os.mkfifo(place / "t.csv")
    with pytest.raises(ValueError, match="must be a file, which is read more than once"):
        load_data(place / "t.csv")
    with open(place / "u.csv", "wb") as file:
        file.write(commas(ROWS).encode() + b"\n" * 70_000)
        file.truncate(1 << 30)  # a gigabyte of zeros behind text, which takes no room on the disk
    with pytest.raises(ValueError, match="must have lines of fewer than"):
        load_data(place / "u.csv")


@pytest.mark.parametrize("name", ["a.csv", "c.jsonl"])
def test_the_time_for_a_row_does_not_grow_with_the_table(name, tmp_path):
    """A million rows are read in seconds (`benchmarks/folders.py --table`); quadratic work would show here."""
    (tmp_path / "0.png").write_bytes(b"x")

    def seconds(count):
        for number in range(1, count):
            (tmp_path / f"{number}.png").exists() or os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
        rows = [(f"{n}.png", f"{n % 500}") if n % 4 else (f"gone {n}.png", "7") for n in range(count)]
        write(tmp_path / name, rows)
        start = time.process_time()
        read_table(tmp_path / name)
        return time.process_time() - start

    short = min(seconds(1_000) for _ in range(3))
    assert seconds(16_000) < 16 * 5 * short  # 256 times as long if it were the square


def test_a_key_that_comes_twice_is_refused(place):
    (place / "t.jsonl").write_text('{"file": "a", "label": "x"}\n{"file": "a", "label": "b", "label": "c"}\n')
    with pytest.raises(ValueError, match="must have each key once in a line, unlike 'label' in line 2"):
        load_data(place / "t.jsonl")


class DataFrame(dict):
    """What a table is known by that pandas has made, where pandas is not installed."""

    iloc, index = None, SimpleNamespace(names=[None])
    columns = property(lambda self: list(self))


def test_strict_names_a_data_frame(place, monkeypatch):
    monkeypatch.chdir(place)
    files, labels = zip(*ROWS, ("images/gone.png", "cat"), strict=True)
    frame = DataFrame(file=np.array(files), label=np.array(labels))
    assert load_data(frame).left_out.summary().startswith("1 file that is not there")
    with pytest.raises(ValueError, match="`strict`.*Received: a DataFrame with 1 file that is not there"):
        load_data(frame, strict=True)


def test_a_class_of_a_table_is_one_line_and_its_model_goes_on(place):
    """As that of a folder: what no text may have is escaped."""
    rows = [(file, f"{label}\nor so") for file, label in ROWS]
    (place / "a.jsonl").write_text("\n".join(json.dumps({"file": file, "label": label}) for file, label in rows))
    names = read_table(place / "a.jsonl").class_names
    assert names == ("cat\\nor so", "dog\\nor so")
    assert placed(names, ("dog\nor so", "cat\nor so")).tolist() == [1, 0]
    unlabelled = read_table(place / "a.jsonl", labelled=False)
    assert unlabelled.parts["train"].paths == read_table(place / "a.jsonl").parts["train"].paths
    assert unlabelled.class_names == ()


def test_what_a_model_was_trained_on_is_not_tested_although_the_table_says_so(place):
    """Another fold of the same images: of its own directory nothing is left out."""

    def fold(name, first):
        parts = ["test", "validation", "train", "train", "train"]
        rows = [(file, label, parts[(number - first) % 5]) for number, (file, label) in enumerate(ROWS)]
        write(place / name, rows, (*HEADER, "split"))
        return place / name

    one, other = fold("one.csv", 0), fold("other.csv", 4)
    record = open_data(one).record
    assert len(open_data(one, held_out=record).test) == 8 == len(open_data(other).test)
    data = open_data(other, held_out=record)
    assert len(data.test) == 0 and len(data.validation) == 8 and len(data.train) == 24
    assert "8 of 8 images for test are not used: the model was trained on files of these names" in data.notes
    # A training that starts from the model keeps it, and goes on so; `evaluate --split all` takes them all the same.
    write_record(place / "new", data)
    kept = read_record(place / "new")
    again = open_data(other, held_out=kept)
    assert kept.digest == again.digest == data.digest and len(again.test) == 0 and again.record.untested == 8
    every = open_data(other, held_out=kept, all_tested=True)
    assert len(every.test) == 8 and "the model was trained on 8 of 8 images for test, too" in every.notes
    assert knows(record, open_data(other))  # so a fine-tuning of the model is told, too
    third = open_data(fold("third.csv", 1), held_out=record)  # what watched is tested, what was learnt from watches
    assert len(third.test) == 8 and third.notes == ("the model was trained on 8 of 8 images for validation, too",)
