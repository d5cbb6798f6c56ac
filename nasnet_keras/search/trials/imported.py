"""What a search is given before its own first proposal: another one's trials to learn from, genotypes to try."""

import json
import logging
import math
import operator
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nasnet_keras.checks import check_one_of, is_number
from nasnet_keras.files import expanded, read_object
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.pictures.pareto import COSTS
from nasnet_keras.search.directory import SearchDirectory
from nasnet_keras.search.rules import Rule
from nasnet_keras.search.trials.log import read_trials

logger = logging.getLogger(__name__)


def read_tries(tries, max_trials=None, directory=None):
    """The genotypes of a search's first trials, a tuple.

    Args:
        tries: a list of what `load_genotype` takes: genotypes, stored names, files.
        max_trials: of the search; None for no limit.
        directory: of the search, or None. One that has begun keeps its own: a file that cannot be read any more is not
            needed, which is logged.

    Raises:
        ValueError: naming `tries`, and the file where there is one, which may hold another genotype than the one that
            the search has begun with; or `max_trials`, if there are more of them.
    """
    if isinstance(tries, str | Genotype) or not isinstance(tries, Iterable):
        raise ValueError(f"`tries` must be a list of genotypes, stored names or files. Received: {tries!r}")
    tries, found = list(tries), []
    begun = _begun_tries(directory) if tries and directory is not None else []
    begun = begun if len(begun) == len(tries) else [(None, None)] * len(tries)
    for one, (own, kept) in zip(tries, begun, strict=True):
        label = (one.name or one.digest) if isinstance(one, Genotype) else one
        try:
            genotype = load_genotype(one)
        except ValueError as error:
            if own is None:
                raise ValueError(f"`tries` must be genotypes that can be read: {error}") from None
            logger.warning("%s: the search goes on with the genotype that it began with (%s)", label, error)
            genotype = own
        if own is not None and genotype.digest != own.digest:
            rule = f"the genotypes that the search in {directory} has begun with, in their order (or use another one)"
            where = f"; {kept} is the one in its place" if kept else ""
            raise ValueError(f"`tries` must be {rule}. Received: {label}, which is another genotype{where}")
        found.append(own or genotype)
    if max_trials is not None and len(found) > max_trials:
        rule = f"at least {len(found)}, as many as genotypes to try"
        raise ValueError(f"`max_trials` must be {rule}. Received: {max_trials}")
    return tuple(found)


def _begun_tries(directory):
    """What a search has begun with: a genotype and its file for each, None for what nothing tells any more."""
    place = SearchDirectory(directory)
    try:
        labels = [text.rpartition(" ") for text in read_object(place.header).get("try", ())]
    except (OSError, ValueError):
        return []  # new, or damaged: for `SearchLogs`
    lines = []
    with suppress(ValueError):  # an earlier version kept them with the trials that have ended, if there are any
        lines = [line.get("genotype") for line in read_trials(place.trials)[: 2 * len(labels)]] if labels else []
    known = {}
    for genotype in lines:
        with suppress(ValueError):
            genotype = Genotype.from_dict(genotype)
            known[genotype.digest] = genotype, None
    for path in sorted(place.tries.glob("*.json")):
        with suppress(ValueError):
            genotype = load_genotype(path)
            known[genotype.digest] = genotype, path
    own = [(known.get(digest, (None, None)), name) for name, _, digest in labels]
    return [(genotype and replace(genotype, name=name), path) for (genotype, path), name in own]


def read_imports(path, space, rules=None):
    """The trials of another search as decisions of this space, for `NASNetOracle(imports=…)`.

    An RL policy takes them for its own samples: their probabilities are those that it gives them when it is told. That
    is biased, since it did not choose them, and good for a start. Evolution's population is filled with the last of
    them. Their rewards only teach: they do not count as trials, cannot be the best, and are never replayed, because
    the children of the other search may have been trained otherwise.

    Args:
        path: the other search's directory, or its `trials.jsonl`.
        space: the `SearchSpace`; trials outside of it are left out, and their number is logged.
        rules: those of the search that is to learn, which shape each reward as its child reported it. A trial that one
            of them cannot shape, as it has no such cost, is left out, and their number is logged. None takes rewards
            as the other search's rules have shaped them.

    Returns:
        A list of `{"decisions": [...], "reward": float, "direction": "max", "trial_id": …}`, in order; of a search that
        minimises the negatives of its rewards. `NASNetOracle` turns them round where it minimises. Where no
        `search.json` says what is looked for there is no `direction`, and rewards count as the oracle's own.

    Raises:
        ValueError: the file cannot be read; none of its trials lies in this space, or can be shaped; or the other
            search minimises, and a rule shapes rewards that are maximised.
    """
    path, lines, found = _read(path, space)
    (name, direction), (imports, reason) = _objective(path), _taken(path, found, rules)
    if not imports:
        why = f", as {reason}" if reason else ""
        raise ValueError(
            f"`start_from` must hold finished trials whose cells lie in this space. Received: {path}, "
            f"with {len(lines)} trials and none of that kind{why}"
        )
    if reason:
        logger.warning("%s: %d of %d trials are left out: %s", path, len(found) - len(imports), len(found), reason)
    if direction == "min":
        logger.warning("%s minimises %s: the negative of it is learnt from", path, name)
    logger.info("%s: %d of %d trials are learnt from", path, len(imports), len(lines))
    return imports


def _taken(path, found, rules):
    """(the imports, why some are left out or None) of what `_read` has found there; raises `ValueError`."""
    name, direction = _objective(path)
    shaping = [rule for rule in rules or () if type(rule).shaped is not Rule.shaped]
    if direction == "min" and shaping:
        raise ValueError(
            f"`start_from` must be a search that maximises where {type(shaping[0]).__name__} shapes rewards. "
            f"Received: {path}, which minimises {name}"
        )
    imports, reason = [], None
    for decisions, line in found:
        reward = float(line["reward"]) if rules is None else _reported(line, name)
        try:
            for rule in shaping:
                reward = float(rule.shaped(reward, {**_numbers(line), name: reward}))
            if not math.isfinite(reward):
                raise ValueError(f"`{name}` must be a finite number. Received: {reward}")
        except (ArithmeticError, ValueError) as error:
            reason = reason or str(error)
            continue
        told = {"reward": -reward if direction == "min" else reward} | ({"direction": "max"} if direction else {})
        imports.append({"decisions": decisions, **told, "trial_id": line.get("trial_id")})
    return imports, reason


def _read(path, space):
    """(the file, all its lines, (decisions, line) of each that has a reward and lies in the space)."""
    path = Path(expanded(path))
    path = SearchDirectory(path).trials if path.is_dir() else path
    lines, found = read_trials(path), []
    for line in lines:
        reward = line.get("reward")
        if type(reward) not in (int, float) or not math.isfinite(reward):
            continue
        try:
            found.append((list(space.encode(Genotype.from_dict(line.get("genotype")))), line))
        except ValueError as error:
            logger.debug("trial %s is left out: %s", line.get("trial_id"), error)
    return path, lines, found


def _objective(path):
    """Name and direction of what the search looks for whose `trials.jsonl` this is; None where nothing says that."""
    place = SearchDirectory(path.parent)
    return place.objective(unknown=None) if place.trials.name == path.name else ("reward", None)


def _numbers(line):
    """What a line tells of its child beside the reward, {name: number}."""
    metrics = line.get("metrics")
    found = {**(metrics if isinstance(metrics, dict) else {}), **{name: line.get(name) for name in COSTS}}
    return {name: value for name, value in found.items() if is_number(value) and math.isfinite(value)}


def _reported(line, name):
    """A trial's reward before a rule shaped it."""
    return float(_numbers(line).get(f"raw_{name}", line["reward"]))


def check_start(directory, start_from):
    """Raise `ValueError` if a search is there that has begun without what another one has learnt."""
    directory = SearchDirectory(directory)
    if directory.header.exists() and not directory.imported.exists():
        raise ValueError(
            f"`start_from` must be left out where a search goes on that began without it, as in {directory.path}: "
            f"choose another directory. Received: {str(start_from)!r}"
        )


def check_same_start(directory, path, space, rules=None):
    """Raise `ValueError` if a search that goes on began with the trials of another search than this.

    Args:
        directory: of the search, which has an `imported.jsonl`.
        path, space, rules: see `read_imports`. The search there may have grown since.

    Returns:
        None; or, where that search cannot be read any more, one line that says so: what was imported then still counts.
    """
    own = SearchDirectory(directory)
    try:
        place, _, found = _read(path, space)
    except ValueError as error:
        return f"`start_from` {path}: the search goes on with what was imported then ({error})"
    # As an earlier version took them, their rewards as they stand there.
    now = [{"decisions": one, "reward": float(line["reward"]), "trial_id": line.get("trial_id")} for one, line in found]
    with suppress(ValueError):  # this one cannot have begun with it
        now += _taken(place, found, rules)[0]
    try:
        then = read_trials(own.imported)
    except ValueError:
        return None  # it is damaged, which the search itself mends
    # Not line by line: either log may have lost damaged ones. Earlier versions kept no ids.
    keys = ("decisions", "reward", "trial_id")
    known = {json.dumps([one[key] for key in some]) for one in now for some in (keys, keys[:2])}
    lost = sum(json.dumps([old[key] for key in keys if key in old]) not in known for old in then)
    if lost > len(then) / 2:
        raise ValueError(
            f"`start_from` must be the search whose trials {own.path} began with, or be left out: it began with "
            f"another `start_from` (or choose another directory). Received: {str(path)!r}"
        )
    return None


def check_imports(imports, space, direction="max"):
    """`NASNetOracle`'s `imports` as they are written down, a list of dicts, before anything is.

    Args:
        imports: dicts with `decisions` and `reward`, and whatever else; where a `direction` says that rewards count in
            another one than this search's, their negatives are taken.
        space: the `SearchSpace`.
        direction: of the search's objective.

    Raises:
        ValueError: naming `imports` and the first that no strategy could learn from.
    """
    if not isinstance(imports, Iterable) or isinstance(imports, str | bytes | dict):
        raise ValueError(f"`imports` must be a list of dicts with `decisions` and `reward`. Received: {imports!r:.200}")
    checked = []
    for one in imports:
        try:
            decisions, reward = list(map(operator.index, one["decisions"])), float(one["reward"])
            if one.get("direction", direction) != direction:
                check_one_of("direction", one["direction"], ("max", "min"))
                reward = -reward
            space.to_values(decisions)
            if not math.isfinite(reward):
                raise ValueError(f"`reward` is {reward}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = "dicts with `decisions` of this space and a finite `reward`"
            raise ValueError(f"`imports` must be {rule}. Received: {one!r:.200} ({error})") from None
        kept = {key: value for key, value in one.items() if key != "direction"}
        checked.append({**kept, "decisions": decisions, "reward": reward})
    return checked
