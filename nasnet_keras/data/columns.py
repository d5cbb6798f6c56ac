"""Which columns of a table mean what: the files, the labels, and the part that a row belongs to."""

import ast
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from nasnet_keras.data.layouts import PARTS, words
from nasnet_keras.data.left_out import few, shown
from nasnet_keras.files import expanded

FILE_NAMES = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "image",
    "image_path",
    "img",
    "img_path",
)
LABEL_NAMES = ("label", "labels", "class", "classes", "class_name", "category", "target", "tags")
SPLIT_NAMES = ("split", "subset", "partition", "part")
NO_SPLIT = "none"  # in the place of a column's name
LISTS = (list, tuple, set, frozenset, np.ndarray)
YES, NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f", "")
AROUND = ("is", "in", "set", "split", "part")  # words beside a part's, in the name of a column that marks its rows
LOOKED_AT = 1000  # rows, before columns of texts are read to the end
LONGEST_PATH = 4096  # bytes
LONGEST_LIST = 1 << 16  # letters
KEPT_LISTS = 1 << 16  # a table has few different ones, in many rows
LONGEST_WORD, MOST_WORDS = 40, 20  # of a column that may name parts, among other words


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what.

    Args:
        file: the name of the column with the images' paths; None: the one that is called `file`, `path`, `image`, …
        label: that of the labels; None: the one called `label`, `class`, …. A tuple of several names: each column is a
            label, and has 1 or 0 for an image that has it or not.
        split: that of the parts, train, validation (val, valid, dev) and test, or one that is called as a part and
            marks its rows, as `is_valid`; None: the one called `split`, `subset`, `partition` or `part`, else one of
            nothing but parts, else those that mark them; `"none"`: no column.
        separator: what stands between the labels of an image that may have several; None: a cell is one label.
        root: the folder that paths are relative to; None: that of the table.
        outside: whether paths may lead out of that folder.
    """

    file: str | None = None
    label: str | tuple[str, ...] | None = None
    split: str | None = None
    separator: str | None = None
    root: str | None = None
    outside: bool = False

    def __post_init__(self):
        labels = self.label if isinstance(self.label, list | tuple) else (self.label,)
        names = {"file_column": (self.file,), "label_column": labels, "split_column": (self.split,)}
        for name, values in names.items():
            if not values or any(not isinstance(value, str | None) or value == "" for value in values):
                raise ValueError(f"`{name}` must be the name of a column. Received: {values!r}")
        if len(set(labels)) < len(labels):
            raise ValueError(f"`label_column` must name different columns. Received: {labels!r}")
        object.__setattr__(self, "label", labels[0] if len(labels) == 1 else tuple(labels))
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator):
            raise ValueError(f"`separator` must be text between labels, such as '|'. Received: {self.separator!r}")
        if self.separator is not None and isinstance(self.label, tuple):
            raise ValueError("`separator` is for one column of labels. Received: several label columns")
        if self.root is not None and not os.path.isdir(expanded(self.root)):
            raise ValueError(f"`file_root` must be a folder. Received: {self.root!r}")

    def __bool__(self):
        return self != Columns()


@dataclass(frozen=True)
class Division:
    """Which part a row belongs to.

    Args:
        columns: names of the columns that tell it, none if all rows are for training.
        marked: None for one column of names; else the part of each column, whose cells say yes or no.
        is_new: whether earlier versions passed these columns over.
    """

    columns: tuple[str, ...] = ()
    marked: tuple[str, ...] | None = None
    is_new: bool = False

    def part(self, cells):
        """The part that the cells of these columns say, or what else stands there."""
        if not self.columns:
            return "train"
        if self.marked is None:
            return _part(cells[0])
        own = {part for part, cell in zip(self.marked, cells, strict=True) if _mark(cell)}
        if own:  # what is marked as both must not be trained on
            return next(part for part in ("test", "validation", "train") if part in own)
        return "train" if "train" not in self.marked else "" if len(self.marked) > 1 else "test"

    def told(self):
        """What its columns of marks are used as, in words."""
        if len(self.columns) > 1:
            return f"the columns {few(self.columns)} mark images for {few(self.marked)}, and are used as that"
        others = ", the others for testing" if self.marked == ("train",) else ""
        return f"the column {shown(self.columns[0])} marks images for {self.marked[0]}, and is used as that{others}"


def choose(table, columns, labelled, as_before=False):
    """What the columns of a `table_files.Table` mean.

    Args:
        table, columns: the table, and a `Columns`.
        labelled: whether there are labels.
        as_before: whether columns have no say that earlier versions passed over.

    Returns:
        (file column, label column or a tuple of them, a `Division`, a list of what to tell of that).

    Raises:
        ValueError: columns that are not there, or of which it is not clear which is meant.
    """
    notes = []

    def one(option, given, usual, needed=True):
        if given is not None:
            if given not in table.names:
                raise ValueError(f"`{option}` must be one of {few(table.names)}. Received: {given!r}")
            return given
        found = [name for name in table.names if name.strip().lower() in usual]
        if len(found) == 1:
            return found[0]
        if not found and not needed:
            return None
        what = f"several that may be meant, {few(found)}" if found else f"none of a usual name, but {few(table.names)}"
        raise ValueError(f"`{option}` must be given for {table.label.removeprefix('`data` ')}. It has {what}")

    file = one("file_column", columns.file, FILE_NAMES)
    if isinstance(columns.label, tuple) or not labelled:
        labels = tuple(one("label_column", name, ()) for name in columns.label) if labelled else ()
    else:
        labels = one("label_column", columns.label, LABEL_NAMES)
    ignored = columns.split == NO_SPLIT and NO_SPLIT not in table.names
    split = None if ignored else one("split_column", columns.split, SPLIT_NAMES, needed=False)
    used = [file, *(labels if isinstance(labels, tuple) else [labels]), *([split] if split else [])]
    for name, count in Counter(used).items():
        if count > 1:
            raise ValueError(f"`file_column`, `label_column` and `split_column` must be different. Received: {name!r}")
    _check_paths(table, file)
    if split and not columns.split and not any(_part(cell) in PARTS.values() for _, (cell,) in table.rows([split])):
        notes.append(f"the column {shown(split)} names no part, and is not used: --split-column says what does")
        split = None
    if split:
        part = None if as_before else _marked_part(split)
        if part and (found := _seen(table, [split]).get(split)) and found.are_marks:
            division = Division((split,), (part,))
            return file, labels, division, [*notes, division.told()]
        return file, labels, Division((split,)), notes
    if ignored:
        return file, labels, Division(), notes
    # Labels that do not count are labels all the same.
    used += columns.label if isinstance(columns.label, tuple) else [columns.label]
    division, told = _found_division(table, used, as_before)
    return file, labels, division, notes + told


def _check_paths(table, file):
    """Raise `ValueError` where the first cell of a column is an image, as in Parquet files of Hugging Face."""
    cells = (cell for _, (cell,) in table.rows([file]))
    cell = next((one for one in cells if not _is_none(one) and not (isinstance(one, str | bytes) and not one)), "")
    parts = list(cell.values()) if isinstance(cell, Mapping) else [cell]
    if (are_images := any(map(_is_image, parts))) or isinstance(cell, Mapping):
        what = "the images themselves" if are_images else "objects"
        way = "write the images to files, or give `load_data` (bytes, label) pairs"
        rule = "`file_column` must name a column of paths"
        raise ValueError(f"{rule}. Received: the column {shown(file)}, which holds {what}, not paths: {way}")


def _is_image(cell):
    """Whether a cell holds an image itself: bytes of one, or as text, Pillow's, an array, or an open file."""
    if isinstance(cell, bytes | bytearray | memoryview | str):
        return len(cell) > LONGEST_PATH or (not isinstance(cell, str) and b"\0" in bytes(cell))
    of_image = isinstance(cell, LISTS) or getattr(cell, "shape", ()) != ()
    return of_image or hasattr(cell, "read") or hasattr(cell, "getbands")


def _found_division(table, used, as_before):
    """(The `Division` by columns that are not used yet, whatever they are called; what to tell of that).

    What a column marks as one for validation or testing must not be trained on.
    """
    passed_over = table.binary if as_before else ()
    texts = [name for name in table.texts if name and name not in used and name not in passed_over]
    marked = [] if as_before else [name for name in table.names if name not in used and _marked_part(name)]
    found = _seen(table, list(dict.fromkeys([*texts, *marked])))
    parts = {name: one.parts for name, one in found.items() if one.are_parts}
    if len(parts) > 1:
        told = f"the columns {few(parts)} name parts, and are not used: --split-column says which one counts"
        return Division(), [told]
    notes = []
    for name, own in parts.items():
        if "train" in own:
            told = f"the column {shown(name)} names parts, and is used as that; not with --split-column {NO_SPLIT}"
            return Division((name,), is_new=name in table.binary), [told]
        notes.append(f"the column {shown(name)} names parts but none for training, and is not used")
    marks = {name: _marked_part(name) for name in marked if name in found and found[name].are_marks and found[name].yes}
    for name, part in list(marks.items()):
        if part != "train" and found[name].yes == found[name].rows:
            del marks[name]
            notes.append(f"the column {shown(name)} marks all rows for {part}, none for training, and is not used")
        # It may mean that nothing is wrong with them.
        elif {*words(name)} & {"valid", "isvalid"} and 2 * found[name].yes > found[name].rows:
            del marks[name]
            told = f"the column {shown(name)} marks most rows, and is not taken for one of validation images"
            notes.append(f"{told}: --split-column {shown(name)}")
    if len(set(marks.values())) < len(marks):
        told = f"the columns {few(marks)} mark images of one part, and are not used: --split-column says which counts"
        return Division(), [*notes, told]
    if marks:
        division = Division(tuple(marks), tuple(marks.values()), is_new=True)
        return division, [*notes, f"{division.told()}; not with --split-column {NO_SPLIT}"]
    for name, one in found.items():
        if "train" in one.called and len(one.called) > 1:
            told = f"names parts among others ({few(sorted(one.others | one.marks))}), and is not used"
            notes.append(f"the column {shown(name)} {told}: --split-column {shown(name)}")
    return Division(), notes


class _Seen:
    """What stands in a column: parts, other words, or marks of yes and no where it is called as a part."""

    def __init__(self, name):
        self.may_mark, self.yes, self.rows = _marked_part(name) is not None, 0, 0
        self.parts, self.marks, self.others = set(), set(), set()
        self.called = set()  # what is a part, or has the word of one

    def add(self, cell):
        """Look at a cell; false where the column cannot be one of parts."""
        self.rows += 1
        text = cell
        if not isinstance(cell, str):
            if isinstance(cell, (Mapping, *LISTS)) or (isinstance(cell, bytes) and len(cell) > LONGEST_WORD):
                return False
            text = written(cell)
        text = text.strip()
        if part := PARTS.get(text.lower()):
            self.parts.add(part)
            self.called.add(part)
        elif text and self.may_mark and (mark := _mark(text)) is not None:
            self.yes += mark
            self.marks.add(text)
        elif text and text not in self.others:
            self.others.add(text)
            self.called |= {PARTS[word] for word in words(text) if word in PARTS}
            return len(text) <= LONGEST_WORD and len(self.others) <= MOST_WORDS
        return True

    @property
    def are_parts(self):
        """Whether it names parts and nothing else, and not only that for training."""
        return bool(self.parts - {"train"}) and not self.others and not self.marks

    @property
    def are_marks(self):
        """Whether it has marks, and nothing else."""
        return bool(self.marks) and not self.others and not self.parts


def _seen(table, names):
    """{name of a column that may tell of parts: its `_Seen`}; of the others only the first rows are read.

    What has words alone by then, and no part among them, tells of none: tables of labels are not read once more.
    """
    for most in (LOOKED_AT, None):
        found = {name: _Seen(name) for name in names}
        for _, cells in islice(table.rows(names), most) if names else ():
            for name, cell in zip(names, cells, strict=True):
                if name in found and not found[name].add(cell):
                    del found[name]
            if not found:
                break
        names = [name for name, one in found.items() if one.called or not one.others]
    return found


def _marked_part(name):
    """The part whose rows a column of such a name may mark: `is_valid`, `test`, `isTrain`; None of other names."""
    found = [word for word in words(name) if word not in AROUND]
    return PARTS.get(found[0].removeprefix("is")) if len(found) == 1 else None


def _mark(cell):
    """True or False of a cell that says yes or no, as an empty one does; None of another one."""
    text = written(cell).strip().lower().removesuffix(".0")
    return True if text in YES else False if text in NO else None


def _part(cell):
    text = written(cell).strip()
    return PARTS.get(text.lower(), text)


def written(cell):
    """A cell as text; empty for what is none.

    Raises:
        ValueError: it is a list or a mapping.
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace")
    if isinstance(cell, (Mapping, *LISTS)):
        rule = "texts or numbers in its columns, or a list of them where an image has several labels"
        raise ValueError(f"`data` must have {rule}. Received: {shown(repr(cell)[:80])}")
    if _is_none(cell):
        return ""
    if isinstance(cell, float | np.floating) and cell.is_integer():
        return str(int(cell))  # a column of integers with a gap in it
    return str(cell)


@lru_cache(KEPT_LISTS)
def listed(text):
    """The texts of a list that a text writes down as Python or JSON do, a tuple; None of another text.

    In square brackets there may be numbers and nothing among them, too: in others they are classes, as ages `(25, 32)`.
    """
    if text[:1] + text[-1:] not in ("[]", "()", "{}") or len(text) > LONGEST_LIST:
        return None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            if isinstance(found := read(text), LISTS):
                no_texts = [one for one in found if not isinstance(one, str)]
                is_class = text[0] != "[" and no_texts
                return None if is_class or any(isinstance(one, (Mapping, *LISTS)) for one in no_texts) else tuple(found)
    return None


def are_lists(table, column):
    """Whether all cells of a column that are not empty are texts of lists, and not of 1 and 0 alone."""
    is_list = False
    for _, (cell,) in table.rows([column]):
        if not isinstance(cell, str):
            if isinstance(cell, (Mapping, *LISTS)) or written(cell):
                return False
        elif text := cell.strip():
            if (found := listed(text)) is None:
                return False
            is_list |= any(one not in (0, 1) for one in found)
    return is_list


def _is_none(cell):
    """Whether a cell that is no text says that there is nothing."""
    return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell)) or str(cell) in ("<NA>", "NaT")
