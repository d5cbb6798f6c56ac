"""Tables as files: CSV, TSV, JSON lines and Parquet, row by row, whatever stands in them."""

import csv
import json
import os
from collections import Counter

from nasnet_keras.data.left_out import few, shown

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MAX_BYTES, MAX_LINE = 4 << 30, 16 << 20
BATCH = 1024  # rows of Parquet, which may hold images
ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Table:
    """The names of columns, and what is in some of them.

    Args:
        names: of the columns.
        rows: a function of some names that gives (line, list of cells) of each row.
        label: what errors call the table.
        texts: names of the columns that may have texts, None for all.
        binary: those of them in which earlier versions looked for no texts.

    Raises:
        ValueError: two columns have the same name.
    """

    def __init__(self, names, rows, label, texts=None, binary=()):
        self.names, self.rows, self.label, self.binary = names, rows, label, binary
        self.texts = names if texts is None else texts
        double = [name for name, count in Counter(names).items() if count > 1 and name]
        if double:
            raise ValueError(f"{label} must have different names for its columns. Received: {few(double)} twice")


def open_table(path):
    """The `Table` in a file.

    Args:
        path: its path, with one of `SUFFIXES`.

    Raises:
        ValueError: one line; the file cannot be read, or is none.
    """
    label = f"`data` {shown(os.fspath(path))}"
    suffix = os.path.splitext(path)[1].lower()
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{label} must be a file, which is read more than once. Received: a pipe or a device")
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"{label} must have at most {MAX_BYTES:,} bytes")
        if suffix == ".parquet":
            return _parquet(path, label)
        with open(path, "rb") as file:
            start = file.read(65_536)
    except OSError as error:
        raise ValueError(f"cannot read {label}: {error.strerror}") from None
    encoding = next((name for mark, name in ENCODINGS if start.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and b"\0" in start:
        raise ValueError(f"{label} must be text. Received: a file with bytes of value 0, which is none")
    return (_delimited if suffix in DELIMITERS else _objects)(path, label, suffix, encoding)


def _text(path, label, encoding):
    """The lines of a text file; what is no text is a `ValueError`."""
    try:
        with open(path, encoding=encoding, newline="") as file:
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE:
                    raise ValueError(f"{label} must have lines of fewer than {MAX_LINE:,} letters")
                yield line
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"{label} must be text in UTF-8. Received: bytes that are none ({reason})") from None
    except OSError as error:
        raise ValueError(f"cannot read {label}: {error.strerror}") from None


def _delimited(path, label, suffix, encoding):
    first = next(_text(path, label, encoding), "")
    delimiter = max(DELIMITERS[suffix], key=first.count)

    def rows():
        reader = csv.reader(_text(path, label, encoding), delimiter=delimiter, strict=True)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(f"{label} must be a table. Line {reader.line_num}: {error}") from None

    names = [name.strip() for name in next(rows(), (0, []))[1]]
    if not names or names == [""]:
        raise ValueError(f"{label} must have a line with the names of its columns. Received: an empty one")
    headless = any(name.lower().endswith(IMAGES) for name in names)
    if headless:
        names = [str(number) for number in range(1, len(names) + 1)]

    def chosen(wanted):
        places, width, lines = [names.index(name) for name in wanted], len(names), rows()
        if not headless:
            next(lines)
        for number, row in lines:
            if len(row) == width or (not any(row[width:]) and len(row) > width):
                yield number, [row[place] for place in places]
            elif any(row):
                raise ValueError(f"{label} must have {width} cells in a line. Line {number} has {len(row)}")

    return Table(names, chosen, label)


def _objects(path, label, suffix, encoding):
    def objects():
        for number, line in enumerate(_text(path, label, encoding), 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_once)
            except KeyError as error:
                raise ValueError(
                    f"{label} must have each key once in a line, unlike {error} in line {number}"
                ) from None
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"{label} must have a JSON object in each line, unlike line {number}")
            yield number, row

    names = {}
    for _, row in objects():  # a later line may have what the first one lacks
        if not row.keys() <= names.keys():
            names |= dict.fromkeys(row)

    def chosen(wanted):
        return ((number, [row.get(name) for name in wanted]) for number, row in objects())

    return Table(list(names), chosen, label)


def _once(pairs):
    """The object of some pairs; raises `KeyError` where a key comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return found


def _parquet(path, label):
    try:
        from pyarrow import parquet, types
    except ImportError:
        raise ValueError(f"{label} needs a package: pip install nasnet_keras[parquet]") from None
    try:
        file = parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        old = (types.is_string, types.is_large_string, types.is_dictionary)
        new = (types.is_binary, types.is_large_binary)
        new += (types.is_string_view,) if hasattr(types, "is_string_view") else ()
        texts, binary = (
            [field.name for field in file.schema_arrow if any(is_kind(field.type) for is_kind in kinds)]
            for kinds in (old + new, new)
        )
    except Exception as error:  # of C++, in its own words
        raise ValueError(f"cannot read {label}: {' '.join(str(error).split())[:200]}") from None

    def chosen(wanted):
        number = 0
        try:
            for batch in file.iter_batches(BATCH, columns=list(wanted)):
                for cells in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                    number += 1
                    yield number, list(cells)
        except Exception as error:  # likewise
            if isinstance(error, ValueError) and str(error).startswith("`data`"):
                raise
            raise ValueError(f"cannot read {label}: {' '.join(str(error).split())[:200]}") from None

    return Table(names, chosen, label, texts, binary)


def frame_table(frame):
    """A pandas DataFrame as a `Table`."""
    kinds = [getattr(getattr(frame[name], "dtype", None), "kind", "O") for name in frame.columns]
    texts = [str(name) for name, kind in zip(frame.columns, kinds, strict=True) if kind in "OSU"]

    def chosen(wanted):
        named = {str(name): name for name in frame.columns}
        columns = [frame[named[name]].tolist() for name in wanted]
        return ((number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1))

    return Table(list(map(str, frame.columns)), chosen, "`data`", texts)
