"""The command `search`: cells are searched for, and the best network is trained longer beside others."""

import argparse
import logging
import os
import re
import socket
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from nasnet_keras.checks import check_integer, check_positive, first_difference
from nasnet_keras.children.scores import SCORES
from nasnet_keras.children.settings import EVALUATIONS, ChildSettings
from nasnet_keras.commands.datasets import Told, decode, find, require_validation
from nasnet_keras.commands.options import add_data, add_size, check_network, given, named, remark_on_stem
from nasnet_keras.commands.progress import SearchProgress, epoch_progress
from nasnet_keras.commands.terminal import GO_ON, finish, log_to, percent, print_table, tell, without_greetings
from nasnet_keras.data.sources import check_source
from nasnet_keras.files import check_folder, read_object, read_secret
from nasnet_keras.pictures.pareto import COSTS
from nasnet_keras.search.directory import SearchDirectory, check_place, compare_children, description
from nasnet_keras.search.distributed.processes import Machine
from nasnet_keras.search.distributed.ray_pool import engine_of
from nasnet_keras.search.distributed.roles import LEASE, PATIENCE, Role, current_role
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.rules import FailurePenalty, Limits, MedianStop, Replay, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import MEASURED, STRATEGIES, make_strategy, random_to_the_end
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.trials.imported import check_same_start, check_start, read_imports, read_tries
from nasnet_keras.search.trials.logs import check_identity, identify
from nasnet_keras.serving.address import check_address
from nasnet_keras.training.recipes import RECIPES

SUMMARY = "search for cells with the controller, then train the best one"
INTERRUPTED = GO_ON
DIRECTORY = "search"
EXAMPLE = "search --data digits --max-trials 60 --directory found"
# The settings of the controller, and the options that are theirs. The paper's 20 and 0.00035 are for 20,000 children:
# with some dozens nothing would be learnt.
CONTROLLER = {
    "batch_size": "controller_batch",
    "learning_rate": "controller_rate",
    "entropy_weight": "controller_entropy",
    "baseline_decay": "controller_baseline",
}
SMALL = {"batch_size": 4, "learning_rate": 0.006, "entropy_weight": 0.00001, "baseline_decay": 0.95}
# What a search keeps of itself, by the option that says it.
KEPT = {
    "strategy": "--controller",
    "seed": "--seed",
    "space.blocks": "--blocks",
    "settings.batch_size": "--controller-batch",
    "settings.learning_rate": "--controller-rate",
    "settings.entropy_weight": "--controller-entropy",
    "settings.baseline_decay": "--controller-baseline",
    "try": "--try",
    "start_from": "--start-from",
}
# Options that do nothing without others: what they need, and whether it is there.
NEEDS = {
    "target_exponent": ("a target", lambda given, _: given.target_parameters or given.target_multiply_adds),
    "final_epochs": ("a comparison at the end, or `retrain`", lambda given, _: given.retrain or not given.no_final),
    "name": ("`role` worker", lambda given, _: given.role == "worker"),
    "address": ("`role`", lambda given, _: given.role),
    "lease": ("`role`", lambda _, role: role),
    "patience": ("`role`, or `engine` ray", lambda given, role: role or given.engine != "here"),
}
# What a worker leaves to its chief.
OF_CHIEF = ("hours", "start_from", "tries", "cost", "prefer", "retrain", "final_epochs", "tensorboard")


def add_options(parser):
    """Add the options."""
    add_data(parser)
    parser.add_argument("--max-trials", type=int, default=60, help="children in all, earlier runs included")
    parser.add_argument("--hours", type=float, help="begin no child after so many hours of this run")
    parser.add_argument("--directory", default=DIRECTORY, help="where the search lives; run again to go on")
    help_text = f"who proposes; measured ahead of the others with up to {MEASURED} trials: predictor (docs/search.md)"
    parser.add_argument("--controller", choices=[*STRATEGIES], default="rl", help=help_text)
    helps = {
        "batch_size": "rewards per policy update (the paper: 20)",
        "learning_rate": "the policy's learning rate (the paper: 0.00035)",
        "entropy_weight": "weight of its entropy",
        "baseline_decay": "decay of its moving average of rewards",
    }
    for name, text in helps.items():
        option, default = f"--{CONTROLLER[name].replace('_', '-')}", SMALL[name]
        parser.add_argument(option, type=type(default), default=default, help=text)
    parser.add_argument("--blocks", type=int, default=5, help="blocks in a cell")
    add_size(parser, repeats=1, filters=8)
    parser.add_argument("--epochs", type=int, default=1, help="epochs that a child trains for")
    parser.add_argument("--recipe", default="micro", help=f"how a child is trained: {', '.join(RECIPES)}")
    parser.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    parser.add_argument(
        "--evaluation",
        choices=EVALUATIONS,
        default="independent",
        help="shared: children go on from each other's weights (ENAS); fast, and less certain",
    )
    parser.add_argument("--shared-steps", type=int, default=10, help="steps of a child with shared weights")
    parser.add_argument("--final-epochs", type=int, default=10, help="epochs for the last networks and --retrain")
    parser.add_argument("--no-final", action="store_true", help="stop after the last trial")

    parser.add_argument("--no-replay", action="store_true", help="train networks again that were seen before")
    parser.add_argument("--max-parameters", type=int, help="children above fail before they are trained")
    parser.add_argument("--max-multiply-adds", type=int, help="likewise")
    parser.add_argument("--screen", choices=tuple(SCORES), help="score children before they are trained")
    parser.add_argument(
        "--screen-share", type=float, default=0.3, help="share of random cells that a child has to beat"
    )
    parser.add_argument("--target-parameters", type=int, help="reward × (parameters / target) ^ exponent (MnasNet)")
    parser.add_argument("--target-multiply-adds", type=int, help="the same with multiply-adds")
    parser.add_argument("--target-exponent", type=float, default=-0.07, help="of the target")
    parser.add_argument(
        "--cost", choices=COSTS, default=COSTS[0], help="what a child costs, for the front and --prefer"
    )
    parser.add_argument(
        "--prefer", default="reward", metavar="RULE",
        help="which child is the best: reward, the highest; within:0.01, the cheapest of those at most so much below "
        "it; below:5000000, the highest of those that cost at most so much",
    )  # fmt: skip
    parser.add_argument("--failure-reward", type=float, help="what the controller is told of a failed child")
    parser.add_argument("--median-stop", action="store_true", help="end children that do worse than half of the others")

    parser.add_argument("--start-from", metavar="DIR", help="another search, whose trials are learnt from first")
    parser.add_argument(
        "--try", dest="tries", action="append", default=[], metavar="GENOTYPE",
        help="a genotype's name or file that is trained before the controller proposes; several times for several",
    )  # fmt: skip
    parser.add_argument(
        "--retrain", type=int, default=0, metavar="K", help="train the K best longer, and take their best"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write scalars and HParams to DIR/tensorboard")

    parser.add_argument(
        "--engine", default="here", metavar="here|ray[://HOST:PORT]", help="here, or on a Ray cluster (extra `ray`)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="children at a time: processes of this machine, or on Ray"
    )
    parser.add_argument("--child-cpus", type=float, metavar="CPUS", help="what a child on Ray gets (1)")
    parser.add_argument("--child-gpus", type=float, metavar="GPUS", help="likewise; a fraction shares a GPU (0)")
    patience = "seconds to wait for a chief, or on Ray while there is no worker"
    parser.add_argument("--patience", type=float, default=PATIENCE, help=patience)

    parser.add_argument("--role", choices=("chief", "worker"), help="part of a search over several machines")
    parser.add_argument("--address", default="127.0.0.1:7877", metavar="HOST:PORT", help="the chief's")
    parser.add_argument("--name", help="the worker's (default: from its host and process)")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds until a silent worker has lost its trial")
    parser.add_argument(
        "--secret", metavar="FILE", help="what chief and workers know where the address is not loopback"
    )


def check(options):
    """The space, the description of the children, rules, settings, role, and the data, None for a worker."""
    child = ChildSettings(**given(options, *(field.name for field in fields(ChildSettings))))
    space, rules = SearchSpace(blocks=options.blocks), _rules(options)
    settings, engine, role = _settings(options), _engine(options), _role(options)
    Preference(options.cost, options.prefer)
    with named(tries="try"):
        tries = read_tries(options.tries, options.max_trials, options.directory)
    _require_use(options, role, child)
    for genotype in tries if role is None or role.is_chief else ():
        try:
            space.encode(genotype)
        except ValueError as error:
            tell(f"{genotype.name or genotype.digest} is trained, but the controller learns nothing from it: {error}")
    for name, least in (("max_trials", 1), ("final_epochs", 1), ("retrain", 0), ("workers", 0)):
        check_integer(name, getattr(options, name), least)
    if options.workers and not engine:
        Machine(options.workers, None)  # asked whether there may be so many before anything is loaded
    for name, unit in (("hours", ""), ("lease", "seconds"), ("patience", "seconds")):
        check_positive(name, getattr(options, name), unit, optional=name == "hours")
    places = {"role": role, "engine": engine}
    checked = {"space": space, "child": child, "rules": rules, "settings": settings, **places}
    size = given(options, "repeats", "filters", "stem")
    check_network(**size)
    check_source(options.data)
    if role is not None and not role.is_chief:
        role.check_secret()
        return {**checked, "data": None}  # first it looks for its chief, which knows the rest
    if role is not None:
        check_address(role.host, role.port)
        role.check_secret()
    directory = Path(options.directory).absolute()
    check_folder("directory", directory)
    check_place(directory)
    strategy = make_strategy(options.controller, space, options.seed, settings)
    _compare_rules(directory, rules)
    try:
        check_identity(directory, identify(strategy, "reward", "max", rules, tries))
    except ValueError as error:
        raise ValueError(re.sub("`(.*?)`", lambda found: f"`{KEPT.get(found[1], found[1])}`", str(error))) from None
    _require_controller(options)
    is_alone = not options.start_from and not SearchDirectory(directory).imported.exists()
    is_alone &= options.max_trials > len(tries)
    if is_alone and (told := random_to_the_end(strategy, options.max_trials, options.max_trials)):
        tell(told.replace("`max_trials`", "--max-trials"))
    compare_children(directory, description(child))
    if options.start_from:
        check_start(directory, options.start_from)
        other = options.start_from, space, rules
        check_same_start(directory, *other) if SearchDirectory(directory).header.exists() else read_imports(*other)
    data = decode(options, find(options))
    require_validation(options, len(data.validation))
    remark_on_stem(size["stem"], data.image_shape)
    for genotype in [None, *tries]:
        check_network(genotype, **size, input_shape=data.image_shape)
    compare_children(directory, description(child, data))
    return {**checked, "data": data}


def _require_use(options, role, child):
    """Raise `ValueError` where an option would do nothing."""
    if options.median_stop and (options.epochs == 1 or options.evaluation == "shared"):
        received = f"{options.epochs} of {options.evaluation} children"
        raise ValueError(f"`median_stop` needs `epochs` above 1 of independent children. Received: {received}")
    is_worker = role is not None and not role.is_chief
    # One that has begun keeps what it has, and a worker has its chief's children.
    if not is_worker and not SearchDirectory(options.directory).header.exists():
        child.check_use()
    parser = argparse.ArgumentParser()
    add_options(parser)
    chiefs = {name: ("`role` chief, or none", lambda *_: False) for name in OF_CHIEF if is_worker}
    for name, (needed, is_there) in {**NEEDS, **chiefs}.items():
        value = getattr(options, name)
        if value != parser.get_default(name) and not is_there(options, role):
            option = "try" if name == "tries" else name
            raise ValueError(f"`{option}` needs {needed}, and does nothing without. Received: {value!r}")


def _require_controller(options):
    """Raise `ValueError` where the settings of RL's controller are for another one, or what teaches for none.

    What an earlier version let a search begin with goes on.
    """
    for name, option in CONTROLLER.items():
        value = getattr(options, option)
        if options.controller != "rl" and value != SMALL[name]:
            raise ValueError(f"`{option}` is for the controller rl. Received: {value}, {options.controller}")
    if options.controller == "random" and not SearchDirectory(options.directory).header.exists():
        for name in ("start_from", "failure_reward"):
            if (value := getattr(options, name)) is not None:
                raise ValueError(f"`{name}` is for a controller that learns. Received: {value}, random")


def _settings(options):
    if options.controller != "rl":
        return None
    with named(**CONTROLLER):
        return ControllerSettings(**{name: getattr(options, option) for name, option in CONTROLLER.items()})


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
            with named(target=f"target_{metric}", exponent="target_exponent"):
                rules.append(SoftTarget(target, metric, options.target_exponent))
    if options.median_stop:
        rules.append(MedianStop())
    if options.failure_reward is not None:
        with named(reward="failure_reward"):
            rules.append(FailurePenalty(options.failure_reward))
        if options.failure_reward > 1:
            tell(
                f"--failure-reward {options.failure_reward:g} makes failures the best of all: rewards are shares, to 1"
            )
    return tuple(rules)


def _compare_rules(directory, rules):
    """Raise `ValueError`, naming the option, if a directory holds a search with other rules."""
    try:
        then = _options_of(read_object(SearchDirectory(directory).header).get("rules", []))
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return  # new, or damaged
    if different := first_difference(then, _options_of([rule.to_dict() for rule in rules])):
        option, old, new = different
        rule, received = "left out" if old is None else "given" if old is True else old, option if new is True else new
        raise ValueError(
            f"`{option}` must be {rule}, as in the search that {directory} belongs to (or use another directory, where "
            f"`--start-from` learns from its trials). Received: {received}"
        )


def _options_of(rules):
    """{option: its value, None where it is left out} of rules as a search's header has them, as far as options go."""
    rules = {rule["rule"]: rule for rule in rules}
    limits, target = rules.get("Limits", {}), rules.get("SoftTarget", {})
    metric = target.get("metric")
    return {
        "--no-replay": "Replay" not in rules or None,
        "--max-parameters": limits.get("max_parameters"),
        "--max-multiply-adds": limits.get("max_multiply_adds"),
        "--target-parameters": target.get("target") if metric == "parameters" else None,
        "--target-multiply-adds": target.get("target") if metric == "multiply_adds" else None,
        "--target-exponent": target.get("exponent") if metric in ("parameters", "multiply_adds") else None,
        "--median-stop": "MedianStop" in rules or None,
        "--failure-reward": rules.get("FailurePenalty", {}).get("reward"),
    }


def _engine(options):
    """The `Engine` that the options name, None for this machine."""
    further = {"cpus": options.child_cpus, "gpus": options.child_gpus, "workers": options.workers or None}
    with named(cpus="child_cpus", gpus="child_gpus"):
        engine = engine_of(
            options.engine, patience=options.patience, **{name: x for name, x in further.items() if x is not None}
        )
    for name, unused in (("role", engine), ("child_cpus", not engine), ("child_gpus", not engine)):
        value = getattr(options, name)
        if unused and value is not None:
            raise ValueError(f"`{name}` must be left out with `engine` {options.engine!r}. Received: {value!r}")
    if engine:
        engine.check_installed()
    if (engine or options.workers) and options.evaluation == "shared":
        raise ValueError("`evaluation` must be independent where several workers search. Received: 'shared'")
    return engine


def _role(options):
    """This process's `Role`, by the options or by KerasTuner's variables; None for a search of its own or on Ray."""
    role = None if options.engine != "here" else _plain_role(options)
    if options.secret is None:
        return role
    if role is None:
        raise ValueError(f"`secret` must be left out of a search without a role. Received: {options.secret!r}")
    return replace(role, secret=read_secret("secret", options.secret))


def _plain_role(options):
    if options.workers and options.role:
        raise ValueError(f"`workers` must be left out where `role` is given. Received: {options.workers}")
    if options.role is None:
        return None if options.workers else current_role()
    host, colon, port = options.address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        raise ValueError(f"`address` must be HOST:PORT. Received: {options.address!r}")
    name = "chief" if options.role == "chief" else options.name or f"worker-{socket.gethostname()}-{os.getpid()}"
    if options.role == "worker" and "chief" in name:
        raise ValueError(f"`name` must not contain chief, which is KerasTuner's word for one. Received: {name!r}")
    with named(tuner_id="name"):
        return Role(name, host, int(port))


def run(options, space, child, rules, settings, role, engine, data):
    """Search, then train the best cell longer beside NASNet-A's and a random one; or do a worker's part."""
    with without_greetings():
        from nasnet_keras.search.results.tensorboard import Summaries
        from nasnet_keras.search.tuner import search
    directory = SearchDirectory(Path(options.directory).absolute())
    arguments = {
        "space": space, "child": child, "settings": settings, "rules": rules, "role": role, "engine": engine,
        "lease": options.lease, "patience": options.patience,
    }  # fmt: skip
    search_it = (options.max_trials, Path(options.directory), options.controller, options.seed)
    if role is not None and not role.is_chief:
        from nasnet_keras.search.distributed.worker import await_chief

        await_chief(role, options.patience)  # before the data are read, which may take long
        data = decode(options, find(options, has_directory=options.directory != DIRECTORY))
        search(data, *search_it, **arguments)
        Told(data).tell()
        print(f"{role.tuner_id}: there is nothing left to do")
        return
    listeners = [Summaries(directory.path)] if options.tensorboard else []
    with SearchProgress(options.max_trials) as progress:

        def on_trial(trials):
            progress.update(trials)
            for listener in listeners:
                listener.update(trials)
            if (role or engine or options.workers) and not logging.getLogger("nasnet_keras").handlers:
                log_to(directory.chief_log)

        with _told_at_the_end():
            result = search(
                data, *search_it, **arguments, on_trial=on_trial, hours=options.hours, start_from=options.start_from,
                tries=options.tries, cost=options.cost, prefer=options.prefer,
                workers=options.workers or None, on_place=progress.place,
            )  # fmt: skip
    _conclude(options, result, data, child, space)
    Told(data, directory.path).tell()


@contextmanager
def _told_at_the_end():
    """What is to be said of the preference `_conclude` says, and `check` what of the strategy and of its start."""
    said = [logging.getLogger(one.__module__) for one in (Preference, make_strategy, read_imports)]
    for one in said:
        one.disabled = True
    try:
        yield
    finally:
        for one in said:
            one.disabled = False


def _conclude(options, result, data, child, space):
    """Retrain, compare and print, as far as that is wanted."""
    from nasnet_keras.search.results.final import compare, retrain
    from nasnet_keras.search.results.publication import best_genotype, commonest_reason
    from nasnet_keras.search.trials.state import is_exhausted

    failed = sum(trial["reward"] is None for trial in result.trials)
    first = max((one for one in result.trials if one["reward"] is not None), key=lambda one: one["reward"], default={})
    best = first.get("reward")
    figures = {"directory": str(result.directory), "trials": len(result.trials), "failed": failed, "best_reward": best}
    left = options.max_trials - len(result.trials)
    measure = "mean average precision" if data.several else "accuracy"
    if (raw := (first.get("metrics") or {}).get("raw_reward")) is None:
        reached = f"best validation {measure} {percent(best)}"
    else:  # a rule has shaped it, and it is no share any more
        reached = f"best reward {best:.4f} (validation {measure} {percent(raw)})"
    told = f"{len(result.trials)} trials, {failed} failed; {reached}"
    if left > 0:
        more = "the space holds no further cells" if is_exhausted(result.trials) else "run the same command to go on"
        told += f"; {left} trials are left, {more}"
    print(told)
    complaint = Preference.of(result.directory).complaint(result.trials)
    if result.best and complaint:
        tell(complaint)
    if result.best and options.retrain:
        rows = retrain(result, data, child, options.retrain, options.final_epochs, options.seed, epoch_progress)
        if rows:  # else none could be trained to its end, which has been told
            _print_networks(rows, f"The best {len(rows)} after {options.final_epochs} epochs", "validation_")
        result = replace(result, best=best_genotype(result.directory, result.trials))
        figures["retrained"] = [{key: row[key] for key in row if key != "genotype"} for row in rows]
    if result.best and not options.no_final:
        rows = compare(result, data, child, space, options.final_epochs, options.seed, epoch_progress)
        figures["final"] = rows
        _print_networks(rows, f"After {options.final_epochs} epochs")
        _tell_of_costs(rows)
    directory = SearchDirectory(result.directory)
    if result.best:
        print(f"Found cell: {directory.best_genotype}")
    print(f"Report: {directory.report}")
    finish(options, figures)
    if result.best is None:
        if complaint:
            raise ValueError(complaint)
        reason, count = commonest_reason(result.trials) or ("none was begun", 0)
        told = f"{count} of {len(result.trials)} failed with {reason}" if count else reason
        raise ValueError(f"no child has got a reward: {told}")


def _tell_of_costs(rows):
    """Say it where networks do not cost the same."""
    from nasnet_keras.search.results.final import SAME_COST

    (cost,) = (row["multiply_adds"] for row in rows if row["network"] == "nasnet_a")
    for row in rows:
        share = row["multiply_adds"] / cost - 1
        if abs(share) > SAME_COST:
            tell(f"{row['network']} has {share:+.0%} of NASNet-A's multiply-adds: filters are whole numbers")


def _print_networks(rows, title, part=""):
    measure = part + rows[0].get("measure", "accuracy")
    cells = []
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("parameters", "multiply_adds"))
        cells.append((row["network"], *counts, percent(row[f"{part}accuracy"])))
    print_table(("network", "parameters", "multiply-adds", measure.replace("_", " ")), cells, title=title)
