"""The tables and the plot of RESULTS.md, made anew from the raw results in this folder.

    python benchmarks/results.py [--check]

Each table stands between two comments with its name and is replaced as a whole; the text around it is written by hand.
`--check` changes nothing, and fails where a table is not what the raw results say.
"""

import argparse
import re
import sys
from pathlib import Path

import cifar_search
import transfer

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "RESULTS.md"
PLOT = ROOT / "docs" / "cifar_search.svg"
TABLES = {
    "searches": cifar_search.search_table,
    "ahead of random": cifar_search.ahead_table,
    "retrained": cifar_search.retrained_table,
    "transfer": transfer.table,
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


def main():
    """Write the tables and the plot, or only look whether the tables are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look whether the tables are right")
    options = parser.parse_args()
    page = PAGE.read_text()
    made = with_tables(page)
    if options.check:
        sys.exit(f"{PAGE.name} is not what the raw results say: python benchmarks/results.py" if made != page else 0)
    PAGE.write_text(made)
    cifar_search.plot(PLOT)


if __name__ == "__main__":
    main()
