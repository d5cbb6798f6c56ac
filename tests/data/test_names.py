"""Names of classes and files: the same in all forms of their letters, and as text whatever cannot be printed."""

import io
import json
import os
import shutil
import unicodedata
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_keras.cli import parser
from nasnet_keras.commands.datasets import counted_by, find
from nasnet_keras.data import folders, records, sides, tables
from nasnet_keras.data.folders import read_folder
from nasnet_keras.data.left_out import as_text, as_utf8, shown
from nasnet_keras.data.loading import open_data
from nasnet_keras.data.objects import read_object_data
from nasnet_keras.data.records import Record, is_other, knows, mark, write_record
from nasnet_keras.data.splits import check_classes, placed, renumbered
from nasnet_keras.data.tables import read_table
from nasnet_keras.files import composed
from nasnet_keras.training import identity
from nasnet_keras.training.compilation import factors_of
from nasnet_keras.training.evaluation import _columns
from nasnet_keras.training.identity import check_resumption, content_identity, training_identity
from nasnet_keras.training.recipes import RECIPES

FIXTURES = Path(__file__).parents[1] / "fixtures"
CLASSES = ("café", "cafz", "école", "tea")


def taken_apart(name):
    return unicodedata.normalize("NFD", name)


def photos(root, form=str):
    """A folder of four classes of ten little images, whose names have an accent."""
    for place, label in enumerate(CLASSES):
        os.makedirs(folder := os.path.join(root, form(label)))
        for number in range(10):
            stream = io.BytesIO()
            Image.new("RGB", (6, 6), (20 * number, 60 * place, 0)).save(stream, "PNG")
            name = form(f"{'été' if number % 2 else 'zone'}{number}.png")
            with open(os.path.join(folder, name), "wb") as file:
                file.write(stream.getvalue() + b"%d" % (10 * place + number))
    return root


def names_of(split):
    names = (split.images.name(index) for index in range(len(split)))
    return [unicodedata.normalize("NFC", "/".join(name.split("/")[-2:])) for name in names]


@pytest.fixture
def both(tmp_path):
    """A folder as Linux has it, and as it comes back from a system that takes letters apart."""
    return photos(tmp_path / "linux"), photos(tmp_path / "mac", taken_apart)


def test_a_folder_is_the_same_in_both_forms(both):
    one, other = map(open_data, both)
    assert one.digest == other.digest and one.record.trained == other.record.trained
    for part in sides.PARTS:
        assert names_of(getattr(one, part)) == names_of(getattr(other, part))
        np.testing.assert_array_equal(getattr(one, part).labels, getattr(other, part).labels)
    assert one.class_names == tuple(sorted(CLASSES)) == tuple(map(composed, other.class_names))
    for begun, back in ((one, other), (other, one)):
        assert not is_other(begun.record, open_data(both[begun is one], held_out=begun.record).record)
        kept = open_data(both[begun is one], seed=5, test=0.5, held_out=begun.record)  # files are on their sides
        assert all(names_of(getattr(kept, part)) == names_of(getattr(back, part)) for part in sides.PARTS)


def test_a_training_goes_on_in_both_forms(both):
    known = [training_identity(data, RECIPES["micro"], 0) | content_identity(data) for data in map(open_data, both)]
    assert known[0] == known[1]


@contextmanager
def earlier_version(monkeypatch):
    """It took names as they stood, and sorted them so."""
    with monkeypatch.context() as earlier:
        for module in (records, sides, folders, tables, identity):
            earlier.setattr(module, "composed", str)
        for function in (folders.Listing.digest, tables.TableListing.digest, tables.TableListing.keys):
            earlier.setattr(function, "__defaults__", (str,))
        yield


def test_what_an_earlier_version_kept_of_letters_that_are_apart_goes_on(both, monkeypatch, tmp_path):
    with earlier_version(monkeypatch):
        begun, fewer = open_data(both[1]), open_data(both[1], limit=20)
        known = training_identity(fewer, RECIPES["micro"], 0)
    new = open_data(both[1])
    assert begun.digest != new.digest and begun.record.trained != new.record.trained
    assert begun.class_names != new.class_names and known["classes"] == list(begun.class_names)
    for place in both:
        again = open_data(place, held_out=begun.record)
        for part in sides.PARTS:
            assert sorted(names_of(getattr(again, part))) == sorted(names_of(getattr(begun, part)))
    for before, limit in ((begun, None), (fewer, 20)):
        again = open_data(both[1], held_out=begun.record, limit=limit)
        assert again.digest == begun.digest and again.class_names == begun.class_names
        for part in sides.PARTS:
            assert names_of(getattr(again, part)) == names_of(getattr(before, part))
            np.testing.assert_array_equal(getattr(again, part).labels, getattr(before, part).labels)
    (tmp_path / "history.json").write_text(json.dumps({"identity": known, "epochs": [{"epoch": 1}]}))
    assert not check_resumption(tmp_path, training_identity(again, RECIPES["micro"], 0))


def test_a_table_of_an_earlier_version_goes_on_in_its_order(both, monkeypatch):
    table = both[1] / "labels.csv"
    files = [(path.relative_to(both[1]), path.parent.name) for path in both[1].rglob("*.png")]
    table.write_text("\n".join(["file,label", *(f"{file},{composed(label)}" for file, label in files)]))
    with earlier_version(monkeypatch):
        begun = open_data(table)
    new, again = open_data(table), open_data(table, held_out=begun.record)
    assert new.digest != begun.digest == again.digest and begun.class_names == again.class_names
    assert names_of(new.train) != names_of(begun.train) == names_of(again.train)
    np.testing.assert_array_equal(begun.train.labels, again.train.labels)


def test_what_an_earlier_version_learnt_from_is_not_tested(both, monkeypatch, tmp_path, capsys):
    """Also where images are added: the names of the others are known in whatever form."""
    old = tmp_path / "old"
    with earlier_version(monkeypatch):
        begun = open_data(both[1], test=0.1)
        write_record(old, begun)
        known = training_identity(begun, RECIPES["micro"], 0)
    (old / "history.json").write_text(json.dumps({"identity": known, "epochs": [{"epoch": 1}]}))
    shutil.copy(FIXTURES / "finetuned/model.keras", old)
    words = ["--model", str(old), "--data", str(both[1]), "--directory", str(tmp_path / "new"), "--test", "0.4"]
    for number in range(2):
        found = find(parser().parse_args(["finetune", "--seed", "0", *words]))
        for part in sides.PARTS:
            assert set(names_of(getattr(begun, part))) <= set(names_of(getattr(found, part)))
        assert "--test 0.4 is not used: the data were divided with 0.1" in capsys.readouterr().err
        assert found.digest == begun.digest or number
        Image.new("RGB", (6, 6), "red").save(both[1] / "tea/another.png")
    assert not knows(begun.record, open_data(FIXTURES / "photos"))


def test_of_two_forms_side_by_side_each_has_its_own_side():
    names = ["é.png", taken_apart("é.png"), "ô.png", taken_apart("ô.png"), "new.png"]
    record = Record("x", {}, {"validation": (names[0],), "test": (names[1],)}, frozenset({mark(names[3])}))
    assert sides.as_recorded(names, np.zeros(5), record).tolist() == [1, 2, 0, 0, 0]
    only = Record("x", {"test": 1.0}, {"validation": (names[1],)}, frozenset())
    assert sides.as_recorded(names, np.zeros(5), only).tolist() == [1, 1, 2, 2, 2]


def test_a_table_names_files_in_either_form(both):
    listings = []
    for folder, form in zip(both, (str, taken_apart), strict=True):
        rows = [f"{form(f'{label}/été1.png')},{label}" for label in CLASSES]
        (folder.parent / f"{folder.name}.csv").write_text("\n".join(["file,label", *rows]))
        (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
        listings.append(read_table(folder / "labels.csv"))
    one, other = listings
    assert one.digest() == other.digest() != other.digest(str) and one.digest() == one.digest(str)
    assert list(one.keys(one.parts["train"])) == list(other.keys(other.parts["train"]))


def test_classes_are_matched_in_any_form():
    names, own = ("café", "New\u00a0York", "tea"), ("tea", taken_apart("café"), "New\\xa0York")
    check_classes(names, own)
    assert placed(own, names).tolist() == [2, 0, 1] and placed(names, own).tolist() == [1, 2, 0]
    assert renumbered(np.array([0, 1, 2]), own, names).tolist() == [2, 0, 1]
    assert _columns(names, list(own)) == [2, 0, 1]
    check_classes(names, own[:2], some=True)
    two = ("café", taken_apart("café"))  # which are two classes where both are there
    assert placed(two[::-1], two).tolist() == [1, 0] and placed(two, ("café",)).tolist() == [0, -1]
    with pytest.raises(ValueError, match=r"They differ in: New\\xa0York, cow"):
        check_classes(names, (*own[:2], "cow"))
    with pytest.raises(ValueError, match="or some of them. They differ in: cow$"):
        check_classes(names, (*own[:2], "cow"), some=True)
    pairs = [(np.zeros((4, 4, 3), "uint8"), name) for name in (*own, names[1])]
    assert read_object_data(pairs, class_names=names)[0]["train"][1].tolist() == [2, 0, 1, 1]


def test_data_of_a_model_in_another_form(both, capsys):
    data = open_data(both[1])
    assert counted_by(tuple(sorted(CLASSES)), data) is data and not capsys.readouterr().err
    counted = counted_by((*CLASSES, "milk"), data)
    assert "has no images of milk" in capsys.readouterr().err
    assert counted.train.counts(5)[:4].tolist() == [data.train.counts(4)[sorted(CLASSES).index(one)] for one in CLASSES]


@pytest.mark.parametrize(
    "name", ["New\u00a0York", "\u0645\u06cc\u200c\u062e\u0648", "👩\u200d🔬", "全\u3000角", "plain", "\U0001fae9"]
)
def test_blanks_and_joiners_are_text(name, tmp_path):
    for label in (name, "other"):
        os.makedirs(tmp_path / label)
        for number in range(6):
            Image.new("RGB", (6, 6), (20 * number, 0, len(label))).save(tmp_path / label / f"{number}.png")
    data = open_data(tmp_path)
    assert set(data.class_names) == {name, "other"} and as_text(name) == name
    old = tuple(map(shown, data.class_names))  # as models of earlier versions have them
    assert placed(data.class_names, old).tolist() == [0, 1]
    known = training_identity(replace(data, class_names=old), RECIPES["micro"], 0)
    (tmp_path / "history.json").write_text(json.dumps({"identity": known, "epochs": [{"epoch": 1}]}))
    assert not check_resumption(tmp_path, training_identity(data, RECIPES["micro"], 0))


@pytest.mark.parametrize("name", ["two\nlines", os.fsdecode(b"caf\xe9"), "\x1b[31mred", "\u202eright", "a\u2028b"])
def test_what_is_no_text_is_escaped(name):
    assert as_text(name) == shown(name) != name and as_text(as_text(name)) == as_text(name)
    as_text(name).encode()


def test_two_forms_of_a_class_keep_their_order(tmp_path):
    for label in ("cafz", "café", taken_apart("café")):
        os.makedirs(tmp_path / label)
        Image.new("RGB", (6, 6)).save(tmp_path / label / "1.png")
    assert read_folder(tmp_path).folders == ("cafz", taken_apart("café"), "café")


def test_factors_of_classes_go_by_names_in_any_form(both):
    data = open_data(both[1])
    given = dict(zip(CLASSES, (2, 3, 4, 5), strict=True))
    assert factors_of(given, data) == [given[composed(name)] for name in data.class_names]


@pytest.mark.parametrize(
    ("name", "text"),
    [("é😀\n", "é😀\n"), (os.fsdecode(b"a\xff\xc3.png"), "a\\xff\\xc3.png"), ("\ud800", "\\ud800")],
)
def test_a_name_becomes_text_that_utf_8_can_hold(name, text):
    assert as_utf8(name) == text and text.encode() and shown(name) == text.replace("\n", "\\n")
