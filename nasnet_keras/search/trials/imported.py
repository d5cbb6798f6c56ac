"""What a search is given before its own first proposal: another one's trials to learn from, genotypes to try."""

import json
import logging
import math
import operator
from collections.abc import Iterable
from pathlib import Path

from nasnet_keras.files import expanded
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.pictures.report import read_trials
from nasnet_keras.search.directory import SearchDirectory

logger = logging.getLogger(__name__)


def read_tries(tries, max_trials=None):
    """The genotypes of a search's first trials, a tuple.

    Args:
        tries: a list of what `load_genotype` takes: genotypes, stored names, files.
        max_trials: of the search; None for no limit.

    Raises:
        ValueError: naming `tries`, and the file where there is one; or `max_trials`, if there are more of them.
    """
    if isinstance(tries, str | Genotype) or not isinstance(tries, Iterable):
        raise ValueError(f"`tries` must be a list of genotypes, stored names or files. Received: {tries!r}")
    found = []
    for one in tries:
        try:
            found.append(load_genotype(one))
        except ValueError as error:
            raise ValueError(f"`tries` must be genotypes that can be read: {error}") from None
    if max_trials is not None and len(found) > max_trials:
        rule = f"at least {len(found)}, as many as genotypes to try"
        raise ValueError(f"`max_trials` must be {rule}. Received: {max_trials}")
    return tuple(found)


def read_imports(path, space):
    """The trials of another search as decisions of this space, for `NASNetOracle(imports=…)`.

    An RL policy takes them for its own samples: their probabilities are those that it gives them when it is told. That
    is biased, since it did not choose them, and good for a start. Evolution's population is filled with the last of
    them. Their rewards only teach: they do not count as trials, cannot be the best, and are never replayed, because
    the children of the other search may have been trained otherwise.

    Args:
        path: the other search's directory, or its `trials.jsonl`.
        space: the `SearchSpace`; trials outside of it are left out, and their number is logged.

    Returns:
        A list of `{"decisions": [...], "reward": float, "trial_id": …}`, in order.

    Raises:
        ValueError: the file cannot be read, or none of its trials lies in this space.
    """
    path = Path(expanded(path))
    path = SearchDirectory(path).trials if path.is_dir() else path
    lines, imports = read_trials(path), []
    for line in lines:
        reward = line.get("reward")
        if type(reward) not in (int, float) or not math.isfinite(reward):
            continue
        try:
            decisions = list(space.encode(Genotype.from_dict(line.get("genotype"))))
        except ValueError as error:
            logger.debug("trial %s is left out: %s", line.get("trial_id"), error)
            continue
        imports.append({"decisions": decisions, "reward": float(reward), "trial_id": line.get("trial_id")})
    if not imports:
        raise ValueError(
            f"`start_from` must hold finished trials whose cells lie in this space. Received: {path}, "
            f"with {len(lines)} trials and none of that kind"
        )
    logger.info("%s: %d of %d trials are learnt from", path, len(imports), len(lines))
    return imports


def check_same_start(directory, path, space):
    """Raise `ValueError` if a search that goes on began with the trials of another search than this.

    Args:
        directory: of the search, which has an `imported.jsonl`.
        path, space: see `read_imports`. The search there may have grown since.

    Returns:
        None; or, where that search cannot be read any more, one line that says so: what was imported then still counts.
    """
    place = SearchDirectory(directory)
    try:
        now = read_imports(path, space)
    except ValueError as error:
        if not str(error).startswith("`start_from`"):
            return f"`start_from` {path}: the search goes on with what was imported then ({error})"
        now = []  # it can be read, and has nothing that this one can have begun with
    try:
        then = read_trials(place.imported)
    except ValueError:
        return None  # it is damaged, which the search itself mends
    # Not line by line: either log may have lost damaged ones. Earlier versions kept no ids.
    keys = ("decisions", "reward", "trial_id")
    known = {json.dumps([one[key] for key in some]) for one in now for some in (keys, keys[:2])}
    lost = sum(json.dumps([old[key] for key in keys if key in old]) not in known for old in then)
    if lost > len(then) / 2:
        raise ValueError(
            f"`start_from` must be the search whose trials {place.path} began with, or be left out: it began with "
            f"another `start_from` (or choose another directory). Received: {str(path)!r}"
        )
    return None


def check_imports(imports, space):
    """`NASNetOracle`'s `imports` as they are written down, a list of dicts, before anything is.

    Args:
        imports: dicts with `decisions` and `reward`, and whatever else.
        space: the `SearchSpace`.

    Raises:
        ValueError: naming `imports` and the first that no strategy could learn from.
    """
    checked = []
    for one in imports:
        try:
            decisions, reward = list(map(operator.index, one["decisions"])), float(one["reward"])
            space.to_values(decisions)
            if not math.isfinite(reward):
                raise ValueError(f"`reward` is {reward}")
        except (KeyError, TypeError, ValueError) as error:
            rule = "dicts with `decisions` of this space and a finite `reward`"
            raise ValueError(f"`imports` must be {rule}. Received: {one!r:.200} ({error})") from None
        checked.append({**one, "decisions": decisions, "reward": reward})
    return checked
