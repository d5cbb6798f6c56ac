"""What a search leaves for people to look at: the best genotype, its pictures, the report."""

import json
import logging
import os
import time
from dataclasses import replace

from nasnet_keras.files import read_object, take_lock, write_atomically
from nasnet_keras.genotype import Genotype
from nasnet_keras.pictures.cells import cell_svg
from nasnet_keras.pictures.report import failure_reasons, renews_itself, search_report
from nasnet_keras.search.directory import FIGURES, SearchDirectory
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.strategies.choice import advice
from nasnet_keras.search.trials.log import read_trials

logger = logging.getLogger(__name__)

YOUNG = 300.0  # seconds, within which a search that writes its page has written it again


class Publisher:
    """Keeps `best_genotype.json` and its pictures up to date as trials end, at a cost that does not grow with their
    number.

    Args:
        directory: the search's directory.
        listener: called with all finished trials after that, or None.
        preference: a `preference.Preference`; by default the directory's.
    """

    def __init__(self, directory, listener=None, preference=None):
        self.directory, self.listener = SearchDirectory(directory), listener
        self._preference = preference
        # Until the first call nothing is known of what lies there: not even that it is this search's best.
        self._contenders, self._first, self._seen = [], ..., 0

    def __call__(self, trials):
        if self._first is ...:  # by now the directory says whether the highest or the lowest reward is looked for
            preference = self._preference or Preference.of(self.directory.path)
            self._preference = replace(preference, direction=self.directory.objective()[1])
        self._contenders = self._preference.contenders([*self._contenders, *trials[self._seen :]])
        first = next(iter(self._preference.ranked(self._contenders)), None)
        self._seen = len(trials)
        if first is not self._first and (trials or self._first is not ...):  # before any, what lies there is not ours
            self._first = first
            _write_best(self.directory, first and _genotype(_standing(self.directory, first, trials)))
        if self.listener:
            self.listener(trials)


def ranked(directory, trials):
    """The trials that may be the best, a list, the best first, by the search's `preference.Preference`."""
    return Preference.of(directory).ranked(trials)


def best_trial(directory, trials):
    """The finished trial, a dict, whose genotype is `best_genotype`; None if there is none."""
    first = next(iter(ranked(directory, trials)), None)
    return None if first is None else _standing(SearchDirectory(directory), first, trials)


def best_genotype(directory, trials):
    """The `Genotype` that a search has found, on which all its files and answers agree; None without a reward.

    It is that of the trial that comes first by the search's `preference.Preference`: if nothing else was asked for the
    one with the best reward, the first of equals: the highest, or where the search minimises the lowest. If this trial
    took part when the best were trained again (`final.retrain`), it is the best of those that meet the preference:
    rewards are of short trainings, and the longer ones have judged better. Where the preference is `within`, only those
    count that were trained again under the same one. So a winner stands when the search is made longer, until a new
    trial has a better reward than all that were trained again. Then that one is the best, until the best are trained
    again.

    Args:
        directory: the search's directory.
        trials: its finished trials, dicts as in `trials.jsonl`.
    """
    trial = best_trial(directory, trials)
    return None if trial is None else _genotype(trial)


def commonest_reason(trials):
    """Why most of the failed trials failed: (the reason, one line; how many), or None if none failed.

    It is that of the first of them, which may tell its own figures; see `report.failure_reasons`.
    """
    return next(iter(failure_reasons(trials)), None)


def write_report(directory, trials):
    """Write the best genotype, its pictures and `report.html`, with the figures of a final comparison if there are any.

    Args:
        directory: the search's directory.
        trials: finished trials.
    """
    best = write_page(directory, trials)
    _write_best(SearchDirectory(directory), best)


def renew_report(directory):
    """Write what `write_report` writes, of the trials as they are now, by somebody who does not search there.

    While somebody does, the page alone, and not even that where it renews itself: that search keeps the best up to
    date, and knows of later trials.

    Args:
        directory: the search's directory.

    Raises:
        ValueError: its `trials.jsonl` cannot be read.
    """
    place = SearchDirectory(directory)
    try:
        lock = take_lock(place.lock_file)  # for the milliseconds in which the best is written
    except BlockingIOError:
        trials = read_trials(place.trials)
        if not _is_live(place.report):
            write_page(directory, trials)
        return
    except OSError:  # no lock, and nobody who has it
        lock = None
    try:
        trials = read_trials(place.trials)
        best = best_trial(directory, trials)
        _write_best(place, best and _genotype(best))
    finally:
        if lock is not None:
            os.close(lock)
    write_page(directory, trials)


def _is_live(path):
    """Whether a running search writes this page again and again."""
    try:
        return time.time() - path.stat().st_mtime < YOUNG and renews_itself(path.read_text("utf-8"))
    except FileNotFoundError:
        return False


def write_page(directory, trials, live=None):
    """Write `report.html` alone, and return the best genotype, or None.

    Args:
        directory: the search's directory.
        trials: finished trials.
        live: of a search that runs, see `search_report`.
    """
    trial, preference, directory = best_trial(directory, trials), Preference.of(directory), SearchDirectory(directory)
    best = None if trial is None else _genotype(trial)
    page = search_report(
        trials,
        title=f"Search {directory.path.name}",
        best=best,
        summary=_final_figures(directory, best),
        updates=read_trials(directory.updates) if directory.updates.exists() else (),
        choice={
            "cost": preference.cost, "prefer": preference.prefer, "chosen": trial and trial.get("trial_id"),
            "further": _judged_by(directory, trials, trial),
            "complaint": preference.complaint(trials),
        },
        live=live,
        advice=_advice(directory, max(len(trials), live["max_trials"] if live else 0)),
        again=_given_out_again(directory),
        direction=preference.direction,
    )  # fmt: skip
    write_atomically(directory.report, page.encode())
    return best


def _write_best(directory, best):
    """Write a `Genotype` and its pictures; None removes what lies there, of another preference."""
    if best is None:
        for path in (directory.best_genotype, directory.best_normal, directory.best_reduction):
            path.unlink(missing_ok=True)
        return
    best.save(directory.best_genotype)
    write_atomically(directory.best_normal, cell_svg(best.normal, title="Normal cell").encode())
    write_atomically(directory.best_reduction, cell_svg(best.reduction, title="Reduction cell").encode())


def _advice(directory, trials):
    """Which controller was measured best for so many trials, beside the one that this search has."""
    try:
        own = f" This search has `{read_object(directory.header)['strategy']}`."
    except (OSError, KeyError, ValueError):
        own = ""
    return f"{advice(trials)}{own} See RESULTS.md of nasnet_keras."


def _standing(directory, first, trials):
    """What stands for the first trial by the rule: itself, or where it was trained again the best of all that were."""
    again = _retrained(directory, trials)
    if first.get("trial_id") not in [trial.get("trial_id") for _, trial in again]:
        return first
    return next((trial for row, trial in again if row.get("validation_accuracy", 0) is not None), first)


def _judged_by(directory, trials, best):
    """What has put another trial into the place of the first by the rule; empty where nothing has."""
    again = _retrained(directory, trials)
    if best is next(iter(ranked(directory.path, trials)), None) or not again:
        return ""
    return f"of the {len(again)} that were trained again for {again[0][0].get('epochs', 'more')} epochs the best"


def _retrained(directory, trials):
    """[(row, its trial)] of those that were trained again and meet the search's rule, the best first.

    `within` prefers the cheap, of which accuracy knows nothing: it heeds what was trained again under this very rule
    and cost alone, and rows of an earlier version, which do not say under which.
    """
    if not (rows := _retrained_rows(directory)):
        return []
    preference = Preference.of(directory.path)
    rule = {"cost": preference.cost, "prefer": preference.prefer}
    if preference.is_by_cost:
        rows = [row for row in rows if {key: row.get(key, rule[key]) for key in rule} == rule]
    allowed = {trial.get("trial_id"): trial for trial in preference.ranked(trials)}
    found = [(row, allowed[row["network"]]) for row in rows if row["network"] in allowed]
    return [(row, trial) for row, trial in found if _genotype(trial).digest == row["digest"]]


def _retrained_rows(directory):
    """The rows of those that were trained again, dicts, the best first; none where they cannot be read."""
    try:
        rows = json.loads(directory.retrained.read_bytes())
        return rows if {row["network"]: row["digest"] for row in rows} else []
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return []


def _given_out_again(directory):
    """How often trials were given out beyond the first time; what was given back does not count."""
    lines = read_trials(directory.attempts) if directory.attempts.exists() else []
    last = {line.get("number"): line.get("attempt") for line in lines}
    return sum(max(0, attempt - 1) for attempt in last.values() if isinstance(attempt, int))


def _genotype(trial):
    return Genotype.from_dict(trial.get("genotype"))


def _final_figures(directory, best):
    """{network: its figures} of the final comparison and of what was trained again; none of what cannot be read."""
    found, first = {}, None
    for path in sorted(directory.final.glob(f"*/{FIGURES}")):
        try:
            row = read_object(path)
            comparison = row["epochs"], row.get("reference")
            first = first or comparison  # the found cell's, which is trained first
            if comparison != first or (row["network"] == "found" and not (best and row["digest"] == best.digest)):
                continue  # of an earlier comparison, or of a cell that was the best then
            found[row["network"]] = _figures(row, "test", row["accuracy"])
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            logger.debug("%s is left out of the report, as it cannot be read: %s", path, error)
    for row in _retrained_rows(directory):
        try:
            found[f"trial {row['network']}, trained again"] = _figures(row, "validation", row["validation_accuracy"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.debug("a row of %s is left out of the report: %s", directory.retrained, error)
    return found


def _figures(row, part, accuracy):
    """A row of the table; the accuracy is None where there are no images."""
    measure = row.get("measure", "accuracy").replace("_", " ")
    return {
        f"{part} {measure}": None if accuracy is None else f"{accuracy:.2%}",
        "epochs": row["epochs"],
        "parameters": row["parameters"],
        "multiply-adds": row["multiply_adds"],
    }
