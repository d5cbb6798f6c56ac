"""Which of a search's trials is the best: the rule by which `best_genotype.json` is chosen."""

import json
import math
from dataclasses import asdict, dataclass

from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.pictures.curves import reward_of
from nasnet_keras.pictures.pareto import cost_of, pareto_front
from nasnet_keras.search.directory import SearchDirectory

RULES = {"reward": False, "within": True, "below": True}  # and whether a number follows


@dataclass(frozen=True)
class Preference:
    """A cost and a rule.

    Args:
        cost: of a child: `"multiply_adds"`, `"parameters"`, `"seconds"` of its training, or the name of another number
            that children report.
        prefer: `"reward"`: the highest reward, of equals the first. `"within:0.01"`: of the trials whose reward is at
            most so much below the highest, the cheapest. `"below:5000000"`: of those that cost at most so much, the
            one with the highest reward. A child without a cost, such as NaN, is neither cheap nor below anything.

    Raises:
        ValueError: naming the argument at fault.
    """

    cost: str = "multiply_adds"
    prefer: str = "reward"

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

    @property
    def _rule(self):
        rule, _, bound = self.prefer.partition(":")
        return rule, float(bound or 0)

    def ranked(self, trials):
        """The trials that meet the rule, a list, the best first; `trials` are dicts as in `trials.jsonl`, in order."""
        rule, bound = self._rule
        found = sorted((trial for trial in trials if reward_of(trial) is not None), key=lambda trial: -reward_of(trial))
        if rule == "within":
            near = [trial for trial in found if reward_of(trial) >= reward_of(found[0]) - bound]
            return sorted(near, key=self._price)
        if rule == "below":
            cheap = [trial for trial in found if self._price(trial) <= bound]
            return sorted(cheap, key=lambda trial: (-reward_of(trial), self._price(trial)))
        return found

    def contenders(self, trials):
        """Those of the trials that the choice depends on, also when more are added behind them."""
        first = sorted(
            (trial for trial in trials if reward_of(trial) is not None), key=lambda trial: -reward_of(trial)
        )[:1]
        if self._rule[0] == "reward":
            return first
        kept = [id(trial) for trial in [*first, *pareto_front(trials, self.cost)]]
        return [trial for trial in trials if id(trial) in kept]

    def complaint(self, trials):
        """Why there are trials with a reward and none is the best, one line; None where that is not so."""
        priced = [cost_of(trial, self.cost) for trial in trials if reward_of(trial) is not None]
        if not priced or self.ranked(trials):
            return None
        least = min((cost for cost in priced if cost is not None), default=None)
        return f"`prefer` {self.prefer}: no child costs so little; the least {self.cost} of one is {least}"

    def keep(self, directory):
        """Write it into a search's directory."""
        write_atomically(SearchDirectory(directory).preference, json.dumps(asdict(self)).encode())

    @classmethod
    def of(cls, directory):
        """That of a search's directory; the default where there is none that can be read."""
        try:
            return cls(**read_object(SearchDirectory(directory).preference))
        except (OSError, TypeError, ValueError):
            return cls()

    def _price(self, trial):
        cost = cost_of(trial, self.cost)
        return math.inf if cost is None else cost
