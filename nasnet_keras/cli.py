"""The command line: `nasnet-keras COMMAND …`. What each command does stands in its file in `commands`.

A command prints its result on stdout and its progress on stderr. Exit code 0 means done, 2 bad input or no result
(one line says why), 130 interrupted (the line says what holds: a command's `INTERRUPTED`; the state of a search or a
training is saved), 1 some images that `predict` could not read, or an error that nobody expected. `--traceback` shows
where any error happened.
"""

import argparse
import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from importlib import import_module
from types import MappingProxyType

from nasnet_keras.commands.groups import Options, arrange
from nasnet_keras.commands.terminal import one_line
from nasnet_keras.files import expanded

# In the order of the help; each is a module of `commands`.
COMMANDS = ("search", "train", "finetune", "evaluate", "predict", "export", "serve", "plot", "report", "data", "list")
# What a user can mend: arguments, files, the machine. Any other exception is taken for a fault of the package.
EXPECTED = (ValueError, ArithmeticError, OSError, MemoryError)


def main(arguments=None):
    """Run a command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows the rest all the same
    options = parser().parse_args(arguments)
    _expand(options)
    options.words = sys.argv[1:] if arguments is None else list(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.backend = os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of files that they do not name; what is wrong with one is told
    command = _module(options.command)
    try:
        _check_texts(options)
        return command.run(options, **command.check(options)) or 0  # bad input is refused before TensorFlow is loaded
    except KeyboardInterrupt:
        text = getattr(command, "INTERRUPTED", "interrupted")
        return _end(130, text.format(command=shlex.join(["nasnet-keras", *options.words])))
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if options.traceback:
            traceback.print_exc()
        if missing := _missing(error):
            return _end(2, missing)
        if isinstance(error, EXPECTED):
            return _end(2, one_line(error))
        more = "" if options.traceback else "; --traceback shows where"
        return _end(1, f"a fault of nasnet_keras: {type(error).__name__}: {one_line(error)}{more}")


def parser():
    """The argument parser of all commands."""
    top = _Parser(prog="nasnet-keras", description="Search for NASNet cells, train, use and serve them.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    known = {}
    for name in COMMANDS:
        module = _module(name)
        sub = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
            epilog=f"example: nasnet-keras {module.EXAMPLE}",
            formatter_class=_Defaults,
            add_help=False,
        )
        options = Options()
        module.add_options(options)
        options.add_argument("--json", action="store_true", help="print one JSON object as the last line")
        options.add_argument("--traceback", action="store_true", help="show where an error happened")
        options.add_argument("-h", "--help", action="help", help="show this help message and exit")
        arrange(sub, name, options)
        sub.known = known
        known[name] = {flag for flags, _ in options.wanted.values() for flag in flags}
    return top


def _module(name):
    return import_module(f"nasnet_keras.commands.{name}")


def _end(code, line):
    print(f"nasnet-keras: {line}", file=sys.stderr)
    return code


# What begins with a ~ here is no path.
TEXTS = {"separator", "file_column", "label_column", "split_column", "name", "host_name"}


def _expand(options):
    """Put the home directory in the place of a `~` at the beginning of whatever is no mere text, as a shell does."""
    for name, value in vars(options).items():
        if name in TEXTS:
            continue
        if isinstance(value, list):
            setattr(options, name, [expanded(one) for one in value])
        elif isinstance(value, str):
            setattr(options, name, expanded(value))


def _check_texts(options):
    """Raise `ValueError` for an empty text, as a shell makes of a variable that is not set: it would count as none."""
    for name, value in vars(options).items():
        if value == "":
            raise ValueError(f"`{name}` must be more than an empty text, which an unset variable is. Received: ''")


def _missing(error):
    """The line for a package that is not there, above all Keras' backend; None for another error."""
    backend = os.environ["KERAS_BACKEND"]
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module == backend or "import backend" in str(error):
        known = "tensorflow or jax, and be installed"
        return f"`KERAS_BACKEND` must be {known}. Received: {backend!r}, which cannot be imported"
    return f"`{module}` is not installed" if module not in ("", "nasnet_keras") else None


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not that an option without one is None, or False."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it, and whose option it is that a command lacks."""

    known = MappingProxyType({})  # {command: its options}

    def parse_known_args(self, args=None, namespace=None):
        found, left = super().parse_known_args(args, namespace)
        if left:  # not left to the parser of all commands, whose help has no options
            self.error(f"unrecognized arguments: {' '.join(left)}{''.join(map(self._owners, left))}")
        return found, left

    def _owners(self, word):
        option = word.partition("=")[0]
        names = [name for name, options in self.known.items() if option.startswith("-") and option in options]
        listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
        return f"; {option} is an option of {listed}" if names else ""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


if __name__ == "__main__":
    sys.exit(main())
