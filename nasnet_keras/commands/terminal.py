"""What is printed: figures, and nothing of what libraries say while they are loaded."""

import json
import logging
import math
import os
import sys
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.table import Column, Table

from nasnet_keras.data.left_out import as_utf8, shown

# What a command says after Ctrl-C that goes on where it was.
GO_ON = "interrupted. To go on, run the same command again: {command}"


@contextmanager
def without_greetings():
    """TensorFlow's libraries greet on the bare stderr while they are loaded, whatever one sets."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def needs(extra):
    """Packages are imported inside; one that is missing is a `ValueError` that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"`{error.name}` is not installed: pip install nasnet_keras[{extra}]") from None


def percent(value):
    """A share as text; a dash for None."""
    return "—" if value is None else f"{100 * value:.2f}%"


def judgement(figures):
    """The figure that counts of what `training.fitting.evaluate` gave, with its name: `accuracy 98.10%`."""
    from nasnet_keras.training.figures import MEASURES, judged

    name, value = judged(figures)
    return f"{MEASURES[name]} {percent(value)}"


def one_line(error):
    """What an exception says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def tell(line):
    """Say on stderr, in one line, what a user should know beside the result."""
    print(f"nasnet-keras: {line}", file=sys.stderr)


def print_table(heads, rows, last=None, **look):
    """Print a table of texts as they are: nothing in a name is taken for markup, and what is too long is folded.

    Args:
        heads: texts, or a `Column` where one has a look of its own.
        rows: an iterable of rows of texts.
        last: a row below a line.
        look: further arguments of `rich.table.Table`, as its `title`.
    """
    columns = [head if isinstance(head, Column) else Column(head) for head in heads]
    for column in columns:
        column.overflow = "fold"
    table = Table(*columns, **look)
    for row in rows:
        table.add_row(*map(shown, row))
    if last:
        table.add_section()
        table.add_row(*map(shown, last))
    Console(markup=False, emoji=False).print(table)


def finish(options, figures):
    """Print the figures as one line of JSON, if that is wanted."""
    sys.stdout.flush()
    if options.json:
        print(json.dumps(plain(figures)))


def plain(value):
    """What JSON has, for every reader: what is no number is null, and texts are those of `as_utf8`."""
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return list(map(plain, value))
    if isinstance(value, str):
        return as_utf8(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Log(logging.FileHandler):
    """A log that says in a line, once, that it cannot be written, as on a full disk; what it had to keep is lost."""

    has_told = False

    def emit(self, record):
        try:
            super().emit(record)  # which opens the file anew after an error, and the folder may have gone
        except OSError:
            self.handleError(record)

    def handleError(self, record):
        stream, self.stream = self.stream, None  # it is opened again for the next record
        with suppress(OSError, AttributeError):  # there may be none
            stream.close()
        if not self.has_told:
            tell(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}")
        self.has_told = True


def log_to(path):
    """Let the package's log go into a file as well."""
    logger, handler = logging.getLogger("nasnet_keras"), _Log(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
