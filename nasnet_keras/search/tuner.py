"""Trial after trial: the whole loop.

`NASNetTuner` is a KerasTuner tuner for those who drive KerasTuner themselves; `search` is the
loop with everything around it: a directory that survives anything, the found cells, the report.
"""

import logging
import os
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import keras_tuner
import numpy as np

from nasnet_keras import __version__
from nasnet_keras.checks import as_integer, as_number, check_integer, check_positive
from nasnet_keras.children.settings import ChildSettings, numerics
from nasnet_keras.children.shared_weights import shared_evaluation
from nasnet_keras.data.arrays import data_of_arrays, in_order
from nasnet_keras.data.loading import Data, load_data
from nasnet_keras.data.records import division, write_record
from nasnet_keras.files import expanded, make_folder
from nasnet_keras.genotype import Genotype
from nasnet_keras.search.callbacks import Callbacks, Copies
from nasnet_keras.search.cost import check_cost, name_of_cost
from nasnet_keras.search.directory import (
    LATER,
    SearchDirectory,
    check_place,
    description,
    keep_children,
    knows_images,
    right_to_overwrite,
)
from nasnet_keras.search.distributed.ray_pool import place_of
from nasnet_keras.search.distributed.roles import LEASE, PATIENCE, check_waiting, current_role, data_description
from nasnet_keras.search.kerastuner import BaseTuner, TrialStatus
from nasnet_keras.search.oracle import PROGRESS, NASNetOracle
from nasnet_keras.search.results.live import LiveReport
from nasnet_keras.search.results.preference import Preference, keep_function, warn_without_cost, warn_without_reward
from nasnet_keras.search.results.publication import Publisher, best_genotype, commonest_reason, write_report
from nasnet_keras.search.rules import Replay, check_rules
from nasnet_keras.search.running import (
    Children,
    Here,
    check_child,
    check_children,
    check_further,
    check_listener,
    check_use,
    failure,
    run_trials,
)
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.trials.format import whole
from nasnet_keras.search.trials.imported import check_same_start, check_start, read_imports, read_tries

logger = logging.getLogger(__name__)

RETRIES = 1  # of a child after an accident, in `search`


@dataclass(frozen=True)
class SearchResult:
    """What a search leaves.

    Args:
        best: the `Genotype` that was found, see `publication.best_genotype`; None while no trial has a reward, or where
            none meets the rule `prefer`; that is logged, as are trials without the `cost` that the rule goes by.
        trials: the finished trials, dicts as in `trials.jsonl`, in order.
        directory: where everything lies.

    Examples:
        >>> from nasnet_keras import search
        >>> result = search("digits", max_trials=60, directory="night")  # doctest: +SKIP
        >>> result.best.save("mine.json")  # doctest: +SKIP
    """

    best: Genotype | None
    trials: list
    directory: Path


class NASNetTuner(BaseTuner):
    """A KerasTuner tuner whose hypermodel is the NASNet search space: `tuner.search(x, y, validation_data=…)`.

    A child that fails is one failed trial with its reason; the search goes on. What training it again
    would only repeat fails at once: a loss that is no number, a limit, a refused argument (`FloatingPointError`,
    `ValueError`). After any other exception, such as a lack of memory, the trial is given out again, as often as the
    oracle's `max_retries_per_trial` allows; its child trains from the same seed, to the same reward.

    With KerasTuner's environment variables (see `distributed.roles`) the same program is a distributed search's chief
    or one of its workers; a chief's `search` returns when all trials are done, a worker's when there is nothing left
    for it.

    Args:
        oracle: a `NASNetOracle`.
        child: a `ChildSettings`, or another object with its `evaluate` and, where rules need it, `sizes`.
        on_trial: called with the oracle's finished trials (a list of dicts) whenever there are more; left out where the
            oracle has an `on_finished` already, which stays.
        lease: seconds after which a worker without a sign of life has lost its trial.
        patience: seconds for which a worker waits for a chief that does not answer.
        role: this process's `Role` in a distributed search; by default what KerasTuner's variables say.
        engine: a `ray_pool.Engine` or a `processes.Machine` where children run; not with a `run_trial` of one's own.
        cost: None, or a function of a child's `Architecture`, see `running.Children`.
        directory, project_name, overwrite: as in KerasTuner.

    Raises:
        ValueError: `overwrite` on a worker, or of a search that another process is running; KerasTuner's variables
            make no sense; an argument, or in a new project a rule or a setting, that would do nothing;
            there an objective that no child reports.

    Examples:
        >>> from nasnet_keras import ChildSettings, NASNetOracle, NASNetTuner, load_data
        >>> oracle = NASNetOracle(max_trials=1, strategy="random")
        >>> tuner = NASNetTuner(oracle, ChildSettings(repeats=1, filters=4, epochs=1), directory="tuned")
        >>> tuner.search(load_data("digits", limit=200))
        >>> len(oracle.get_best_trials(1))
        1
    """

    def __init__(
        self,
        oracle,
        child=None,
        on_trial=None,
        *,
        lease=LEASE,
        patience=PATIENCE,
        role=None,
        engine=None,
        cost=None,
        **kwargs,
    ):
        self.role = role if role or engine else current_role()
        if self.role and engine:
            raise ValueError(
                f"`engine` must be left out of a process with a role. Received: {engine!r} and {self.role!r}"
            )
        self.engine = engine
        if self._is_worker() and kwargs.get("overwrite"):
            raise ValueError(
                "`overwrite` must be False on a worker: it would delete the chief's project. Received: True"
            )
        lease, patience = map(as_number, (lease, patience))
        for label, value in (("lease", lease), ("patience", patience)):
            check_positive(label, value, "seconds")
        if not isinstance(oracle, NASNetOracle):
            raise ValueError(f"`oracle` must be a NASNetOracle. Received: {oracle!r}")
        check_listener(on_trial, oracle.on_finished)
        check_cost(cost)
        if self._trains_children():
            check_child(child, kwargs.get("hypermodel"), cost)
        elif engine is not None:
            rule = f"left out of {type(self).__name__}, whose own `run_trial` it would not ask"
            raise ValueError(f"`engine` must be {rule}. Received: {engine!r}")
        self.own_oracle, self.child, self.cost = oracle, child or ChildSettings(), cost
        self._knows_child = child is not None or self._trains_children()
        kwargs["directory"] = expanded(kwargs.get("directory"))
        place = SearchDirectory.of_project(**kwargs)
        if not self._is_worker() and (kwargs.get("overwrite") or not place.header.exists()):
            own = self.child if self._trains_children() else None
            check_use(oracle.strategy, own, oracle.rules, oracle.objective, cost, imports=oracle.imports)
        with right_to_overwrite(kwargs.get("overwrite"), place):
            super().__init__(oracle, **kwargs)
        if not self._is_worker():
            self.oracle = oracle  # where KerasTuner's variables are left from elsewhere, it has put a client there
        self.tuner_id = self.role.tuner_id if self.role else self.tuner_id
        self.lease, self.patience = lease, patience
        self.shared = shared_evaluation(self.child, self.role or engine, SearchDirectory(self.project_dir).shared)
        if on_trial or isinstance(oracle.on_finished, Copies):  # those are of a tuner before this one
            oracle.on_finished = on_trial and Copies(on_trial)
        self.on_place = lambda state: None

    def search(self, data=None, y=None, *, x=None, validation_data=None, validation_split=0.0, verbose=0, **further):
        """Run the trials, or what part of that is this process's.

        Args:
            data: a `data.Data`; or, as in KerasTuner, images [n, height, width, channels]; or a data set of images and
                labels, such as a `tf.data.Dataset` or a `PyDataset`, in whatever order it gives them.
            y: the labels of images, see `arrays.data_of_arrays`.
            x: another name of `data`, which is KerasTuner's.
            validation_data: `(x, y)` or a data set, whose accuracy is the reward.
            validation_split: instead, the share of `data` that is held out.
            verbose: as in KerasTuner.
            **further: of a chief, further arguments of `chief.serve`.

        Raises:
            ValueError: arrays that do not fit, an argument of `fit`, which a child's settings decide on, or one that
                nobody knows.
        """
        if (data is None) == (x is None):
            received = "neither" if data is None else "both"
            raise ValueError(f"`data` must be a Data or an array, or `x` in its place. Received: {received}")
        check_further(further)
        data = x if data is None else data
        is_ours = self._trains_children() and type(self.child) is ChildSettings  # others may take what they like
        has_more = y is not None or validation_data is not None or validation_split
        if isinstance(data, Data):
            if y is not None or validation_data is not None:
                raise ValueError("`y` and `validation_data` must be left out: a Data has them")
            if validation_split:
                rule = "left out: a Data has its images for validation"
                raise ValueError(f"`validation_split` must be {rule}. Received: {validation_split!r}")
        elif is_ours and isinstance(data, str | os.PathLike):
            rule = "a Data or images with labels; `load_data` makes one of a name"
            raise ValueError(f"`data` must be {rule}. Received: {str(data)!r}")
        elif is_ours or has_more or isinstance(data, np.ndarray):
            # A search that an earlier version began goes on with images that were divided by their order.
            ordered = self._is_worker() or knows_images(self.project_dir)
            seed = self.own_oracle.given_seed or 0  # and not one that was drawn since
            data = data_of_arrays(data, y, validation_data, validation_split, seed, ordered)
        self.own_oracle.verbose = verbose
        if not self._is_worker():
            self.begin(data)
        self._go(data, **further)

    def begin(self, data):
        """Keep in the directory what all children have in common, or compare; nothing is written before it fits.

        Raises:
            ValueError: the directory holds another search, or other children; no child can be built, or judged.
        """
        is_known = isinstance(data, Data)  # others may be anything
        is_new, knows = not SearchDirectory(self.project_dir).header.exists(), knows_images(self.project_dir)
        if is_known and self._trains_children() and type(self.child) is ChildSettings:
            some = self.own_oracle.space.sample(1, np.random.default_rng(0))
            check_children(self.child, data, (*some, *(self.own_oracle.tries if is_new else ())))
        trials = self.own_oracle.finished_trials()  # refuses the directory of another search before anything is written
        if is_known:
            told = description(self.child if self._knows_child else None, data)
            told = {key: value for key, value in told.items() if knows or key not in LATER}
            keep_children(self.project_dir, told, numerics())
        keep_function(self.project_dir, self.cost, trials)

    def _go(self, data, **further):
        """What part of the trials is this process's, and at their end what became of them."""
        if self.role is None:
            self._run(data)
        elif self.role.is_chief:
            from nasnet_keras.search.distributed.chief import serve

            serve(self.own_oracle, self.role, self.description(data), self.lease, **further)
        else:
            from nasnet_keras.search.distributed.worker import Client

            told = self.description(data)
            self.oracle = Client(self.own_oracle, self.role, told, self.patience, beat=self.lease / 8)
            try:
                return super().search(data)
            finally:
                self.oracle.close()
        warn_without_reward(trials := self.own_oracle.finished_trials(), commonest_reason(trials))
        if not self._trains_children() and self.cost is not None:
            warn_without_cost(trials, name_of_cost(self.cost))

    def description(self, data):
        """What the chief and its workers must have alike, JSON-able; None is for whatever the chief has."""
        return {
            "package": __version__,
            "space": self.own_oracle.space.to_dict(),
            "seed": self.own_oracle.seed,
            "rules": [rule.to_dict() for rule in self.own_oracle.rules],
            "child": description(self.child),
            "numerics": numerics(),
            "data": data_description(data, isinstance(data, Data)),
        }

    def run_trial(self, trial, data):
        """Train the trial's child on `data.train`; its reward comes from `data.validation`."""

        def report(epoch, accuracy):
            return self.oracle.update_trial(trial.trial_id, {PROGRESS: accuracy}, epoch).status == TrialStatus.STOPPED

        children, values = self._children(self.oracle), trial.hyperparameters.values
        return whole(self.own_oracle.objective, children.run(trial.trial_id, values, data, report, self.shared))

    def _run(self, data):
        """KerasTuner's loop with its hooks, whatever the place."""
        oracle = self.own_oracle
        self.on_search_begin()
        if self.engine is None:
            here = Here(self.tuner_id, lambda trial: self._try_run_and_update_trial(trial, data))
            place = nullcontext(here)
        else:
            oracle.reload(elsewhere=True)
            place = self.engine.place(self._children(oracle), data)
        try:
            with place as where:
                run_trials(oracle, where, self.on_trial_begin, self.on_trial_end, self.on_place)
        except BaseException:
            oracle.give_back()  # whoever goes on, in this process or in another, loses no attempt by it
            raise
        self.on_search_end()

    def on_trial_begin(self, trial):
        """Quiet: progress belongs to whoever called."""

    def on_trial_end(self, trial):
        """Tell the oracle."""
        self.oracle.end_trial(trial)

    def save(self):
        """Nothing: whatever has happened is on the disk already."""

    def reload(self):
        """Read the project folder anew, as `NASNetOracle.reload`; a tuner has nothing beside it."""
        if not self._is_worker():
            self.own_oracle.reload()

    def on_search_end(self):
        """Quiet."""

    def _try_run_and_update_trial(self, trial, *args, **kwargs):
        """As KerasTuner's, which also prints every failure's traceback; here it goes into the trial's message alone."""
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
            trial.status = TrialStatus.COMPLETED
        except keras_tuner.errors.FatalError:
            raise
        except (Exception, SystemExit) as error:  # a child that ends its process, too, has failed
            trial.status, trial.message = failure(error)

    def _children(self, oracle):
        backend = numerics().partition("/")[0]
        return Children(self.child, oracle.space, oracle.rules, oracle.seed, self.cost, backend)

    def _trains_children(self):
        """Whether trials are those of `child`, and not of somebody's own tuner."""
        return type(self).run_trial is NASNetTuner.run_trial

    def _is_worker(self):
        return self.role is not None and not self.role.is_chief

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
    rules=None,
    hours=None,
    start_from=None,
    tries=(),
    cost="multiply_adds",
    prefer="reward",
    callbacks=(),
    lease=LEASE,
    patience=PATIENCE,
    role=None,
    workers=None,
    engine="here",
    on_place=None,
):
    """Search for cells; run again with the same arguments, it goes on where it stopped.

    Args:
        data: a `data.Data`, or a name for `load_data`.
        max_trials: children in all, those of earlier runs included.
        directory: where the search lives; made where it does not exist. A worker leaves it alone.
        controller: `"rl"`, `"random"`, `"evolution"`, `"local"` or `"predictor"`.
        seed: everything random comes from it.
        space: a `SearchSpace`; by default the paper's.
        child: a `ChildSettings`.
        settings: the controller's settings, None for the defaults.
        on_trial: called at the start and whenever trials have ended with the list of finished trials.
        rules: a tuple of `rules.Rule`; by default `(Replay(),)`: no network is trained twice.
        hours: after so many no further child is begun in this run; the same call goes on from there.
        start_from: another search's directory or `trials.jsonl`, which a new search learns from first.
        tries: the first trials' genotypes, such as `("nasnet_a", "mine.json")`, see `NASNetOracle`.
        cost: what a child costs beside its reward, see `preference.Preference`; or a function that measures it, called
            with the trained child's `Architecture` where the child was trained.
        prefer: the rule by which the best is chosen, likewise. Both may change from call to call.
        callbacks: a tuple of `callbacks.SearchCallback`s, told when a trial begins and when it ends. A worker has none.
        lease, patience, role: in a distributed search, see `NASNetTuner`.
        workers: so many processes of this machine train children side by side, and this one only gives them out; or, on
            Ray, so many children at a time. A script that is run needs `if __name__ == "__main__":` around its call.
        engine: where children run: `"here"`, `"ray"`, `"ray://HOST:PORT"`, or a `distributed.ray_pool.Engine`.
        on_place: called with what is to be seen of workers elsewhere, a dict, see `running.run_trials`.

    Returns:
        A `SearchResult`; a worker's is empty.

    Raises:
        ValueError: a bad argument, a directory that cannot be written or holds another search.
        OSError: the disk is full, and what has happened is saved; on a worker, no chief answers.

    Examples:
        >>> from nasnet_keras import ChildSettings, SearchSpace, search
        >>> child = ChildSettings(repeats=1, filters=4, epochs=1)
        >>> search("digits", 2, "found", "random", space=SearchSpace(blocks=1), child=child).best is not None
        True
    """
    max_trials, seed, workers = map(as_integer, (max_trials, seed, workers))
    hours, lease, patience = map(as_number, (hours, lease, patience))
    check_integer("max_trials", max_trials, least=1)
    check_child(child, cost=cost)
    preference, callbacks = Preference(name_of_cost(cost), prefer), Callbacks(callbacks)
    child, space = child or ChildSettings(), space or SearchSpace()
    try:
        strategy = make_strategy(controller, space, seed, settings)
    except ValueError as error:
        raise ValueError(str(error).replace("`strategy` must", "`controller` must", 1)) from None
    tries = read_tries(tries, max_trials, directory)
    given, engine = engine, place_of(engine, workers, SearchDirectory(directory).logs, patience)
    role = role or (None if engine else current_role())
    check_waiting(lease, patience, role, engine, given)
    rules = (Replay(),) if rules is None else check_rules(rules)
    is_worker = role is not None and not role.is_chief
    if is_worker:
        from nasnet_keras.search.distributed.worker import await_chief

        await_chief(role, patience)
    else:
        check_place(directory)
        directory = make_folder("directory", directory)
    is_new = not is_worker and not SearchDirectory(directory).header.exists()
    if is_new:
        check_use(strategy, child, rules, cost=cost, start_from=start_from)
    if not isinstance(data, Data):
        # The record of the data is written before the first proposal. A worker has no directory.
        begun = not is_worker and SearchDirectory(directory).proposals.exists()
        named, data = data, load_data(data, seed=seed, **division(directory, begun))
        if not isinstance(named, str | os.PathLike) and (is_worker or knows_images(directory)):
            data = in_order(data)
    if start_from is not None and not is_worker:
        check_start(directory, start_from)
    imports = read_imports(start_from, space, rules) if start_from is not None and is_new else ()
    oracle = NASNetOracle(
        max_trials, space=space, strategy=controller, seed=seed, settings=settings, rules=rules, hours=hours,
        imports=imports, tries=tries, max_retries_per_trial=RETRIES,
    )  # fmt: skip
    further = {"lease": lease, "patience": patience, "role": role, "engine": engine}
    further["cost"] = None if isinstance(cost, str) else cost
    if is_worker:
        with tempfile.TemporaryDirectory() as folder:
            NASNetTuner(oracle, child, directory=folder, project_name="worker", **further).search(data)
        return SearchResult(None, [], Path(directory))
    place = {"directory": str(directory.parent), "project_name": directory.name}
    publisher = Publisher(directory, on_trial and Copies(on_trial), preference)
    live = LiveReport(directory, max_trials, hours)

    def tell_begin(trial):
        live.began(trial)
        callbacks.began(trial)

    def tell_finished(trials):
        live.finished(trials)
        publisher(trials)
        callbacks.finished(trials)

    def tell_place(state):
        live.looked(state)
        if on_place:
            on_place(state)

    tuner = NASNetTuner(oracle, child, **further, **place)
    oracle.on_started, oracle.on_finished, tuner.on_place = tell_begin, tell_finished, tell_place
    oracle.on_taken_back = live.taken_back
    try:
        tuner.begin(data)
        finished = oracle.finished_trials()
        is_known = start_from is not None and not is_new
        if is_known and (told := check_same_start(directory, start_from, space, rules)):
            logger.warning("%s", told)
        write_record(directory, data)
        preference.keep(directory)
        tell_finished(finished)
        with live:
            tuner._go(data)
        trials = oracle.finished_trials()
        write_report(directory, trials)
    finally:
        oracle.close()  # also where an exception's traceback, kept by a notebook, keeps the oracle
    preference.warn(trials)
    return SearchResult(best_genotype(directory, trials), trials, directory)
