"""The base of the search strategies: one proposes architectures, takes rewards, saves and restores itself.

A strategy knows nothing of networks, data or KerasTuner. Proposal number n draws from
a generator of its own, seeded with the strategy's seed and n; so what a strategy
proposes next depends only on the rewards it was told and on n, and a restored
strategy goes on exactly as the original would have.
"""

import io
import json
import math
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nasnet_keras.checks import as_integer, check_integer
from nasnet_keras.files import expanded, write_atomically
from nasnet_keras.genotype import Genotype, canonical_name

FORMAT = "nasnet-strategy/1"
DRAWS = 200  # of random cells without a network that is new, after which all count as known
COUNTERS = ("feedbacks", "failures", "version", "history", "diagnostics")


@lru_cache(2**14)  # what is pending is asked for again with each proposal
def _name_of(space, decisions):
    return canonical_name(space.decode(decisions))


@dataclass(frozen=True)
class Proposal:
    """One architecture put forward by a strategy, with what is needed to learn from it later.

    Args:
        number: 0 for a strategy's first proposal, then counting up.
        decisions: one integer per decision of the space, an index into its choices.
        log_probability: log-probability of each decision under the policy that sampled it;
            empty if the strategy has no policy.
        version: how many times the strategy had learnt when it made the proposal.
        genotype: a `Genotype` outside of the space, which no decisions describe: then there are none. A strategy counts
            such proposals, and learns nothing from them.
    """

    number: int
    decisions: tuple[int, ...]
    log_probability: tuple[float, ...] = ()
    version: int = 0
    genotype: Genotype | None = None

    @property
    def is_foreign(self):
        """Whether this is another search's trial, see `Strategy.adopt`."""
        return self.number < 0

    def decode(self, space):
        """The `Genotype` that is proposed."""
        return self.genotype or space.decode(self.decisions)

    def to_dict(self):
        """The proposal as JSON-able data; floats survive JSON exactly."""
        outside = {"genotype": self.genotype.to_dict()} if self.genotype else {}
        return {
            "number": self.number,
            "version": self.version,
            "decisions": list(self.decisions),
            "log_probability": list(self.log_probability),
            **outside,
        }

    @classmethod
    def from_dict(cls, data):
        """The inverse of `to_dict`; raises `ValueError`."""
        try:
            decisions, logs = tuple(data["decisions"]), tuple(data["log_probability"])
            genotype = Genotype.from_dict(data["genotype"]) if "genotype" in data else None
            return cls(data["number"], decisions, logs, data["version"], genotype)
        except (KeyError, TypeError):
            keys = ", ".join(name for name in cls.__dataclass_fields__ if name != "genotype")
            raise ValueError(f"a proposal must be an object with the keys {keys}. Received: {data!r}") from None


def extend_history(history, number, reward):
    """The checksum of a strategy's history after one more reward; it tells whether a snapshot fits a log.

    Args:
        history: the checksum so far, 0 at the beginning.
        number: of the proposal.
        reward: as it was told, a number or None.
    """
    if reward is not None:
        reward = float(reward)  # 0, 0.0 and NumPy's zero are one reward
    return zlib.crc32(repr((number, reward)).encode(), history)


class Strategy:
    """Base of the strategies. A subclass gives `_sample`, `_learn`, `_state` and `_set_state`.

    Args:
        space: the `SearchSpace`.
        settings: a frozen dataclass of the subclass's `Settings`; by default its defaults.
        seed: integer from 0 to 2**32 - 1.

    Attributes:
        name: the name that `make_strategy` knows.
        learns: whether rewards change what is proposed, at whatever time.
        feedbacks: number of calls of `feedback`, failures included.
        failures: how many of these reported a failed child.
        version: how many times the strategy has learnt, which is what a proposal carries.
        pending: `{number: decisions}` of what was proposed and has no reward yet.
        history: checksum of everything it was told, in order: see `extend_history`.
        diagnostics: plain numbers about the last update; empty if there was none.

    Raises:
        ValueError: settings of another type, or a seed out of range.
    """

    name = None
    learns = True
    Settings = None

    def __init__(self, space, settings=None, seed=0):
        settings = self.Settings() if settings is None else settings
        if not isinstance(settings, self.Settings):
            raise ValueError(f"`settings` must be {self.Settings.__name__}. Received: {settings!r}")
        seed = as_integer(seed)
        check_integer("seed", seed, most=2**32 - 1)
        self.space = space
        self.settings = settings
        self.seed = seed
        self.feedbacks = 0
        self.failures = 0
        self.version = 0
        self.history = 0
        self.diagnostics = {}
        self.pending = {}
        self._next = 0

    @property
    def identity(self):
        """JSON-able description of the arguments; two strategies that share it make the same search."""
        return {
            "strategy": self.name,
            "space": self.space.to_dict(),
            "seed": self.seed,
            "settings": asdict(self.settings),
        }

    @property
    def learns_after(self):
        """How many rewards there are before a proposal follows from them; until then each is random."""
        return 0

    def check_use(self):
        """Raise `ValueError` where a setting does nothing beside the others; one that is made may have such."""

    def propose(self, number=None):
        """Propose an architecture.

        Args:
            number: the proposal's number; by default the one after the highest so far.

        Returns:
            A `Proposal`, which depends on nothing but the number, the rewards told so far, and what is pending.
        """
        number = self._next if number is None else number
        self.pending.pop(number, None)
        decisions, logs = self._sample(np.random.default_rng([self.seed, number]))
        proposal = Proposal(number, decisions, logs, self.version)
        self.expect(proposal)
        return proposal

    def expect(self, proposal):
        """Count a proposal as pending until its reward is told: one that was made before a restart, or elsewhere."""
        self._next = max(self._next, proposal.number + 1)
        if proposal.genotype is None:
            self.pending[proposal.number] = proposal.decisions

    def adopt(self, number, decisions):
        """A `Proposal` of decisions that came from elsewhere, as if this strategy had made it now.

        Args:
            number: of the proposal; below 0, where the strategy's own never are, of another search's trial.
            decisions: one integer per decision of the space.

        Raises:
            ValueError: the decisions do not fit the space.
        """
        self.space.to_values(decisions)  # raises
        return Proposal(number, tuple(decisions), self._log_probability(tuple(decisions)), self.version)

    def feedback(self, proposal, reward):
        """Tell the reward of a proposal. Rewards may come in any order, and late.

        Args:
            proposal: as `propose` returned it.
            reward: a finite number, the higher the better; or None if the child failed, which
                is counted and otherwise teaches nothing, except not to propose it again.

        Raises:
            ValueError: the reward is not finite, or the proposal does not fit the space.
        """
        if proposal.genotype is None:
            self.space.to_values(proposal.decisions)  # raises
        if reward is not None:
            reward = float(reward)
            if not math.isfinite(reward):
                raise ValueError(f"`reward` must be a finite number or None. Received: {reward!r}")
        if proposal.genotype is None:
            self._fail(proposal) if reward is None else self._learn(proposal, reward)
        self.pending.pop(proposal.number, None)
        self.feedbacks += 1
        self.failures += reward is None
        self.history = extend_history(self.history, proposal.number, reward)

    def save(self, path):
        """Write what running has produced, not the arguments, to one `.npz` file in one step.

        Raises:
            OSError: the file cannot be written; an older one stays as it was.
        """
        state, arrays = self._state()
        head = {"format": FORMAT, **self.identity, "next": self._next, "pending": list(self.pending.items())}
        head |= {name: getattr(self, name) for name in COUNTERS}
        buffer = io.BytesIO()
        np.savez(buffer, head=np.array(json.dumps({**head, **state})), **arrays)
        write_atomically(path, buffer.getvalue())

    def restore(self, path):
        """Go on from a file that `save` wrote.

        Raises:
            ValueError: the file cannot be read, or belongs to a strategy with other arguments;
                this one is then unchanged.
        """
        before = self.__dict__.copy()
        try:
            # Through memory: NumPy leaves a damaged file open.
            with np.load(io.BytesIO(Path(expanded(path)).read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop("head")))
            # Through JSON, as the file's own identity went: tuples become lists.
            expected = json.loads(json.dumps({"format": FORMAT, **self.identity}))
            for key in (key for key, value in expected.items() if head[key] != value):
                raise ValueError(f"`{key}` must be that of this strategy, {expected[key]!r}. Received: {head[key]!r}")
            self._set_state(head, arrays)
            self._next = head["next"]
            # Earlier versions did not write it; what is open is told again from the log.
            self.pending = {number: tuple(decisions) for number, decisions in head.get("pending", ())}
            for name in COUNTERS:
                setattr(self, name, head[name])
        except Exception as error:  # damaged bytes make NumPy's and zipfile's readers raise almost anything
            self.__dict__.update(before)
            raise ValueError(f"{path}: not a state that this strategy can restore: {error}") from None

    def _name(self, decisions):
        """Of the network, however it is written."""
        return _name_of(self.space, decisions)

    def _unknown(self, known, rng):
        """Decisions drawn at random, of a network whose name is not known if a number of draws finds one."""
        for _ in range(DRAWS):
            decisions = self.space.random(rng)
            if self._name(decisions) not in known:
                break
        return decisions

    def _sample(self, rng):
        """Decisions and their log-probabilities, as tuples."""
        raise NotImplementedError

    def _log_probability(self, decisions):
        """Of each decision under the policy as it is; empty without one."""
        return ()

    def _learn(self, proposal, reward):
        """Take in a reward."""

    def _fail(self, proposal):
        """Take in that a child has failed."""

    def _state(self):
        """A JSON-able dict and a dict of arrays."""
        return {}, {}

    def _set_state(self, state, arrays):
        """The inverse of `_state`."""
