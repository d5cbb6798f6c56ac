"""Trial after trial: the whole loop.

`NASNetTuner` is a KerasTuner tuner for those who drive KerasTuner themselves; `search` is the
loop with everything around it: a directory that survives anything, the found cells, the report.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras_tuner
from keras_tuner.engine import base_tuner

from nasnet_keras.data import Data, load_data
from nasnet_keras.files import write_atomically
from nasnet_keras.genotype import Genotype
from nasnet_keras.plot import cell_svg
from nasnet_keras.report import search_report
from nasnet_keras.search.children import ChildSettings, child_seed
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.space import SearchSpace


@dataclass(frozen=True)
class SearchResult:
    """What a search leaves.

    Args:
        best: the `Genotype` with the highest reward, None while no trial has one.
        trials: the finished trials, dicts as in `trials.jsonl`, in order.
        directory: where everything lies.
    """

    best: Genotype | None
    trials: list
    directory: Path


class NASNetTuner(base_tuner.BaseTuner):
    """A KerasTuner tuner whose hypermodel is the NASNet search space: `tuner.search(data)`.

    A child that fails, for want of memory or with a loss that is no number, is one failed
    trial with its reason; the search goes on.

    Args:
        oracle: a `NASNetOracle`.
        child: a `ChildSettings`.
        on_trial: called after every trial with the oracle's finished trials (a list of dicts).
        directory, project_name, overwrite: as in KerasTuner.
    """

    def __init__(self, oracle, child=None, on_trial=None, **kwargs):
        super().__init__(oracle, **kwargs)
        self.child = child or ChildSettings()
        self.on_trial = on_trial

    def run_trial(self, trial, data):
        """Train the trial's child on `data.train`; its reward comes from `data.validation`."""
        start = time.perf_counter()
        genotype = self.oracle.space.decode_values(trial.hyperparameters.values)
        seed = child_seed(self.oracle.seed, trial.trial_id)
        try:
            metrics = self.child.evaluate(genotype, data, seed)
        except Exception as error:
            if isinstance(error, keras_tuner.errors.FatalError):
                raise
            reason = " ".join(str(error).split())[:300]
            raise keras_tuner.errors.FailedTrialError(f"{type(error).__name__}: {reason}") from error
        return {**metrics, "seconds": time.perf_counter() - start}

    def on_trial_begin(self, trial):
        """Quiet: progress belongs to whoever called."""

    def on_trial_end(self, trial):
        """Tell the oracle, then whoever listens."""
        self.oracle.end_trial(trial)
        if self.on_trial:
            self.on_trial(self.oracle.finished_trials())

    def on_search_end(self):
        """Quiet."""

    def load_model(self, trial):
        """The untrained network of a trial: children are not kept, the genotype is what a search finds."""
        raise NotImplementedError(
            "the weights of children are not kept. Take the genotype, "
            "`oracle.space.decode_values(trial.hyperparameters.values)`, and train a network of it"
        )


def search(
    data="digits",
    max_trials=20,
    directory="search",
    controller="rl",
    seed=0,
    *,
    space=None,
    child=None,
    settings=None,
    on_trial=None,
):
    """Search for cells; run again with the same arguments, it goes on where it stopped.

    Args:
        data: a `data.Data`, or a name for `load_data`.
        max_trials: children in all, those of earlier runs included.
        directory: where the search lives; made where it does not exist.
        controller: `"rl"`, `"random"` or `"evolution"`.
        seed: everything random comes from it.
        space: a `SearchSpace`; by default the paper's.
        child: a `ChildSettings`.
        settings: the controller's settings, None for the defaults.
        on_trial: called at the start and after every trial with the list of finished trials.

    Returns:
        A `SearchResult`.

    Raises:
        ValueError: a bad argument, a directory that cannot be written or holds another search.
    """
    if type(max_trials) is not int or max_trials < 1:
        raise ValueError(f"`max_trials` must be an integer above 0. Received: {max_trials!r}")
    child, space = child or ChildSettings(), space or SearchSpace()
    directory = _prepare(directory)
    if not isinstance(data, Data):
        data = load_data(data, seed=seed)
    oracle = NASNetOracle(max_trials, space=space, strategy=controller, seed=seed, settings=settings)
    tuner = NASNetTuner(
        oracle,
        child,
        on_trial=lambda trials: _publish(directory, trials, on_trial),
        directory=str(directory.parent),
        project_name=directory.name,
    )
    finished = oracle.finished_trials()  # refuses the directory of another search before anything is written
    _same_children(directory, child, data)
    if on_trial:
        on_trial(finished)
    tuner.search(data)
    trials = oracle.finished_trials()
    write_report(directory, trials)
    return SearchResult(best_genotype(trials), trials, directory)


def best_trial(trials):
    """The trial with the highest reward, the first of equals, or None."""
    return max(
        (trial for trial in trials if trial["reward"] is not None), key=lambda trial: trial["reward"], default=None
    )


def best_genotype(trials):
    """The `Genotype` of the best trial, or None."""
    best = best_trial(trials)
    return None if best is None else Genotype.from_dict(best["genotype"])


def write_report(directory, trials):
    """Write the best genotype, its pictures and `report.html`, with the figures of a final comparison if there are any.

    Args:
        directory: the search's directory.
        trials: finished trials.
    """
    best = best_genotype(trials)
    page = search_report(trials, title=f"Search {directory.name}", best=best, summary=_final_figures(directory))
    write_atomically(directory / "report.html", page.encode())
    if best:
        best.save(directory / "best_genotype.json")
        for label, cell in (("normal", best.normal), ("reduction", best.reduction)):
            picture = cell_svg(cell, title=f"{label.capitalize()} cell")
            write_atomically(directory / f"best_{label}.svg", picture.encode())


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


def _publish(directory, trials, on_trial):
    if best_trial(trials) is trials[-1]:
        best_genotype(trials).save(directory / "best_genotype.json")
    if on_trial:
        on_trial(trials)


def _prepare(directory):
    directory = Path(directory).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"`directory` must be a folder that can be written. Received: {directory} ({error.strerror})"
        ) from None
    return directory


def _same_children(directory, child, data):
    """A search compares children; those of another size or on other images cannot join it."""
    path = directory / "children.json"
    now = {**asdict(child), "data": data.name, "image_shape": data.image_shape, "train_images": len(data.train)}
    now = json.loads(json.dumps(now))
    if path.exists():
        then = json.loads(path.read_text())
        changed = [key for key in now if then.get(key) != now[key]]
        if changed:
            key = changed[0]
            raise ValueError(
                f"`directory` {directory} holds a search whose children have another `{key}`: "
                f"{then.get(key)!r}. Received: {now[key]!r}. Choose another directory"
            )
    else:
        write_atomically(path, json.dumps(now, indent=1).encode())
