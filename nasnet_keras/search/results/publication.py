"""What a search leaves for people to look at: the best genotype, its pictures, the report."""

import json

from nasnet_keras.files import write_atomically
from nasnet_keras.genotype import Genotype
from nasnet_keras.pictures.cells import cell_svg
from nasnet_keras.pictures.curves import reward_of
from nasnet_keras.pictures.report import search_report


class Publisher:
    """Keeps `best_genotype.json` up to date as trials end, at a cost that does not grow with their number.

    Args:
        directory: the search's directory.
        listener: called with all finished trials after that, or None.
    """

    def __init__(self, directory, listener=None):
        self.directory, self.listener = directory, listener
        self._best, self._seen = None, 0

    def __call__(self, trials):
        best = best_trial([*([self._best] if self._best else []), *trials[self._seen :]])
        self._seen = len(trials)
        if best is not self._best:
            self._best = best
            best_genotype([best]).save(self.directory / "best_genotype.json")
        if self.listener:
            self.listener(trials)


def best_trial(trials):
    """The trial with the highest reward, the first of equals, or None."""
    rewarded = (trial for trial in trials if reward_of(trial) is not None)
    return max(rewarded, key=reward_of, default=None)


def best_genotype(trials):
    """The `Genotype` of the best trial, or None."""
    best = best_trial(trials)
    return None if best is None else Genotype.from_dict(best.get("genotype"))


def write_report(directory, trials):
    """Write the best genotype, its pictures and `report.html`, with the figures of a final comparison if there are any.

    The best is the trial with the highest reward, or the winner where the best were trained again.

    Args:
        directory: the search's directory.
        trials: finished trials.
    """
    best = best_genotype(_winner(directory, trials) or trials)
    page = search_report(trials, title=f"Search {directory.name}", best=best, summary=_final_figures(directory))
    write_atomically(directory / "report.html", page.encode())
    if best:
        best.save(directory / "best_genotype.json")
        for label, cell in (("normal", best.normal), ("reduction", best.reduction)):
            picture = cell_svg(cell, title=f"{label.capitalize()} cell")
            write_atomically(directory / f"best_{label}.svg", picture.encode())


def _winner(directory, trials):
    """The trial that won when the best were trained again, in a list."""
    try:
        winner = json.loads((directory / "retrained.json").read_bytes())[0]["network"]
    except (FileNotFoundError, LookupError, ValueError):
        return []
    return [trial for trial in trials if trial.get("trial_id") == winner]


def _final_figures(directory):
    rows = [json.loads(path.read_text()) for path in sorted(directory.glob("final/*/result.json"))]
    return {
        row["network"]: {
            "test accuracy": f"{row['accuracy']:.2%}",
            "epochs": row["epochs"],
            "parameters": row["parameters"],
            "multiply-adds": row["multiply_adds"],
        }
        for row in rows
    }
