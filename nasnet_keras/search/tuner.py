"""Genotype to child network to reward, trial after trial: the whole loop.

`NASNetTuner` is a KerasTuner tuner for those who drive KerasTuner themselves; `search` is the
loop with everything around it: a directory that survives anything, the found cells, the report.
"""

import gc
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine import base_tuner

from nasnet_keras import program, training
from nasnet_keras.data import Data, load_data, normalize
from nasnet_keras.genotype import Genotype
from nasnet_keras.network import NASNet, multiply_adds
from nasnet_keras.plot import cell_svg
from nasnet_keras.report import search_report
from nasnet_keras.search.journal import write_atomically
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.space import SearchSpace

# Tracing and compiling a network costs as much as some hundreds of interpreted steps of a small one.
INTERPRETED_STEPS = 300


@dataclass(frozen=True)
class ChildSettings:
    """How a child is built and trained: the same for every child of a search.

    Args:
        repeats: Normal cells a stack, or a tuple with one number for each stack.
        filters: F of the first stack.
        epochs: epochs that a child trains for.
        recipe: a name from `training.RECIPES`.
        batch_size: images a step, None for the recipe's.
        stem: `"cifar"` or `"imagenet"`.

    Raises:
        ValueError: naming the argument at fault.
    """

    repeats: int | tuple[int, ...] = 1
    filters: int = 8
    epochs: int = 1
    recipe: str = "micro"
    batch_size: int | None = None
    stem: str = "cifar"

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"`{name}` must be an integer above 0. Received: {value!r}")
        if self.recipe not in training.RECIPES:
            raise ValueError(f"`recipe` must be one of {', '.join(training.RECIPES)}. Received: {self.recipe!r}")

    def training_recipe(self):
        """The `training.Recipe` with this batch size."""
        return training.recipe(self.recipe, batch_size=self.batch_size)

    def build(self, genotype, data, seed):
        """The untrained network of a genotype for images of this data, its weights drawn from `seed`."""
        keras.utils.set_random_seed(seed)
        return NASNet(
            genotype,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
            class_names=data.class_names,
            dtype="float32",
        )

    def evaluate(self, genotype, data, seed):
        """Train a child and judge it.

        Few steps are interpreted by a `turnaround.Child`, which starts at once; many pay for a compiled network.
        Both compute the same function.

        Args:
            genotype: a `Genotype`.
            data: a `Data`; `train` is learnt from and `validation` gives the reward.
            seed: seed of the weights and of the order of the images.

        Returns:
            `{"reward": float, "parameters": int, "multiply_adds": int}`.

        Raises:
            FloatingPointError: the loss or the reward is not finite.
        """
        recipe = self.training_recipe()
        steps = self.epochs * max(1, len(data.train) // recipe.batch_size)
        if keras.backend.backend() == "tensorflow" and steps <= INTERPRETED_STEPS:
            return self._interpreted(genotype, data, seed, recipe, steps)
        return self._compiled(genotype, data, seed, recipe)

    def _interpreted(self, genotype, data, seed, recipe, steps):
        from nasnet_keras.turnaround import Child, Optimizer

        child = Child(
            genotype,
            seed=seed,
            optimizer=Optimizer(recipe.learning_rate, steps, recipe.momentum, clip_norm=recipe.clip_norm),
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
        )
        batches = training.training_batches(data, recipe, seed)
        for epoch in range(self.epochs):
            batches.epoch = epoch
            for index in range(len(batches)):
                loss = child.train_step(*batches[index])
            training.check_loss(float(loss), epoch)
        accuracy = child.evaluate(normalize(data.validation.images[:]), data.validation.labels)
        return {
            "reward": training.reward(accuracy),
            "parameters": sum(weight.size for weight in child.program.weights),
            "multiply_adds": program.multiply_adds(child.program, *data.image_shape[:2]),
        }

    def _compiled(self, genotype, data, seed, recipe):
        try:
            model = self.build(genotype, data, seed)
            training.fit(model, data, recipe, epochs=self.epochs, seed=seed, validate=False)
            accuracy = training.evaluate(model, data.validation)["accuracy"]
            return {
                "reward": training.reward(accuracy),
                "parameters": model.count_params(),
                "multiply_adds": multiply_adds(model),
            }
        finally:
            model = None
            keras.utils.clear_session()
            gc.collect()


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


def child_seed(seed, trial_id):
    """The seed of a trial's child, from the search's seed and the trial's id."""
    text = f"{seed}/{trial_id}".encode()
    return int(np.random.SeedSequence(list(text)).generate_state(1)[0] >> 1)


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
    _same_children(directory, child, data)
    if on_trial:
        on_trial(oracle.finished_trials())
    tuner.search(data)
    trials = oracle.finished_trials()
    write_report(directory, trials)
    return SearchResult(best_genotype(trials), trials, directory)


def best_genotype(trials):
    """The `Genotype` with the highest reward (the first of equals), or None."""
    done = [trial for trial in trials if trial["reward"] is not None]
    if not done:
        return None
    best = max(done, key=lambda trial: trial["reward"])
    return Genotype.from_dict(best["genotype"])


def write_report(directory, trials):
    """Write `report.html` and the pictures of the best cells; figures of a final comparison are shown with them.

    Args:
        directory: the search's directory.
        trials: finished trials.
    """
    best = best_genotype(trials)
    page = search_report(trials, title=f"Search {directory.name}", best=best, summary=_final_figures(directory))
    write_atomically(directory / "report.html", page.encode())
    if best:
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
    last, best = trials[-1], best_genotype(trials)
    if best and last["reward"] is not None and last["reward"] >= max(t["reward"] or 0 for t in trials):
        best.save(directory / "best_genotype.json")
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
