"""The command that searches."""

import logging
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.commands.datasets import decode, find
from nasnet_keras.commands.epoch_progress import EpochProgress
from nasnet_keras.commands.progress import SearchProgress
from nasnet_keras.commands.speech import finish, percent
from nasnet_keras.search.distributed.processes import Workers, follow
from nasnet_keras.search.distributed.worker import await_chief
from nasnet_keras.search.results.final import compare, retrain
from nasnet_keras.search.results.publication import best_genotype
from nasnet_keras.search.results.tensorboard import Summaries
from nasnet_keras.search.tuner import search


def run_search(options, space, child, rules, settings, role, data):
    """Search, then train the best cell longer beside NASNet-A's and a random one; or do a worker's part."""
    child, directory = ChildSettings(**asdict(child)), Path(options.directory)
    arguments = {
        "space": space, "child": child, "settings": settings, "rules": rules, "role": role,
        "lease": options.lease, "patience": options.patience,
    }  # fmt: skip
    search_it = (options.max_trials, directory, options.controller, options.seed)
    if role is not None and not role.is_chief:
        if options.parent:
            follow(options.parent)
        await_chief(role, options.patience)  # before the data are read, which may take long
        search(decode(options, find(options)), *search_it, **arguments)
        print(f"{role.tuner_id}: there is nothing left to do")
        return
    listeners = [Summaries(directory)] if options.tensorboard else []
    workers = Workers(options.workers, options.words, directory.absolute() / "logs") if options.workers else None
    with SearchProgress(options.max_trials) as progress:

        def on_trial(trials):
            progress.update(trials)
            for listener in listeners:
                listener.update(trials)
            if role is not None and not logging.getLogger("nasnet_keras").handlers:
                _log_to(directory / "chief.log")

        result = search(
            data, *search_it, **arguments, on_trial=on_trial, hours=options.hours, start_from=options.start_from,
            workers=workers,
        )  # fmt: skip
    _conclude(options, result, data, child, space)


def _conclude(options, result, data, child, space):
    """Retrain, compare and print, as far as that is wanted."""
    failed = sum(trial["reward"] is None for trial in result.trials)
    best = max((trial["reward"] for trial in result.trials if trial["reward"] is not None), default=None)
    figures = {"directory": str(result.directory), "trials": len(result.trials), "failed": failed, "best_reward": best}
    left = options.max_trials - len(result.trials)
    print(
        f"{len(result.trials)} trials, {failed} failed; best validation accuracy {percent(best)}"
        + (f"; {left} trials are left, run the same command to go on" if left > 0 else "")
    )
    if result.best and options.retrain:
        rows = retrain(result, data, child, options.retrain, options.final_epochs, options.seed, EpochProgress)
        figures["retrained"] = rows
        _print_table(rows, f"The best {len(rows)} after {options.final_epochs} epochs", "validation_accuracy")
        result = replace(result, best=best_genotype(result.directory, result.trials))
        figures["retrained"] = [{key: row[key] for key in row if key != "genotype"} for row in rows]
    if result.best and not options.no_final:
        rows = compare(result, data, child, space, options.final_epochs, options.seed, EpochProgress)
        figures["final"] = rows
        _print_table(rows, f"After {options.final_epochs} epochs", "accuracy")
    if result.best:
        print(f"Found cell: {result.directory / 'best_genotype.json'}")
    print(f"Report: {result.directory / 'report.html'}")
    finish(options, figures)


def _print_table(rows, title, measure):
    table = Table("network", "parameters", "multiply-adds", measure.replace("_", " "), title=title)
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("parameters", "multiply_adds"))
        table.add_row(row["network"], *counts, percent(row[measure]))
    Console().print(table)


def _log_to(path):
    logger, handler = logging.getLogger("nasnet_keras"), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
