"""The tables and the plots of RESULTS.md, made anew from the raw results in this folder and the index of weights.

    python benchmarks/results.py [--check]

Each table stands between two comments with its name and is replaced as a whole; the text around it is written by hand.
`--check` changes nothing, and fails where a table is not what the raw results say.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import cifar_search
import deletion
import exports
import few_trials
import longer
import numpy as np
import serve_beside
import staleness
import transfer
from bands import draw

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "RESULTS.md"
DOCS = ROOT / "docs"
TRAINED = "nasnet_cifar_cifar10"
TABLES = {
    "searches": cifar_search.search_table,
    "ahead of random": cifar_search.ahead_table,
    "retrained": cifar_search.retrained_table,
    "transfer": transfer.table,
    "deletion": deletion.table,
    "few trials": few_trials.table,
    "longer": longer.table,
    "staleness": staleness.table,
    "servers": serve_beside.table,
    "exports": exports.table,
}


def with_tables(page):
    """The page with every table as the raw results have it."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        made = start + "\n".join(table()) + "\n" + end
        page, count = re.subn(re.escape(start) + ".*?" + re.escape(end), lambda _, made=made: made, page, flags=re.S)
        if count != 1:
            sys.exit(f"{PAGE.name} must have the table `{name}` once, between {start.strip()} and {end}")
    return page


def plot_training(path):
    """Draw the validation accuracy of the shipped weights over their epochs."""
    index = json.loads((ROOT / "weights" / "index.json").read_text())
    (curve,) = (100 * np.array(entry["curve"]) for entry in index["weights"] if entry["name"] == TRAINED)
    panel = {"validation": [curve]}
    draw({"validation accuracy in % over the epochs": panel}, {"validation": "#1c7ed6"}, len(curve), 1, path)


def main():
    """Write the tables and the plots, or only look whether the tables are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look whether the tables are right")
    options = parser.parse_args()
    page = PAGE.read_text()
    try:
        made = with_tables(page)
    except OSError as error:
        sys.exit(f"no raw results: {error}")
    if options.check:
        sys.exit(f"{PAGE.name} is not what the raw results say: python benchmarks/results.py" if made != page else 0)
    PAGE.write_text(made)
    cifar_search.plot(DOCS / "cifar_search.svg")
    plot_training(DOCS / "cifar_training.svg")
    transfer.plot(DOCS / "transfer_curves.svg")


if __name__ == "__main__":
    main()
