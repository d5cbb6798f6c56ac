"""Rules between a child and the strategy: small pieces that are put together in a tuple.

    rules = (Replay(), Limits(max_parameters=100_000), SoftTarget(2_000_000), FailurePenalty(0.0))

Each is a frozen value, so a search directory can say which it was made with. A rule
overrides the hooks it needs; where several have an answer they are asked in order. What
they need to know of the trials so far is kept in one `Memory`, which follows from
`trials.jsonl` alone: a resumed search decides as the original did.
"""

import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import asdict, dataclass, is_dataclass

from nasnet_keras.checks import check_integer, check_positive, is_number, take_integers, take_numbers
from nasnet_keras.search.own import public_attributes

SIZES = ("parameters", "multiply_adds")  # what a child's `sizes` tell


class Rule:
    """Base of the rules; every hook does nothing.

    Attributes:
        needs_sizes: whether a child's size, of its `sizes`, is asked for before it is trained.
        needs_progress: whether a child's accuracy must be measured after every epoch.
        waits: whether a network that a worker has already is better waited for than trained again: `replayed` will
            know its reward.
    """

    needs_sizes = needs_progress = waits = False

    def replayed(self, name, memory):
        """The line of a finished trial whose reward stands for this one's, or None; `name` is `canonical_name`'s."""

    def refusal(self, sizes):
        """Why a child is not to be trained, or None; `sizes` are its parameters and multiply-adds, before training."""

    def is_hopeless(self, curve, memory):
        """Whether a child may stop here; `curve` is {epoch: validation accuracy} so far, epochs from 1."""
        return False

    def shaped(self, reward, metrics):
        """The trial's reward, from what the child reported."""
        return reward

    def told(self, reward):
        """What the strategy is told: a number, the higher the better, or None for a failure that teaches nothing."""
        return reward

    def remark(self, direction):
        """One line where the rule may lead a search astray whose objective has this direction; else None."""
        return None

    def to_dict(self):
        """JSON-able description; of a subclass that is no dataclass its public attributes."""
        return {"rule": type(self).__name__, **(asdict(self) if is_dataclass(self) else public_attributes(self))}


@dataclass(frozen=True)
class Replay(Rule):
    """A genotype that was seen before, or an isomorphic one, gets the stored reward and is not trained again.

    One that is being trained is waited for, and takes its turn if that fails.
    """

    waits = True

    def replayed(self, name, memory):
        """The first completed trial of the same network."""
        return memory.line_of(name)


@dataclass(frozen=True)
class Limits(Rule):
    """Children above a size fail before they are trained.

    Args:
        max_parameters: of the child as it is trained; None for no limit.
        max_multiply_adds: likewise, for one image.

    Raises:
        ValueError: naming the argument at fault.
    """

    needs_sizes = True
    max_parameters: int | None = None
    max_multiply_adds: int | None = None

    def __post_init__(self):
        take_integers(self, "max_parameters", "max_multiply_adds")
        for label, value in asdict(self).items():
            check_integer(label, value, least=1, optional=True)

    def refusal(self, sizes):
        """Names the first limit that is broken."""
        for name in SIZES:
            most = getattr(self, f"max_{name}")
            if most is not None and sizes[name] > most:
                return f"`{name}` must be at most {most:,}. Received: {sizes[name]:,}"
        return None


@dataclass(frozen=True)
class SoftTarget(Rule):
    """A reward that trades accuracy for cost: reward · (cost / target) ** exponent.

    Source: Tan et al. 2019 (MnasNet, arXiv 1807.11626), equations 2 and 3, soft form: the same exponent below and above
    the target. Their −0.07 comes from the observation that twice the latency is worth about 5% of accuracy. Works on
    rewards above 0 that are maximised.

    Args:
        target: the cost at which the reward stays as it is.
        metric: `"multiply_adds"`, `"parameters"`, or another number that children report, such as a latency.
        exponent: w in the paper.

    Raises:
        ValueError: naming the argument at fault.
    """

    target: float
    metric: str = "multiply_adds"
    exponent: float = -0.07

    def __post_init__(self):
        take_numbers(self, "target", "exponent")
        check_positive("target", self.target, finite=True)
        if not is_number(self.exponent) or not -math.inf < self.exponent <= 0:
            raise ValueError(f"`exponent` must be a number of at most 0. Received: {self.exponent!r}")

    @property
    def needs_sizes(self):
        """Whether the metric is one that a child tells by its `sizes`, whatever it reports with the reward."""
        return self.metric in SIZES

    def remark(self, direction):
        """Says that of an objective to minimise a cost above the target makes less: what counts as better."""
        return "SoftTarget makes losses above 0 lower for dear children, and so better" if direction == "min" else None

    def shaped(self, reward, metrics):
        """MnasNet's weighted product; raises `ValueError` if the child did not report the metric."""
        cost = metrics.get(self.metric)
        if cost is None or not cost > 0:
            raise ValueError(f"`{self.metric}` must be reported with the reward, a number above 0. Received: {cost!r}")
        return reward * (cost / self.target) ** self.exponent


@dataclass(frozen=True)
class MedianStop(Rule):
    """Stops a child that does worse than half of the others did.

    Source: Golovin et al. 2017 (Google Vizier), section 3.2.2, the median rule: a trial is stopped at an epoch if its
    best accuracy so far is below the median of the others' mean accuracies up to that epoch. Its reward is its last
    accuracy, less than it might have become.

    Args:
        epochs: a child is left alone before it has trained for so many.
        trials: as long as fewer trials have trained as far, nothing is stopped.

    Raises:
        ValueError: naming the argument at fault.
    """

    needs_progress = True
    epochs: int = 1
    trials: int = 10

    def __post_init__(self):
        take_integers(self, "epochs", "trials")
        for label, value in asdict(self).items():
            check_integer(label, value, least=1)

    def is_hopeless(self, curve, memory):
        """Vizier's comparison at the curve's last epoch."""
        epoch = max(curve)
        others = memory.means_at(epoch)
        if epoch < self.epochs or len(others) < self.trials:
            return False
        middle = len(others) // 2
        median = others[middle] if len(others) % 2 else (others[middle - 1] + others[middle]) / 2
        return max(curve.values()) < median


@dataclass(frozen=True)
class FailurePenalty(Rule):
    """A failed child teaches the strategy that it was worth this much.

    Without it a failure teaches nothing, and an RL policy goes on proposing what is too large.

    Args:
        reward: what the strategy is told, the higher the better; of an objective to minimise the negative of a loss.
    """

    reward: float = 0.0

    def __post_init__(self):
        take_numbers(self, "reward")
        if not is_number(self.reward) or not math.isfinite(self.reward):
            raise ValueError(f"`reward` must be a finite number. Received: {self.reward!r}")

    def remark(self, direction):
        """Says it where losses are told as their negatives, and a failure may be better than any of them."""
        if direction == "max" or self.reward < 0:
            return None
        return f"a loss above 0 is told as its negative, and failures with FailurePenalty({self.reward:g}) are better"

    def told(self, reward):
        """The reward, or the penalty."""
        return self.reward if reward is None else reward


class Memory:
    """What rules know of the finished trials."""

    def __init__(self):
        self._lines = {}  # canonical name -> line of the first completed trial
        self._means = {}  # epoch -> sorted means of the accuracies up to it

    def add(self, line):
        """Take in a finished trial's line."""
        if line["reward"] is not None and "canonical" in line:
            self._lines.setdefault(line["canonical"], line)
        total = 0.0
        for count, value in enumerate(line.get("curve", ()), 1):
            total += value
            insort(self._means.setdefault(count, []), total / count)

    def line_of(self, name):
        """The line of the first completed trial of the network with this canonical name, or None."""
        return self._lines.get(name)

    def means_at(self, epoch):
        """Sorted: for each finished trial that trained so far, its mean accuracy up to this epoch."""
        return self._means.get(epoch, [])


def check_rules(rules):
    """A tuple of rules, no two of one kind; raises `ValueError` naming `rules`."""
    given = tuple(rules) if isinstance(rules, Iterable) else ()
    kinds = [type(rule).__name__ for rule in given]
    are_rules = isinstance(rules, Iterable) and all(isinstance(rule, Rule) for rule in given)
    if not are_rules or len(set(kinds)) < len(kinds):
        raise ValueError(f"`rules` must be `Rule` objects, each of another kind, in a tuple. Received: {rules!r}")
    return given
