"""What the commands `search` and `report` do."""

import logging
import os
import socket
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasnet_keras.launch import Workers, follow
from nasnet_keras.progress import EpochProgress, SearchProgress
from nasnet_keras.report import read_trials
from nasnet_keras.search.children import ChildSettings
from nasnet_keras.search.controller import ControllerSettings
from nasnet_keras.search.final import compare, retrain
from nasnet_keras.search.publication import write_report
from nasnet_keras.search.roles import Role, current_role
from nasnet_keras.search.rules import FailurePenalty, Limits, MedianStop, Replay, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.summaries import Summaries
from nasnet_keras.search.tuner import search
from nasnet_keras.search.worker import await_chief
from nasnet_keras.speech import finish, load, percent


def run_search(options):
    """Search, then train the best cell longer beside NASNet-A's and a random one; or do a worker's part."""
    child = ChildSettings(
        repeats=options.repeats,
        filters=options.filters,
        epochs=options.epochs,
        recipe=options.recipe,
        batch_size=options.batch_size,
        stem=options.stem,
        evaluation=options.evaluation,
        shared_steps=options.shared_steps,
        screen=options.screen,
        screen_share=options.screen_share,
    )
    space, rules, role = SearchSpace(blocks=options.blocks), _rules(options), _role(options)
    for name, least in (("final_epochs", 1), ("retrain", 0), ("workers", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {getattr(options, name)}")
    arguments = {
        "space": space, "child": child, "settings": _settings(options), "rules": rules, "role": role,
        "lease": options.lease, "patience": options.patience,
    }  # fmt: skip
    search_it = (options.max_trials, options.directory, options.controller, options.seed)
    if role is not None and not role.is_chief:
        if options.parent:
            follow(options.parent)
        await_chief(role, options.patience)  # before the data are read, which may take long
        search(load(options), *search_it, **arguments)
        print(f"{role.tuner_id}: there is nothing left to do")
        return
    data, directory = load(options), Path(options.directory)
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
        result = replace(result, best=rows[0]["genotype"])
        figures["retrained"] = [{key: row[key] for key in row if key != "genotype"} for row in rows]
    if result.best and not options.no_final:
        rows = compare(result, data, child, space, options.final_epochs, options.seed, EpochProgress)
        figures["final"] = rows
        _print_table(rows, f"After {options.final_epochs} epochs", "accuracy")
    if result.best:
        print(f"Found cell: {result.directory / 'best_genotype.json'}")
    print(f"Report: {result.directory / 'report.html'}")
    finish(options, figures)


def run_report(options):
    """Write the report of a search as it stands."""
    directory = Path(options.directory).absolute()
    if not (directory / "trials.jsonl").is_file():
        raise ValueError(f"`DIR` must be the directory of a search, with a trials.jsonl. Received: {options.directory}")
    trials = read_trials(directory / "trials.jsonl")
    write_report(directory, trials)
    if options.tensorboard:
        Summaries(directory).update(trials)
    print(directory / "report.html")
    finish(options, {"output": str(directory / "report.html"), "trials": len(trials)})


def _print_table(rows, title, measure):
    table = Table("network", "parameters", "multiply-adds", measure.replace("_", " "), title=title)
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("parameters", "multiply_adds"))
        table.add_row(row["network"], *counts, percent(row[measure]))
    Console().print(table)


def _settings(options):
    if options.controller != "rl":
        return None
    return ControllerSettings(
        batch_size=options.controller_batch,
        learning_rate=options.controller_rate,
        entropy_weight=options.controller_entropy,
        baseline_decay=options.controller_baseline,
    )


def _rules(options):
    rules = [] if options.no_replay else [Replay()]
    if options.max_parameters is not None or options.max_multiply_adds is not None:
        rules.append(Limits(options.max_parameters, options.max_multiply_adds))
    if options.target_parameters is not None and options.target_multiply_adds is not None:
        raise ValueError(
            "`target_parameters` must be left out where `target_multiply_adds` is given. "
            f"Received: {options.target_parameters} and {options.target_multiply_adds}"
        )
    for metric in ("parameters", "multiply_adds"):
        target = getattr(options, f"target_{metric}")
        if target is not None:
            rules.append(SoftTarget(target, metric, options.target_exponent))
    if options.median_stop:
        rules.append(MedianStop())
    if options.failure_reward is not None:
        rules.append(FailurePenalty(options.failure_reward))
    return tuple(rules)


def _role(options):
    """This process's `Role`, by the options or by KerasTuner's variables; None for a search of its own."""
    if options.workers and options.role == "worker":
        raise ValueError(f"`workers` must be left out of a worker. Received: {options.workers}")
    if options.role is None:
        return Role("chief", port=0) if options.workers else current_role()
    host, colon, port = options.address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"`address` must be HOST:PORT. Received: {options.address!r}")
    name = "chief" if options.role == "chief" else options.name or f"worker-{socket.gethostname()}-{os.getpid()}"
    if options.role == "worker" and "chief" in name:
        raise ValueError(f"`name` must not contain chief, which is KerasTuner's word for one. Received: {name!r}")
    return Role(name, host, int(port))


def _log_to(path):
    logger, handler = logging.getLogger("nasnet_keras"), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
