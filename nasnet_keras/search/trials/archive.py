"""What a search keeps on disk, and how a strategy is brought back from it.

    search.json                  what search this is: strategy, space, seed, settings, objective, rules
    imported.jsonl               what the strategy was told of another search before it began, if anything
    controller/proposals.jsonl   a line per started trial, written before the trial runs
    controller/attempts.jsonl    a line whenever a trial is given out again
    trials.jsonl                 a line per finished trial, written before anything is learnt from it
    controller/updates.jsonl     a line per update of the policy: its diagnostics
    controller/state.npz         a snapshot of the strategy, replaced now and then

The logs are the truth and only grow; the snapshot only saves time. Whatever instant a
process is killed at, the next one restores the snapshot and tells the strategy the
rewards that came after it. What was started and not finished is known from the logs.
"""

import json
import logging
from pathlib import Path

from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.search.strategies.proposal import Proposal, extend_history
from nasnet_keras.search.trials.journal import Journal

logger = logging.getLogger(__name__)

FORMAT, HEADER = "nasnet-search/1", "search.json"
SNAPSHOT_EVERY = 20  # finished trials; so many rewards at most are told again after a restart


class Archive:
    """The files of one search. Made once per process, it reads and repairs the logs.

    Args:
        folder: the search's directory; `controller/` is made in it.
        lock: the `DirectoryLock` that whoever writes there has; it is asked before each write.

    Attributes:
        header: what `claim` wrote, or None in a new folder.
        started: {number: `Proposal`} of the trials that were started; a finished one is dropped
            when nobody can need it any more.
        next_number: the number of the next new trial.
        finished: {number: record} of those that ended, in the order of their ends. A record is a
            line of `trials.jsonl`, of which only `number`, `reward` and `genotype` matter here.
        attempts: {number: times} of the trials that were given out more than once.
        imported: decisions and rewards of another search, dicts with the keys `decisions` and `reward`.

    Raises:
        ValueError: the files are not those of a search.
    """

    def __init__(self, folder, lock):
        self.folder, self._lock = Path(folder), lock
        state = self.folder / "controller"
        state.mkdir(parents=True, exist_ok=True)
        self._header_file = self.folder / HEADER
        self._snapshot_file = state / "state.npz"
        self._proposals = Journal(state / "proposals.jsonl")
        self._attempts = Journal(state / "attempts.jsonl")
        self._updates = Journal(state / "updates.jsonl")
        self._trials = Journal(self.folder / "trials.jsonl")
        self._imported_file = self.folder / "imported.jsonl"
        with self._lock:
            self._read()

    def _read(self):
        is_damaged = not self._read_header()
        try:
            self.started = {line["number"]: Proposal.from_dict(line) for line in self._proposals.read()}
            self.finished = {}
            for line in self._trials.read():
                self.finished.setdefault(line["number"], line)
            self.attempts = {line["number"]: line["attempt"] for line in self._attempts.read()}
            self._updated = max((line["version"] for line in self._updates.read()), default=0)
            self.imported = Journal(self._imported_file).read()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.folder}: the logs are not those of a search ({error})") from None
        self.next_number = max(self.started, default=-1) + 1
        if self.header is None and not is_damaged and (self.started or self.finished):
            raise ValueError(f"{self.folder}: holds the trials of a search, but no readable {self._header_file.name}")

    def claim(self, identity, imports=()):
        """Make this the folder of a search, or check that it is.

        Args:
            identity: JSON-able dict.
            imports: what a new search begins with, dicts as in `imported`; one that goes on keeps its own.

        Raises:
            ValueError: the folder belongs to another search; the message names the first difference.
        """
        header = _header(identity)
        if self.header is None:
            with self._lock:
                if not self.started:
                    lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in imports)
                    if lines or self.imported:
                        write_atomically(self._imported_file, lines.encode())
                    self.imported = list(imports)
                write_atomically(self._header_file, json.dumps(header, indent=2).encode() + b"\n")
                self.header = header
        _compare(self.folder, self.header, header)

    def replay(self, strategies, reward):
        """A strategy that has learnt from all finished trials, exactly as the original did.

        Args:
            strategies: function without arguments that gives a fresh strategy.
            reward: function that turns a record into what `Strategy.feedback` wants.
        """
        lost = self.finished.keys() - self.started.keys()
        strategy = self._from_snapshot(strategies, reward) if not lost else strategies()
        for number, record in self._told()[strategy.feedbacks :]:
            if number < 0:
                self.learn(strategy, strategy.adopt(number, record["decisions"]), record["reward"])
                continue
            if number in lost:
                # Only damage to the file can do this. The strategy stands where it stood then,
                # so it makes the same proposal, unless results arrived out of order.
                proposal = strategy.propose(number)
                if strategy.space.decode(proposal.decisions).to_dict() != record["genotype"]:
                    raise ValueError(f"{self._proposals.path}: lacks the proposal of the finished trial {number}")
                self.start(proposal)
            self.learn(strategy, self.started[number], reward(record))
        return strategy

    def learn(self, strategy, proposal, reward):
        """Tell the strategy a reward, and log what it did with it; the same update is logged once."""
        strategy.feedback(proposal, reward)
        if strategy.diagnostics and strategy.version > self._updated:
            self._append(self._updates, {"feedbacks": strategy.feedbacks, **strategy.diagnostics})
            self._updated = strategy.version

    def attempt(self, number, attempt, worker):
        """Log that a trial is given out for the second time or more; raises `OSError`."""
        self._append(self._attempts, {"number": number, "attempt": attempt, "worker": worker})

    def start(self, proposal):
        """Log a proposal; call it before its trial runs. Raises `OSError`, and nothing has changed."""
        self._append(self._proposals, proposal.to_dict())
        self.started[proposal.number] = proposal
        self.next_number = max(self.next_number, proposal.number + 1)

    def finish(self, record):
        """Log a finished trial; call it before the strategy learns. Raises `OSError`, and nothing has changed."""
        self._append(self._trials, record)
        self.finished[record["number"]] = record
        del self.started[record["number"]]

    def snapshot(self, strategy):
        """Save the strategy if that is due. If the disk is full the search goes on without."""
        if strategy.feedbacks % SNAPSHOT_EVERY == 0:
            try:
                with self._lock:
                    strategy.save(self._snapshot_file)
            except OSError as error:
                logger.warning("%s could not be written (%s); a restart will take longer", self._snapshot_file, error)

    def _from_snapshot(self, strategies, reward):
        strategy = strategies()
        if not self._snapshot_file.exists():
            return strategy
        try:
            strategy.restore(self._snapshot_file)
        except ValueError as error:
            logger.warning("%s; the strategy learns all trials again", error)
            return strategies()
        history, told = 0, self._told()
        for number, record in told[: strategy.feedbacks]:
            history = extend_history(history, number, record["reward"] if number < 0 else reward(record))
        if strategy.feedbacks > len(told) or strategy.history != history:
            logger.warning("%s does not fit the log; the strategy learns all trials again", self._snapshot_file)
            return strategies()
        return strategy

    def _append(self, log, line):
        with self._lock:
            log.append(line)

    def _told(self):
        """(number, record) of all that the strategy learns from, in order; imports have numbers below 0."""
        return [*((-1 - index, line) for index, line in enumerate(self.imported)), *self.finished.items()]

    def _read_header(self):
        """Read `search.json` into `header`; false if it is damaged, and then it is set aside."""
        self.header = None
        try:
            header = read_object(self._header_file)
        except FileNotFoundError:
            return True
        except ValueError:
            aside = self._header_file.with_name(f"{self._header_file.name}.damaged")
            self._header_file.replace(aside)
            logger.warning(
                "%s cannot be read and is kept as %s; the logs are taken for those of a search with these arguments",
                self._header_file, aside.name,
            )  # fmt: skip
            return False
        if header.get("format") != FORMAT:
            raise ValueError(f"{self._header_file}: `format` must be {FORMAT!r}. Received: {header!r:.100}")
        self.header = header
        return True


def identify(strategy, objective, direction, rules):
    """What makes a search this one, JSON-able.

    Args:
        strategy: its `Strategy`.
        objective, direction: what is looked for, for example `"reward"` and `"max"`.
        rules: a tuple of `rules.Rule`.
    """
    described = {**strategy.identity, "objective": {"name": objective, "direction": direction}}
    return {**described, "rules": [rule.to_dict() for rule in rules]} if rules else described


def check_identity(folder, identity):
    """Raise `ValueError` if a folder is known to belong to another search; nothing is changed, and little is read."""
    try:
        header = read_object(Path(folder) / HEADER)
    except (OSError, ValueError):
        return  # new, or damaged: for the `Archive`
    if header.get("format") == FORMAT:
        _compare(folder, header, _header(identity))


def _header(identity):
    return json.loads(json.dumps({"format": FORMAT, **identity}))


def _compare(folder, then, now):
    old, new = _flat(then), _flat(now)
    for key in (key for key in {**old, **new} if old.get(key) != new.get(key)):
        raise ValueError(
            f"`{key}` must be {old.get(key)!r}, as in the search that {folder} belongs to "
            f"(or use another directory, or overwrite it). Received: {new.get(key)!r}"
        )


def _flat(data, prefix=""):
    """Nested dicts as one, with dotted keys."""
    flat = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
