"""Which of a search's trials is the best: the rule by which `best_genotype.json` is chosen."""

import json
import logging
import math
from dataclasses import dataclass

from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.pictures.curves import merit_of, reward_of
from nasnet_keras.pictures.pareto import COSTS, cost_of, pareto_front
from nasnet_keras.search.cost import mark_of_cost, name_of_cost
from nasnet_keras.search.directory import SearchDirectory

logger = logging.getLogger(__name__)

RULES = {"reward": False, "within": True, "below": True}  # and whether a number follows
ROUNDING = 1e-9  # by which two rewards may be further apart than they are in decimals


@dataclass(frozen=True)
class Preference:
    """A cost and a rule.

    Args:
        cost: of a child: `"multiply_adds"`, `"parameters"`, `"seconds"` of its training, or the name of another number
            that children report.
        prefer: `"reward"`: the highest reward, of equals the first. `"within:0.01"`: of the trials whose reward is at
            most so much below the highest, the cheapest. `"below:5000000"`: of those that cost at most so much, the
            one with the highest reward. A child without a cost, such as NaN, is neither cheap nor below anything.
        direction: of the search's objective; of one that is `"min"` the lowest reward is what elsewhere is the highest.

    Raises:
        ValueError: naming the argument at fault.
    """

    cost: str = "multiply_adds"
    prefer: str = "reward"
    direction: str = "max"

    def __post_init__(self):
        if not isinstance(self.cost, str) or not self.cost.isidentifier() or self.cost in ("reward", "genotype"):
            raise ValueError(f"`cost` must be the name of a child's number. Received: {self.cost!r}")
        rule, colon, bound = str(self.prefer).partition(":")
        try:
            value = float(bound) if colon else None
        except ValueError:
            value = math.nan
        if RULES.get(rule) is not bool(colon) or (colon and not 0 <= value < math.inf):
            raise ValueError(
                "`prefer` must be reward, within:REWARD or below:COST, such as within:0.01, with a number from 0. "
                f"Received: {self.prefer!r}"
            )
        if self.direction not in ("max", "min"):
            raise ValueError(f"`direction` must be max or min. Received: {self.direction!r}")

    @property
    def _rule(self):
        rule, _, bound = self.prefer.partition(":")
        return rule, float(bound or 0)

    @property
    def is_by_cost(self):
        """Whether of several that meet the rule the cheapest is the best."""
        return self._rule[0] == "within"

    def ranked(self, trials):
        """The trials that meet the rule, a list, the best first; `trials` are dicts as in `trials.jsonl`, in order."""
        rule, bound = self._rule
        found = sorted((trial for trial in trials if reward_of(trial) is not None), key=self._demerit)
        if rule == "within" and found:
            # 0.41 is within 0.1 of 0.51, although 0.51 - 0.41 is a little more in binary numbers.
            best = self._demerit(found[0])
            bound += ROUNDING * max(1.0, abs(best))
            near = [trial for trial in found if self._demerit(trial) - best <= bound]
            return sorted(near, key=self._price)
        if rule == "below":
            cheap = [trial for trial in found if self._price(trial) <= bound]
            return sorted(cheap, key=lambda trial: (self._demerit(trial), self._price(trial)))
        return found

    def contenders(self, trials):
        """Those of the trials that the choice depends on, also when more are added behind them."""
        first = sorted((trial for trial in trials if reward_of(trial) is not None), key=self._demerit)[:1]
        if self._rule[0] == "reward":
            return first
        kept = [id(trial) for trial in [*first, *pareto_front(trials, self.cost, self.direction)]]
        return [trial for trial in trials if id(trial) in kept]

    def complaint(self, trials):
        """What a user should know of how the rule works on these trials, one line; None where it works as it says.

        There are trials with a reward and none is the best; or the bound for rewards leaves none out; or some have no
        such cost as the rule goes by. Of the rule `reward` the last only matters, for the front, where the cost is a
        number of the user's own.

        Args:
            trials: finished trials, dicts as in `trials.jsonl`.
        """
        trained = [trial for trial in trials if reward_of(trial) is not None and "replayed" not in trial]
        costs = [cost for cost in (cost_of(trial, self.cost) for trial in trained) if cost is not None]
        rule, lacking = self._rule[0], len(trained) - len(costs)
        lack = f"{lacking} of {len(trained)} trained trials have no `{self.cost}`"
        if rule == "below" and trained and not self.ranked(trials):
            if not costs:
                return f"`prefer` {self.prefer}: none is chosen, as {lack}"
            least = f"the least {self.cost} of one is {min(costs):.10g}"
            return f"`prefer` {self.prefer}: no child costs so little; {least}" + (f", and {lack}" if lacking else "")
        told = self._told_of_all(trials) if rule == "within" else []
        if lacking and not (rule == "reward" and self.cost in COSTS):
            effects = {"within": "they count as the dearest", "below": "they are not chosen"}
            told += [f"{lack}; {effects.get(rule, 'they are not on the front')}"]
        return f"`prefer` {self.prefer}: {'; '.join(told)}" if told else None

    def _told_of_all(self, trials):
        """A list of what is to be said where the bound leaves no trial out: rewards then decide nothing."""
        rewards = [reward_of(trial) for trial in trials if reward_of(trial) is not None]
        if len(set(rewards)) < 2 or len(self.ranked(trials)) < len(rewards):
            return []
        shares = ": rewards are shares, 0.01 is one point" if 0 <= min(rewards) <= max(rewards) <= 1 else ""
        return [f"it takes in all {len(rewards)} trials{shares}"]

    def warn(self, trials):
        """Log the complaint about these trials, if there is one."""
        if complaint := self.complaint(trials):
            logger.warning("%s", complaint)

    def keep(self, directory):
        """Write it into a search's directory, which knows the direction itself."""
        told = {"cost": self.cost, "prefer": self.prefer}
        write_atomically(SearchDirectory(directory).preference, json.dumps(told).encode())

    @classmethod
    def of(cls, directory):
        """That of a search's directory; the default where there is none that can be read."""
        place = SearchDirectory(directory)
        _, direction = place.objective()
        try:
            return cls(**{**read_object(place.preference), "direction": direction})
        except (OSError, TypeError, ValueError):
            return cls(direction=direction)

    def _demerit(self, trial):
        return -merit_of(trial, self.direction)

    def _price(self, trial):
        cost = cost_of(trial, self.cost)
        return math.inf if cost is None else cost


def keep_function(directory, cost, trials):
    """Write down in a search's directory which function measures the cost.

    That trials have the cost by another function of the same name is logged.

    Args:
        directory: the search's directory.
        cost: the function; of None, or one that cannot be told from others, nothing is written.
        trials: its finished trials.
    """
    if cost is None:
        return
    path, name, mark = SearchDirectory(directory).cost_functions, name_of_cost(cost), mark_of_cost(cost)
    try:
        marks = read_object(path)
    except (OSError, ValueError):
        marks = {}
    if mark is None:
        return
    measured, former = sum(cost_of(trial, name) is not None for trial in trials), str(marks.get(name, ""))
    if measured and former != mark and former.split(" ")[0] == mark.split(" ")[0]:  # of another Python nothing is known
        logger.warning(
            "`cost` %s is another function than before, or was changed: the numbers of %d trials are the former one's, "
            "and are compared with its. Give a new function a new name",
            name, measured,
        )  # fmt: skip
    write_atomically(path, json.dumps({**marks, name: mark}).encode())


def warn_without_reward(trials, commonest):
    """Log it where trials have ended and none has got a reward.

    Args:
        trials: finished trials.
        commonest: why they failed, as `publication.commonest_reason` says it.
    """
    if trials and all(reward_of(trial) is None for trial in trials):
        reason, count = commonest or ("no reason was given", len(trials))
        logger.warning("no child has got a reward: %d of %d failed with %s", count, len(trials), reason)


def warn_without_cost(trials, cost):
    """Log it where trials have got rewards and none has a cost: a tuner's own `run_trial` did not ask for it.

    Args:
        trials: finished trials.
        cost: the name under which it is kept.
    """
    done = [trial for trial in trials if reward_of(trial) is not None]
    if done and all(cost_of(trial, cost) is None for trial in done):
        logger.warning("`cost` was asked of no child: no trial has %s, as the tuner's `run_trial` is its own", cost)
