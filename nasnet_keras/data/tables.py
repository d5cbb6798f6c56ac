"""A table of images and labels: CSV, TSV, JSON lines, Parquet, or a pandas DataFrame.

A row names a file and what is on it, perhaps also the part that it belongs to. Which columns say so is told by
`Columns`, or by their names. What is in no row is not looked at; what of a row cannot be used is left out and counted.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from nasnet_keras.data.columns import LISTS, NO, YES, Columns, are_lists, choose, listed, written
from nasnet_keras.data.file_names import FileNames
from nasnet_keras.data.folders import HEIF_SUFFIXES, MAX_CLASSES, Files, Listing
from nasnet_keras.data.layouts import PARTS, names_alike
from nasnet_keras.data.left_out import LeftOut, few, shown
from nasnet_keras.data.table_files import SUFFIXES, frame_table, open_table
from nasnet_keras.files import composed, expanded

HEIF = tuple(HEIF_SUFFIXES)
SEPARATORS = "|;,"  # that cells with several labels are known for
MAX_ROWS = 20_000_000
MAX_MARKS = 2 << 30  # images × labels
LONGEST_NAME = 500  # letters, of what is left out
MANY = 20  # labels, of which numbers with a fraction are hardly classes
FRACTION = re.compile(r"[-+]?\d*[.,]\d+(e[-+]?\d+)?", re.I)
MISSING = ("missing", "")  # see `LeftOut.entries`
BOTH = {"0", "1", "True", "False"}


@dataclass(frozen=True, eq=False)
class TableListing(Listing):
    """What a table names: `Files` whose labels are int32 [n], or bool [n, labels] where an image may have several.

    Args:
        brought: the parts, but train, that are told by columns which earlier versions passed over.
        completed: whether names are completed, which those versions did not do.
        across: whether a file has rows of several parts, each of which had it in those versions.
        listed: whether cells are texts of lists, each of which was a class in those versions.
        listed_as_classes: whether each is one here, too.
    """

    brought: frozenset = frozenset()
    completed: bool = False
    across: bool = False
    listed: bool = False
    listed_as_classes: bool = False

    def name_of(self, path):
        """A path relative to the root; one that leads out of it as it is."""
        return path.removeprefix(os.path.join(self.root, ""))

    def keys(self, files, form=composed):
        """Of each file what its place follows from: its name and size. A corrected label moves no image."""
        return (b"%s\0%d" % (os.fsencode(form(self.name_of(path))), size)
                for path, size in zip(files.paths, files.sizes.tolist(), strict=True))  # fmt: skip

    def digest(self, form=composed):
        """What the table is known by, wherever it lies: a digest of its labels, and of all names, sizes and labels."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(b"\0".join(os.fsencode(form(name)) for name in self.folders))
        for part, files in sorted(self.parts.items()):
            digest.update(f"\n\n{part}".encode())
            marks = np.packbits(files.labels, 1) if files.labels.ndim == 2 else files.labels.astype("<i4")[:, None]
            keys, marks = list(self.keys(files, form)), np.ascontiguousarray(marks)
            for index in sorted(range(len(keys)), key=keys.__getitem__):
                digest.update(b"\n%s\0%s" % (keys[index], marks[index].tobytes()))
        return digest.hexdigest()


def is_table(source):
    """Whether something is a table: a file with the suffix of one, or a DataFrame."""
    if isinstance(source, str | os.PathLike):
        return os.path.splitext(source)[1].lower() in SUFFIXES and not os.path.isdir(source)
    return hasattr(source, "columns") and hasattr(source, "iloc")


def read_table(source, columns=None, labelled=True, as_before=False, completes=True, in_each_part=False, lists=True):
    """The `TableListing` of a table.

    Args:
        source: the path of a file, or a pandas DataFrame, whose paths are relative to the current folder and may lead
            anywhere.
        columns, labelled: a `Columns`; whether labels count, else there need be none, and no image has one.
        as_before, completes, in_each_part, lists: false, true, false and true but for a directory that an earlier
            version began: whether columns have no say that those passed over, whether names are completed, whether a
            file is used in each part that it has a row of, not only in that of its first row, and whether texts of
            lists are lists, not a class each.

    Raises:
        ValueError: one line; what cannot be read, and in which line; columns that are not there; a path that leads out
            of the folder; too many labels.
    """
    columns = columns or Columns()
    is_file = isinstance(source, str | os.PathLike)
    if not is_file and any(source.index.names) and not set(source.index.names) & set(source.columns):
        source = source.reset_index()  # names in the index are those of a column, as in a file of the same table
    root = expanded(columns.root) if columns.root else os.path.dirname(os.fspath(source)) if is_file else ""
    table = open_table(source) if is_file else frame_table(source)
    file, labels, division, notes = choose(table, columns, labelled, as_before)
    names = FileNames(os.path.abspath(root)) if completes else None
    rows = _Rows(os.path.abspath(root), columns.outside or not is_file, table.label, names, in_each_part)
    several = isinstance(labels, tuple)
    labels = labels if several else (labels,)
    are_listed = lists and not several and are_lists(table, *labels)
    marks = _Marks(labels) if several else _Names(columns.separator, are_listed)
    for number, (name, *cells) in table.rows([file, *labels, *division.columns]):
        part = division.part(cells[len(labels) :])
        label = marks.of(cells[: len(labels)], number)
        if part in PARTS.values() and label is not None:
            rows.add(number, name, part, label, marks)
        else:
            rows.leave_out(
                number, name, ("part", shown(part[:20]) or "none given") if label is not None else ("label", "")
            )
        if number > MAX_ROWS:
            raise ValueError(f"{table.label} must have at most {MAX_ROWS:,} rows")
    listing = rows.listing(marks, notes)
    brought = frozenset(listing.parts) - {"train"} if division.is_new else frozenset()
    found = {"completed": bool(names and names.found), "across": rows.across}
    return replace(listing, brought=brought, **found, listed=are_listed, listed_as_classes=not lists)


class _Names:
    """Numbers for labels as they come: the label of a cell, or a list of them."""

    def __init__(self, separator, are_listed=False):
        self.separator, self.several, self.are_listed = separator, separator is not None, are_listed
        self.numbers, self.lengths, self.separated = {}, set(), False

    def of(self, cells, line):
        """The number of a row's label, or a tuple of numbers; None for a row without one."""
        (cell,) = cells
        if self.are_listed and isinstance(cell, str) and cell.strip():
            cell = listed(cell.strip())
        if isinstance(cell, LISTS):
            self.lengths.add(len(cell))
            return tuple(self._number(text) for one in cell if (text := written(one).strip()))
        text = (cell if type(cell) is str else written(cell)).strip()
        if self.separator is None:
            return self._number(text) if text else None
        parts = text.split(self.separator)
        self.separated |= len(parts) > 1
        return tuple(self._number(part) for one in parts if (part := one.strip()))

    @property
    def as_classes(self):
        """How labels of which each image has one become classes."""
        return (
            "a name in the place of each list makes them classes"
            if self.lengths
            else "without --separator they are classes"
        )

    def notes(self, joined, without):
        """What a user should know of the cells, a line each.

        Whether rows of one file have been joined, and how many images have no label, count.
        """
        if self.are_listed:
            unused = f", and the separator {self.separator!r} is not used" if self.several else ""
            yield f"labels are texts of lists: an image may have several{unused}"
        elif self.several and not self.separated and (self.lengths or not joined):
            why = "it is not used, as cells are lists" if self.lengths else "each image has one label at most"
            yield f"no cell has the separator {self.separator!r}: {why}"
        if (self.several or self.are_listed) and without:
            yield f"{without:,} {'images' if without > 1 else 'image'} without any label count as having none of them"

    def _number(self, text):
        number = self.numbers.get(text)
        if number is None:
            number = self.numbers[text] = len(self.numbers)
            if number >= MAX_CLASSES:
                raise ValueError(f"`data` must have at most {MAX_CLASSES:,} labels. Received: a table with more")
        return number


class _Marks:
    """Labels that are columns: an image has those whose cell is 1."""

    several, lengths = True, ()
    as_classes = "one column with their names in the place of several makes them classes"

    def __init__(self, names):
        self.numbers = {name: number for number, name in enumerate(names)}
        self.names, self.kinds = list(names), set()

    def of(self, cells, line):
        """The numbers of a row's labels."""
        found = []
        for number, cell in enumerate(cells):
            text = written(cell).strip().lower().removesuffix(".0")
            if text in YES:
                found.append(number)
            elif text in NO or text == "-1":
                self.kinds.add(text)
            else:
                rule = "1 or 0 for an image that has the label or not"
                received = f"{shown(written(cell)[:20])!r} in row {line} of {shown(self.names[number])}"
                raise ValueError(f"`label_column` of several columns must have {rule}. Received: {received}")
        if "-1" in self.kinds and len(self.kinds) > 1:
            raise ValueError("`label_column` must have 1 and 0, or 1 and -1. Received: -1 beside 0 or nothing")
        return tuple(found)

    def notes(self, joined, without):
        """What a user should know of the cells, a line each."""
        if "" in self.kinds and len(self.kinds) > 1:
            yield "empty cells of label columns count as 0"


class _Rows:
    """The images of a table, and what of it is left out."""

    def __init__(self, root, outside, label, names, in_each_part):
        self.root, self.outside, self.table, self.names = root, outside, label, names
        self.in_each_part = self.across = in_each_part
        self.paths, self.sizes, self.labels, self.parts, self.lines = [], [], [], [], []
        self.left_out, self.left_lines, self.known, self.joined, self.further = {}, {}, {}, 0, {}
        self.completed = []  # rows whose file may have another name
        self.start = os.path.join(root, "")

    def leave_out(self, line, name, reason):
        """Note why a row's name is not used; the same name again is another one."""
        name = written(name) or "(no name)"
        name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
        name = f"{name}, again in row {line}" if name in self.left_out else name
        self.left_out[name], self.left_lines[name] = reason, line

    def add(self, line, name, part, label, marks):
        """Take a row, if its file is one."""
        if not isinstance(name, str):
            name = written(name)
        name = name.strip()
        if not name:
            return self.leave_out(line, "", ("unnamed", ""))
        path, status = self._found(name, line)
        if status == MISSING and self.names and self.names.meant(path):
            return self.completed.append((line, name, part, label, path))
        self._take(line, name, part, label, path, status)

    def _take(self, line, name, part, label, path, status):
        if type(status) is tuple:  # what `os.stat` gives is a kind of tuple as well
            return self.leave_out(line, name, status)
        if reason := _no_image(path, status):
            return self.leave_out(line, self._name(path), reason)
        before = self.known.setdefault((path, part) if self.in_each_part else path, len(self.paths))
        if before < len(self.paths):
            return self._again(before, path, part, label, line)
        self.paths.append(path)
        self.sizes.append(status.st_size)
        self.labels.append(label)
        self.parts.append(part)
        self.lines.append(line)

    def _take_completed(self):
        """Take those rows whose file no other row means, by its own name or by another one."""
        if not self.completed:
            return
        own, found = {*self.paths, *map(self.start.__add__, self.left_out)}, self.names.found
        meant = Counter({composed(path): file for path, file in found.items()}.values())
        unclear = {path for path, file in found.items() if file in own or meant[file] > 1}
        for line, name, part, label, path in self.completed:
            file, status = path, MISSING
            with contextlib.suppress(OSError):
                if path not in unclear:
                    file, status = found[path], os.stat(found[path])
            self._take(line, name, part, label, file, status)
        for path in unclear:
            del found[path]

    def _name(self, path):
        return path.removeprefix(self.start)

    def _again(self, before, path, part, label, line):
        """A file that is in another row as well: it is of the part of its first row."""
        kept = self.parts[before]
        self.across |= kept != part
        if isinstance(label, tuple):
            self.further.setdefault(before, set()).update(label)
            self.joined += 1
        elif label != self.labels[before]:
            raise ValueError(
                f"{self.table} must have one label for a file, unless there is a `separator`. Received: two for "
                f"{shown(self._name(path))}, the second in row {line}"
            )
        if kept != part or not isinstance(label, tuple):
            detail = f"{kept} keeps a file that has rows of {kept} and {part}" if kept != part else ""
            self.leave_out(line, self._name(path), ("twice", detail))

    def _found(self, name, line):
        path = self.start + name if name[0] != "/" else name
        if name[0] in "./" or "/." in name or "//" in name:
            path = os.path.normpath(path)
            if not self.outside and not path.startswith(self.start):
                raise ValueError(
                    f"{self.table} must name files in {shown(self.root)}, unless `outside` is set. "
                    f"Received: {shown(name[:200])} in row {line}"
                )
        try:
            return path, os.stat(path)
        except ValueError:  # a byte 0 in it
            return path, MISSING
        except OSError as error:
            if error.errno != errno.ENOENT:
                return path, ("unreadable", error.strerror)
            if "\\" in name:
                return self._found(name.replace("\\", "/"), line)
            below = self._name(path)
            for form in ("NFC", "NFD"):  # some systems take letters apart from their accents
                other = path.removesuffix(below) + unicodedata.normalize(form, below)
                with contextlib.suppress(OSError):
                    return other, os.stat(other)
            return path, MISSING

    def listing(self, marks, notes):
        """The `TableListing` of all rows."""
        self._take_completed()
        kinds = {kind for kind, _ in self.left_out.values()}
        words = f"; parts are called {', '.join(PARTS)}" if "part" in kinds else ""
        if not self.paths:
            why = LeftOut(self.root, self.left_out).summary()
            example = next(iter(self.left_out), "")
            hint = f", such as {shown(example[:100])}; paths are relative to {shown(self.root)}" if example else ""
            hint = "" if kinds == {"part"} else hint
            received = f"{why or 'no row'}{hint}{words}"
            raise ValueError(f"{self.table} must have a row whose file is there. Received: {received}")
        for index, further in self.further.items():
            self.labels[index] = tuple(further.union(self.labels[index]))
        several = marks.several or bool(marks.lengths)
        if several and not marks.several and any(not isinstance(label, tuple) for label in self.labels):
            raise ValueError(f"{self.table} must have lists of labels in all rows, or in none")
        if len(marks.lengths) == 1 and max(marks.lengths) > 1 and marks.numbers.keys() <= BOTH:
            rule = "lists of the labels that an image has, or a column of 1 and 0 for each label"
            raise ValueError(f"{self.table} must have {rule}. Received: lists of 1 and 0")
        parts = np.array([("train", "validation", "test").index(part) for part in self.parts], np.int8)
        if not (parts == 0).any():
            more = LeftOut(self.root, self.left_out).summary()
            received = "; ".join([few(sorted(set(self.parts))) + (f", and {more}{words}" if more else ""), *notes])
            raise ValueError(f"{self.table} must have rows for train. Received: {received}")
        names, number_of = self._names(marks, parts, several)
        notes += self.names.notes() if self.names else ()
        if self.joined:
            notes.append(f"{self.joined:,} rows name a file of another row: their labels are joined")
        without = sum(label == () for label in self.labels)
        notes += [*marks.notes(self.joined, without), *names_alike(names), *([] if several else _hints(names))]
        if several and len(names) > 1 and all(label is None or len({*label}) == 1 for label in self.labels):
            notes.append(
                f"each image has exactly one of the labels, which are trained as independent: {marks.as_classes}"
            )
        labels = self._labels(number_of, several, len(names))
        used = np.array([label is not None for label in self.labels], bool)
        order = np.array(sorted(range(len(parts)), key=list(map(composed, self.paths)).__getitem__), np.int64)
        found = {}
        for number, part in enumerate(("train", "validation", "test")):
            own = order[(used & (parts == number))[order]]
            if len(own):
                paths = tuple(self.paths[index] for index in own.tolist())
                found[part] = Files(paths, np.array(self.sizes, np.int64)[own], labels[own])
        return TableListing(self.root, tuple(names), found, LeftOut(self.root, self._apart(used)), tuple(notes))

    def _apart(self, used):
        """What is left out, under no name of an image that is used by another row, and may turn out to be broken."""
        names = {self._name(self.paths[index]) for index in np.flatnonzero(used).tolist()} if self.left_out else ()
        return {
            f"{name}, again in row {self.left_lines[name]}" if name in names else name: reason
            for name, reason in self.left_out.items()
        }

    def _names(self, marks, parts, several):
        """(The names of the labels, sorted; the new number of each old one, -1 for one that training does not have)."""
        old = list(marks.numbers)
        if isinstance(marks, _Marks):
            return old, np.arange(len(old))
        taught = set()
        for index in np.flatnonzero(parts == 0).tolist():
            label = self.labels[index]
            taught.update(label) if several else taught.add(label)
        names = sorted(old[number] for number in taught)
        number_of = np.full(len(old), -1)
        for new, name in enumerate(names):
            number_of[marks.numbers[name]] = new
        for index in np.flatnonzero(parts).tolist():
            label = self.labels[index]
            strange = [old[one] for one in (label if several else (label,)) if number_of[one] < 0]
            if strange:
                self.leave_out(self.lines[index], self._name(self.paths[index]), ("class", shown(strange[0])))
                self.labels[index] = None
        return names, number_of

    def _labels(self, number_of, several, count):
        """int32 [n], -1 for rows that are left out after all; or bool [n, labels]."""
        if not several:
            return np.array([-1 if label is None else number_of[label] for label in self.labels], np.int32)
        if len(self.labels) * count > MAX_MARKS:
            rule = f"at most {MAX_MARKS:,} images × labels"
            raise ValueError(f"{self.table} must have {rule}. Received: {len(self.labels):,} × {count:,}")
        marks = np.zeros((len(self.labels), count), bool)
        for index, label in enumerate(self.labels):
            if label:
                marks[index, number_of[list(label)]] = True
        return marks


def note_of_joined(names):
    """One line on labels that look like several in one, else None."""
    fractions = [name for name in names if FRACTION.fullmatch(name)]
    are_numbers = 2 * len(fractions) > len(names) and all(FRACTION.fullmatch(name) for name in names if "," in name)
    for separator in (*SEPARATORS, " "):
        parts = {part.strip() for name in names for part in name.split(separator)}
        joined = [name for name in names if separator in name]
        if (separator == "," and are_numbers) or (separator == " " and not _are_tags(names)):
            continue  # decimal commas
        if joined and len(parts) < len(names):
            return f"labels such as {shown(joined[0])} are one each: --separator '{separator}' makes them several"
    return None


def _are_tags(names):
    """Whether words with blanks between them may be labels: not where each name has as many, or all have one or two."""
    counts = {len(name.split()) for name in names}
    return len(counts) > 1 and max(counts) > 2


def _hints(names):
    """The same, and a line on numbers."""
    if note := note_of_joined(names):
        yield note
    if len(names) > MANY and len(found := list(filter(FRACTION.fullmatch, names))) > len(names) / 2:
        yield f"numbers such as {found[0]} are a class each: that a number is learnt (regression) is not there"


def _no_image(path, status):
    """Why a file is not taken for an image, as in `LeftOut.entries`; None for one that is, as far as can be told."""
    if not stat.S_ISREG(status.st_mode):
        return "special", ""
    if not status.st_size:
        return "broken", "it is empty"
    if path[-5:].lower().endswith(HEIF):
        suffix = os.path.splitext(path)[1].lower()
        from importlib.util import find_spec

        return None if find_spec("pillow_heif") else ("type", f"{suffix} (pip install nasnet_keras[heic])")
    return None
