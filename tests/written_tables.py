"""Tables for tests, in every format that is read."""

import csv
import json

import pytest

HEADER = ("file", "label")


def _parquet(path, rows, names):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = list(zip(*rows, strict=True))
    parquet.write_table(arrow.table({name: list(column) for name, column in zip(names, columns, strict=True)}), path)


def write(path, rows, names=HEADER):
    """A table of the kind that its name says."""
    if path.suffix == ".parquet":
        return _parquet(path, rows, names)
    if path.suffix == ".jsonl":
        return path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(names)
        writer.writerows(rows)
