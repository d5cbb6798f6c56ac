"""The format of a trial: KerasTuner's trials as lines of `trials.jsonl`, and back."""

import logging
import math
from itertools import islice

import keras_tuner

from nasnet_keras.genotype import canonical_name
from nasnet_keras.search.kerastuner import Trial, TrialStatus, infer_metric_direction
from nasnet_keras.search.space import GENOTYPE
from nasnet_keras.search.trials.logs import identify

COSTS = {"seconds": float, "parameters": int, "multiply_adds": int}  # metrics with a place of their own in a line

logger = logging.getLogger(__name__)


class TrialFormat:
    """Makes the trials of one search, takes their metrics, and writes and reads their lines.

    Args:
        space: the `SearchSpace`.
        objective: a `keras_tuner.Objective`.
        rules: a tuple of `rules.Rule`.

    Attributes:
        hyperparameters: the space as KerasTuner sees it; all trials share it.
    """

    def __init__(self, space, objective, rules=()):
        self.space = space
        self.objective = objective
        self.rules = rules
        self.hyperparameters = keras_tuner.HyperParameters()
        for decision in space.decisions:
            self.hyperparameters.Choice(decision.name, list(decision.choices), ordered=False)
        self._directions = {**dict.fromkeys(COSTS, "min"), **getattr(objective, "name_to_direction", {})}
        self._directions[objective.name] = objective.direction
        self._refused = {}  # trial_id -> why the reported objective was refused
        self._missed = set()  # what was said of rules that lack what they go by

    def identity(self, strategy, tries=()):
        """What makes a search this one, see `logs.identify`."""
        objectives = getattr(self.objective, "name_to_direction", None)
        return identify(strategy, self.objective.name, self.objective.direction, self.rules, tries, objectives)

    def miss(self, name, rules):
        """Say it, once, where rules do nothing, as trials do not report what they go by."""
        for rule in rules:
            if (what := (type(rule).__name__, name)) not in self._missed:
                self._missed.add(what)
                logger.warning("`%s` does nothing: trials report no `%s`", *what)

    def leave(self, hyperparameters):
        """Say it, once, where a hypermodel asks for what is no part of the space: it gets its default."""
        known = {GENOTYPE, *(decision.name for decision in self.space.decisions), *self._missed}
        for one in hyperparameters.space:
            # Else there is nothing to choose. Of numbers with a step the values are a generator.
            if one.name not in known and len(list(islice(getattr(one, "values", (0, 1)), 2))) > 1:
                self._missed.add(one.name)
                logger.warning(
                    "`%s` is not searched for: every trial gets %r; the oracle proposes cells alone",
                    one.name, one.default,
                )  # fmt: skip

    def new(self, number, proposal=None, status=TrialStatus.RUNNING):
        """A trial, given its number and its `Proposal`; without a space of its own, which is 50 objects.

        The width of its id does not depend on `max_trials`, so that a search can be made longer.
        """
        if proposal is None:
            values = {}
        elif proposal.genotype:
            values = {GENOTYPE: proposal.genotype.to_json()}
        else:
            values = self.space.to_values(proposal.decisions)
        return Trial(_SharedSpace(self.hyperparameters, values), f"{number:05d}", status)

    def begin(self, trial):
        """Make a trial ready to run. A run that was broken off must not be averaged with this one."""
        trial.status, trial.message = TrialStatus.RUNNING, None
        trial.metrics.metrics.clear()
        self._refused.pop(trial.trial_id, None)

    def started(self, trial, worker):
        """What a listener is told when a trial is given to a worker, a dict."""
        genotype = self.space.decode_values(trial.hyperparameters.values)
        return {"trial_id": trial.trial_id, "genotype": genotype.to_dict(), "worker": worker}

    def report(self, trial, metrics, step):
        """Add metrics to a trial, in the place of others of the same step: a second worker's are not averaged in.

        What is not finite is left out; if it is the objective, the trial will fail.
        """
        for name, value in metrics.items():
            reason = _refusal(name, value)
            if reason is None:
                self._observe(trial, name, float(value), step)
            elif name == self.objective.name:
                self._refused[trial.trial_id] = reason

    def outcome(self, trial, status, score_trial):
        """How a trial has ended.

        Args:
            trial: with its metrics and its message.
            status: what the worker says.
            score_trial: the oracle's method, which sets `trial.score`.

        Returns:
            COMPLETED, INVALID (may be tried again) or FAILED; the score; the reason of the failure.
        """
        name = self.objective.name
        if status in (TrialStatus.INVALID, TrialStatus.FAILED):
            return status, None, one_line(trial.message)
        reason = self._refused.get(trial.trial_id)
        if reason is None and not trial.metrics.exists(name):
            reason = f"no `{name}` was reported"
        if reason is None:
            score_trial(trial)
            try:
                if refusal := self._refusal_of_size(trial):
                    return TrialStatus.FAILED, None, refusal
                for rule in self.rules:
                    trial.score = rule.shaped(trial.score, self._best(trial))
                reason = _refusal(name, trial.score)
            except ValueError as error:  # of a rule, which would say it again
                return TrialStatus.FAILED, None, str(error)
            except ArithmeticError as error:  # likewise: numbers too large for its formula
                return TrialStatus.FAILED, None, f"a rule cannot shape `{name}`: {type(error).__name__}: {error}"
        return (TrialStatus.INVALID, None, reason) if reason else (TrialStatus.COMPLETED, float(trial.score), None)

    def line(self, trial, proposal, score, reason, **further):
        """What is logged of a finished trial: JSON-able, first the keys that the package promises.

        Args:
            trial: with its metrics.
            proposal: the `Proposal` it came from.
            score: the reward, None for a failed trial.
            reason: one line that says why it failed, or None.
            **further: more keys.
        """
        metrics = self._best(trial)
        costs = {name: kind(metrics.pop(name)) if name in metrics else None for name, kind in COSTS.items()}
        reported = metrics.pop(self.objective.name, None)
        if reported is not None and reported != score:
            metrics[f"raw_{self.objective.name}"] = reported  # before a rule shaped it, or failed to
        genotype = proposal.decode(self.space)
        return {
            "trial_id": trial.trial_id,
            "genotype": genotype.to_dict(),
            "reward": score,
            "seconds": costs["seconds"],
            "status": TrialStatus.FAILED if score is None else TrialStatus.COMPLETED,
            "parameters": costs["parameters"],
            "multiply_adds": costs["multiply_adds"],
            "number": proposal.number,
            "policy_version": proposal.version,
            "reason": reason,
            "step": trial.best_step,
            "metrics": metrics,
            "canonical": canonical_name(genotype),
            **further,
        }

    def repeat(self, trial, line):
        """Give a trial the outcome that another one's line tells, but for the time that it took."""
        trial.best_step = line["step"]
        known = {self.objective.name: line["reward"], **{name: line[name] for name in COSTS}, **line["metrics"]}
        for name, value in {**known, "seconds": 0.0}.items():
            if value is not None:
                self._observe(trial, name, value, line["step"])

    def close(self, trial, line):
        """Bring a trial to the state that its line tells: when it ends, and when it is read again."""
        trial.status, trial.score, trial.best_step = line["status"], line["reward"], line["step"]
        trial.message = trial.message or line["reason"]
        known = {self.objective.name: line["reward"], **{name: line[name] for name in COSTS}, **line["metrics"]}
        for name, value in known.items():
            if value is not None and not trial.metrics.exists(name):
                self._observe(trial, name, value, line["step"])

    def told(self, line):
        """What a strategy is told of a finished trial: the higher the better, None for a failure."""
        reward = line["reward"]
        if reward is not None and self.objective.direction == "min":
            reward = -reward
        for rule in self.rules:
            reward = rule.told(reward)
        return reward

    def name_of(self, proposal):
        """The canonical name of the network that is proposed."""
        return canonical_name(proposal.decode(self.space))

    def _refusal_of_size(self, trial):
        """Why a rule refuses the size that was reported, or None: whoever trained the child may have asked no rule."""
        known = self._best(trial)
        for rule in self.rules:
            if rule.needs_sizes:
                sizes = _Sizes({name: COSTS.get(name, float)(value) for name, value in known.items()})
                if reason := rule.refusal(sizes):
                    return reason
                for name in sizes.missed:
                    self.miss(name, [rule])
        return None

    def _best(self, trial):
        return {name: float(history.get_best_value()) for name, history in trial.metrics.metrics.items()}

    def _observe(self, trial, name, value, step):
        if not trial.metrics.exists(name):
            if name not in self._directions:
                self._directions[name] = infer_metric_direction(name) or "min"
            trial.metrics.register(name, self._directions[name])
        history = trial.metrics.metrics[name]
        same = [seen for seen in history.get_history() if seen.step == step]
        if same:
            same[0].value = [value]
        else:
            history.update(value, step)


class _Sizes(dict):
    """Sizes by their names; one that is not known is neither above a limit nor below it, and noted."""

    def __init__(self, known):
        super().__init__(known)
        self.missed = []

    def __missing__(self, name):
        self.missed.append(name)
        return math.nan


class _SharedSpace(keras_tuner.HyperParameters):
    """One trial's values over a space that all trials share, until one of them adds an entry of its own."""

    def __init__(self, shared, values):
        super().__init__()
        self._hps, self._space, self.values = shared._hps, shared._space, values

    def _register(self, hyperparameter, overwrite=False):
        self._hps = type(self._hps)(list, {name: list(entries) for name, entries in self._hps.items()})
        self._space = list(self._space)
        return super()._register(hyperparameter, overwrite)


def whole(objective, metrics):
    """The metrics; where the objective is a sum of several, and all of them are there, with that sum."""
    is_sum = hasattr(objective, "objectives") and objective.name not in metrics and objective.has_value(metrics)
    return {**metrics, objective.name: objective.get_value(metrics)} if is_sum else metrics


def _refusal(name, value):
    return None if math.isfinite(value) else f"`{name}` must be a finite number. Received: {value}"


def one_line(message):
    """The line of a traceback that names the exception, or the first line of any other text."""
    lines = [line for line in (message or "").splitlines() if line.strip()] or ["no reason was given"]
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    rest = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in rest if not line.startswith("    ")), lines[-1]).strip()[:500]
