"""The command `report`: a search's report, also while it runs."""

from pathlib import Path

from nasnet_keras.commands.terminal import finish, tell
from nasnet_keras.search.directory import SearchDirectory
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.results.publication import renew_report
from nasnet_keras.search.trials.log import read_trials

SUMMARY = "write a search's report, also while it runs"
EXAMPLE = "report found"


def add_options(parser):
    """Add the options."""
    parser.add_argument("directory", metavar="DIR", help="the search's directory")
    parser.add_argument("--tensorboard", action="store_true", help="write scalars and HParams to DIR/tensorboard too")


def check(options):
    """The directory of the search, and its trials."""
    directory = SearchDirectory(Path(options.directory).absolute())
    if not directory.trials.is_file():
        raise ValueError(f"`DIR` must be the directory of a search, with a trials.jsonl. Received: {options.directory}")
    return {"directory": directory, "trials": read_trials(directory.trials)}


def run(options, directory, trials):
    """Write the report of a search as it stands; what is the best a search that runs says itself."""
    renew_report(directory.path)
    if options.tensorboard:
        from nasnet_keras.search.results.tensorboard import Summaries

        Summaries(directory.path).update(trials)
    if complaint := Preference.of(directory.path).complaint(trials):
        tell(complaint)
    print(directory.report)
    finish(options, {"output": str(directory.report), "trials": len(trials)})
