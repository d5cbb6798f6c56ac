"""All trials of a search: in memory, on the disk, and the strategy that learns from them.

Made from the directory, a state is the one that the process before had when it was killed.
Whoever is broken off inside a method throws the state away and reads a new one.

The reward of a child has these names on its way:

    reward      what `ChildSettings.evaluate` returns, and the objective of the search by that name
    objective   the metric that KerasTuner maximises or minimises; a user's own may have another name than `reward`
    score       the objective as the rules have shaped it: the trial's `score` in KerasTuner, and here
    "reward"    the same in the trial's line of `trials.jsonl`; None for a failure. What was reported before a rule
                shaped it is kept as the line's `raw_reward` (`raw_` and the objective's name)
    told        what the strategy's `feedback` gets of a line (`TrialFormat.told`): the higher the better, None for a
                failure, unless a rule has another word for it
"""

import logging
import math
from bisect import insort
from itertools import islice

import numpy as np

from nasnet_keras.search.kerastuner import TrialStatus
from nasnet_keras.search.rules import Memory
from nasnet_keras.search.strategies.strategy import Proposal
from nasnet_keras.search.trials.logs import SearchLogs

EXHAUSTED = 1000  # so many known networks in a row mean that the space holds no others

logger = logging.getLogger(__name__)


class SearchState:
    """The state of one search; the oracle adds who works on which trial.

    Args:
        directory: the `SearchDirectory`.
        lock: its `DirectoryLock`.
        strategies: function that gives a fresh strategy for a seed.
        seed: of the search; None for that in the folder, or a new one.
        trial_format: the search's `TrialFormat`.
        imports: what a new search begins with, see `SearchLogs.claim`.
        tries: the genotypes of the first trials, before the strategy's own.

    Attributes:
        seed: of the search.
        strategy: the live `Strategy`.
        trials: {trial_id: KerasTuner trial}, in the order of their starts.
        open: {trial_id: `Proposal`} of the trials without a result.
        end_order: trial ids in the order of their ends.
        ranked: (sign · reward, number, trial_id) of the completed trials, the best first, without those that repeat
            another one of them.
        failures_in_a_row: how many of the last trials failed.
        attempts: {trial_id: how often it was given out}.

    Raises:
        ValueError: the folder is that of another search, or cannot be read.
    """

    def __init__(self, directory, lock, strategies, seed, trial_format, imports=(), tries=()):
        self._logs, self._format, self._tries = SearchLogs(directory, lock), trial_format, tries
        self._given_out = lock.given_out
        header = self._logs.header
        self.seed = (header["seed"] if header else _new_seed()) if seed is None else seed
        self._logs.claim(trial_format.identity(strategies(self.seed), tries), imports, tries)
        self.strategy = self._logs.replay(lambda: strategies(self.seed), trial_format.told, self._propose)
        self.trials, self.open, self.attempts, self.end_order, self.ranked = {}, {}, {}, [], []
        self.failures_in_a_row = 0
        self._memory, self._curves, self._firsts = Memory(), {}, {}
        for number in sorted(self._logs.started):
            trial = self._add(self._logs.started[number])
            if number in self._logs.finished:
                del self._logs.started[number], self.open[trial.trial_id]
        for line in self._logs.finished.values():
            self._close(self.trials[line["trial_id"]], line)
        for trial_id, proposal in self.open.items():
            self.strategy.expect(proposal)
            trial = self.trials[trial_id]
            self._note_first(trial)
            # One that waited for another, as it does now, was not given out yet.
            self.attempts[trial_id] = self._logs.attempts.get(proposal.number, 0 if self.first_of(trial) else 1)

    @property
    def next_number(self):
        """The number of the next new trial."""
        return self._logs.next_number

    def finished(self):
        """The lines of `trials.jsonl`, in order."""
        return list(self._logs.finished.values())

    @property
    def is_exhausted(self):
        """Whether the space holds no further networks, as the function of this name tells of the lines."""
        return is_exhausted(self._logs.finished.values())

    def start(self):
        """A new trial, one of those to try or one that the strategy proposes; it is on the disk."""
        proposal = self._propose(self.strategy, self._logs.next_number)
        self._logs.start(proposal)
        return self._add(proposal)

    def _propose(self, strategy, number):
        if number >= len(self._tries):
            return strategy.propose(number)
        genotype = self._tries[number]
        try:
            proposal = strategy.adopt(number, strategy.space.encode(genotype))
        except ValueError as error:
            logger.info("%s is trained, and nothing is learnt from it: %s", genotype.name or genotype.digest, error)
            proposal = Proposal(number, (), (), strategy.version, genotype)
        strategy.expect(proposal)
        return proposal

    def give_out(self, trial, worker):
        """Make a trial ready for a worker, and count it."""
        attempt = self.attempts.get(trial.trial_id, 0) + 1
        number = self.open[trial.trial_id].number
        if attempt > 1 or number in self._logs.attempts:
            self._logs.attempt(number, attempt, worker)
        self.attempts[trial.trial_id] = self._given_out[number] = attempt
        self._note_first(trial)
        self._curves.pop(trial.trial_id, None)
        self._format.begin(trial)

    def give_back(self, *trials):
        """Do not count the last time that these trials were given out, as far as they are open and out."""
        for trial_id in [trial.trial_id for trial in trials if trial.trial_id in self.open]:
            if (attempt := self.attempts[trial_id]) and self.open[trial_id].number not in self._logs.idle:
                try:
                    self._logs.attempt(self.open[trial_id].number, attempt - 1, None)
                    self.attempts[trial_id] = attempt - 1
                    self._given_out.pop(self.open[trial_id].number, None)  # the next run may be another process's
                except (OSError, ValueError) as error:  # the disk is full, or the folder is another search's by now
                    logger.debug("the run of trial %s counts: %s", trial_id, error)

    def given_out_here(self):
        """The open trials whose last run was begun by this very process, which it cannot have killed."""
        return [
            self.trials[key] for key, one in self.open.items() if self._given_out.get(one.number) == self.attempts[key]
        ]

    def best(self, count):
        """Completed trials, the best first; where too few, those that repeat one of them follow, then others."""
        best = [self.trials[trial_id] for *_, trial_id in self.ranked[:count]]
        if len(best) < count:
            others = [trial for trial in self.trials.values() if trial not in best]
            best += sorted(others, key=lambda trial: trial.status != TrialStatus.COMPLETED)
        return best[:count]

    def take_back(self, trial):
        """Note that an open trial waits for another worker: what its last one has come to counts."""
        if attempt := self.attempts[trial.trial_id]:
            self._logs.attempt(self.open[trial.trial_id].number, attempt, None)

    def first_of(self, trial):
        """The id of an open trial of the same network that a worker was given before, if that is to be waited for."""
        first = self._firsts.get(self._name(trial)) if self._firsts else None
        return None if first == trial.trial_id else first

    def progress(self, trial, accuracy, epoch):
        """Take in a running child's accuracy; true if a rule says that it may as well stop.

        What is no finite number is left out: None of validation images without a label, or what a child of one's own
        tells.
        """
        try:
            accuracy = float(accuracy)
        except (TypeError, ValueError):
            return False
        if not math.isfinite(accuracy):
            return False
        curve = self._curves.setdefault(trial.trial_id, {})
        curve[epoch] = accuracy
        return any(rule.is_hopeless(curve, self._memory) for rule in self._format.rules)

    def replay(self, trial):
        """Finish an open trial whose reward a rule knows; false if none does."""
        name = self._name(trial)
        for rule in self._format.rules:
            line = rule.replayed(name, self._memory)
            if line is not None:
                self._format.repeat(trial, line)
                self.finish(trial, line["reward"], None, replayed=line["trial_id"])
                return True
        return False

    def finish(self, trial, score, reason, **further):
        """End a trial: log it, tell the strategy, and from time to time save the strategy.

        Args:
            trial: an open one, with its metrics.
            score: its reward, None for a failure.
            reason: of a failure.
            **further: more for its line.
        """
        proposal = self.open[trial.trial_id]
        further["staleness"] = self.strategy.version - proposal.version
        curve = self._curves.pop(trial.trial_id, None)
        if curve:  # of one that a restart has cut off at its beginning nothing is known of an epoch
            if sorted(curve) == list(range(1, len(curve) + 1)):
                further["curve"] = [curve[epoch] for epoch in sorted(curve)]
        elif score is not None and "replayed" not in further:
            self._format.miss("progress", [rule for rule in self._format.rules if rule.needs_progress])
        line = self._format.line(trial, proposal, score, reason, **further)
        self._logs.finish(line)
        del self.open[trial.trial_id]
        if self._firsts.get(line["canonical"]) == trial.trial_id:
            del self._firsts[line["canonical"]]
        self._close(trial, line)
        self._logs.learn(self.strategy, proposal, self._format.told(line))
        self._logs.snapshot(self.strategy)

    def _note_first(self, trial):
        if any(rule.waits for rule in self._format.rules):
            self._firsts.setdefault(self._name(trial), trial.trial_id)

    def _name(self, trial):
        return self._format.name_of(self.open[trial.trial_id]) if self._format.rules else None

    def _add(self, proposal):
        trial = self._format.new(proposal.number, proposal)
        self.trials[trial.trial_id] = trial
        self.open[trial.trial_id] = proposal
        return trial

    def _close(self, trial, line):
        self._format.close(trial, line)
        self._memory.add(line)
        self.end_order.append(trial.trial_id)
        if trial.score is None:
            self.failures_in_a_row += 1
        else:
            self.failures_in_a_row = 0
            repeated = self.trials.get(line.get("replayed"))
            if repeated is None or repeated.score is None:
                sign = -1 if self._format.objective.direction == "max" else 1
                insort(self.ranked, (sign * line["reward"], line["number"], trial.trial_id))


def is_exhausted(trials):
    """Whether a space holds no further networks: of the last trials none needed a child, as a rule knew their rewards.

    Args:
        trials: the lines of `trials.jsonl`, in order.
    """
    return len(trials) >= EXHAUSTED and all("replayed" in line for line in islice(reversed(trials), EXHAUSTED))


def _new_seed():
    return int(np.random.SeedSequence().generate_state(1)[0])
