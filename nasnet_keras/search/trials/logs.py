"""The logs of a search, and how a strategy is brought back from them.

What lies where says `SearchDirectory`. The logs are the truth and only grow; the snapshot
only saves time. Whatever instant a process is killed at, the next one restores the snapshot
and tells the strategy the rewards that came after it. What was started and not finished is
known from the logs.
"""

import json
import logging

from nasnet_keras.checks import first_difference
from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.search.directory import SearchDirectory
from nasnet_keras.search.strategies.strategy import Proposal, extend_history
from nasnet_keras.search.trials.log import Log

logger = logging.getLogger(__name__)

FORMAT = "nasnet-search/1"
SNAPSHOT_EVERY = 20  # finished trials; so many rewards at most are told again after a restart


class SearchLogs:
    """The logs of one search, which it reads and repairs when it is made.

    Args:
        directory: a `SearchDirectory`; `controller/` is made in it.
        lock: the `DirectoryLock` that whoever writes there has; it is asked before each write.

    Attributes:
        header: what `claim` wrote, or None in a new folder.
        started: {number: `Proposal`} of the trials that were started; a finished one is dropped
            when nobody can need it any more.
        next_number: the number of the next new trial.
        finished: {number: line} of those that ended, in the order of their ends. A line is one
            of `trials.jsonl`, of which only `number`, `reward` and `genotype` matter here.
        attempts: {number: times} of the trials that were given out more than once, or given back; of a trial the last
            line counts.
        imported: decisions and rewards of another search, dicts with the keys `decisions` and `reward`.

    Raises:
        ValueError: the files are not those of a search.
    """

    def __init__(self, directory, lock):
        self.directory, self._lock = directory, lock
        directory.controller.mkdir(parents=True, exist_ok=True)
        self._proposals, self._attempts = Log(directory.proposals), Log(directory.attempts)
        self._updates, self._trials = Log(directory.updates), Log(directory.trials)
        with self._lock:
            self._read()

    def _read(self):
        directory = self.directory
        is_damaged = not self._read_header()
        try:
            self.started = {line["number"]: Proposal.from_dict(line) for line in self._proposals.read()}
            self.finished = {}
            for line in self._trials.read():
                self.finished.setdefault(line["number"], line)
            attempts = {line["number"]: line for line in self._attempts.read()}
            self.attempts = {number: line["attempt"] for number, line in attempts.items()}
            self.idle = {number for number, line in attempts.items() if line["worker"] is None}  # at no worker's since
            self._updated = max((line["version"] for line in self._updates.read()), default=0)
            self.imported = Log(directory.imported).read()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{directory.path}: the logs are not those of a search ({error})") from None
        self.next_number = max(self.started, default=-1) + 1
        if self.header is None and not is_damaged and (self.started or self.finished):
            raise ValueError(f"{directory.path}: holds the trials of a search, but no readable {directory.header.name}")

    def claim(self, identity, imports=(), tries=()):
        """Make this the folder of a search, or check that it is.

        Args:
            identity: JSON-able dict.
            imports: what a new search begins with, dicts as in `imported`; one that goes on keeps its own.
            tries: the genotypes of a new search's first trials, which are kept for `imported.read_tries`.

        Raises:
            ValueError: the folder belongs to another search; the message names the first difference.
        """
        header = _header(identity)
        if self.header is None:
            with self._lock:
                if not self.started:
                    lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in imports)
                    if lines or self.imported:
                        write_atomically(self.directory.imported, lines.encode())
                    self.imported = list(imports)
                for number, genotype in enumerate(tries):
                    self.directory.tries.mkdir(parents=True, exist_ok=True)
                    genotype.save(self.directory.tries / f"{number}.json")
                write_atomically(self.directory.header, json.dumps(header, indent=2).encode() + b"\n")
                self.header = header
        if "objective.objectives" in _unknown(self.header, header):
            logger.warning(
                "%s does not say which objectives it was begun with, and goes on with %s",
                self.directory.header, ", ".join(header["objective"]["objectives"]),
            )  # fmt: skip
        _compare(self.directory.path, self.header, header)

    def replay(self, strategies, told, propose):
        """A strategy that has learnt from all finished trials, exactly as the original did.

        Args:
            strategies: function without arguments that gives the strategy as it was before the search; it may have
                learnt by then.
            told: function that turns a line, of a trial or of `imported`, into what `Strategy.feedback` wants.
            propose: function of a strategy and a number that gives the `Proposal` of that number.
        """
        lost = self.finished.keys() - self.started.keys()
        before = strategies().feedbacks
        strategy = self._from_snapshot(strategies, told) if not lost else strategies()
        for number, line in self._lines()[strategy.feedbacks - before :]:
            if number < 0:
                self.learn(strategy, strategy.adopt(number, line["decisions"]), told(line))
                continue
            if number in lost:
                # Only damage to the file can do this. The strategy stands where it stood then,
                # so it makes the same proposal, unless results arrived out of order.
                proposal = propose(strategy, number)
                if proposal.decode(strategy.space).to_dict() != line["genotype"]:
                    raise ValueError(f"{self._proposals.path}: lacks the proposal of the finished trial {number}")
                self.start(proposal)
            self.learn(strategy, self.started[number], told(line))
        return strategy

    def learn(self, strategy, proposal, reward):
        """Tell the strategy a reward, and log what it did with it; the same update is logged once."""
        strategy.feedback(proposal, reward)
        if strategy.diagnostics and strategy.version > self._updated:
            self._append(self._updates, {"feedbacks": strategy.feedbacks, **strategy.diagnostics})
            self._updated = strategy.version

    def attempt(self, number, attempt, worker):
        """Log that a trial is given out for the second time or more, or to None, taken back; raises `OSError`."""
        self._append(self._attempts, {"number": number, "attempt": attempt, "worker": worker})
        self.attempts[number] = attempt
        (self.idle.add if worker is None else self.idle.discard)(number)

    def start(self, proposal):
        """Log a proposal; call it before its trial runs. Raises `OSError`, and nothing has changed."""
        self._append(self._proposals, proposal.to_dict())
        self.started[proposal.number] = proposal
        self.next_number = max(self.next_number, proposal.number + 1)

    def finish(self, line):
        """Log a finished trial; call it before the strategy learns. Raises `OSError`, and nothing has changed."""
        self._append(self._trials, line)
        self.finished[line["number"]] = line
        del self.started[line["number"]]

    def snapshot(self, strategy):
        """Save the strategy if that is due. If the disk is full the search goes on without."""
        path = self.directory.snapshot
        if strategy.feedbacks % SNAPSHOT_EVERY == 0:
            try:
                with self._lock:
                    strategy.save(self.directory.snapshot)
            except OSError as error:
                logger.warning("%s could not be written (%s); a restart will take longer", path, error)

    def _from_snapshot(self, strategies, told):
        strategy = strategies()
        before, history = strategy.feedbacks, strategy.history
        path = self.directory.snapshot
        if not path.exists():
            return strategy
        try:
            strategy.restore(path)
        except ValueError as error:
            logger.warning("%s; the strategy learns all trials again", error)
            return strategies()
        lines, learnt = self._lines(), strategy.feedbacks - before
        for number, line in lines[: max(learnt, 0)]:
            history = extend_history(history, number, told(line))
        if not 0 <= learnt <= len(lines) or strategy.history != history:
            logger.warning("%s does not fit the log; the strategy learns all trials again", path)
            return strategies()
        return strategy

    def _append(self, log, line):
        with self._lock:
            log.append(line)

    def _lines(self):
        """(number, line) of all that the strategy learns from, in order; imports have numbers below 0."""
        return [*((-1 - index, line) for index, line in enumerate(self.imported)), *self.finished.items()]

    def _read_header(self):
        """Read `search.json` into `header`; false if it is damaged, and then it is set aside."""
        self.header, path = None, self.directory.header
        try:
            header = read_object(path)
        except FileNotFoundError:
            return True
        except ValueError:
            aside = path.with_name(f"{path.name}.damaged")
            write_atomically(aside, path.read_bytes())  # the file itself stays until there is another
            logger.warning(
                "%s cannot be read and is kept as %s; the logs are taken for those of a search with these arguments",
                path, aside.name,
            )  # fmt: skip
            return False
        if header.get("format") != FORMAT:
            raise ValueError(f"{path}: `format` must be {FORMAT!r}. Received: {header!r:.100}")
        self.header = header
        return True


def identify(strategy, objective, direction, rules, tries=(), objectives=None):
    """What makes a search this one, JSON-able.

    Args:
        strategy: its `Strategy`.
        objective, direction: what is looked for, for example `"reward"` and `"max"`.
        rules: a tuple of `rules.Rule`.
        tries: the genotypes of the first trials.
        objectives: where the objective is a sum of several, their directions by their names, a dict.
    """
    parts = {"objectives": objectives} if objectives else {}
    described = {**strategy.identity, "objective": {"name": objective, "direction": direction, **parts}}
    described |= {"rules": [rule.to_dict() for rule in rules]} if rules else {}
    return described | ({"try": [" ".join(filter(None, (one.name, one.digest))) for one in tries]} if tries else {})


def check_identity(folder, identity):
    """Raise `ValueError` if a folder is known to belong to another search; nothing is changed, and little is read."""
    try:
        header = read_object(SearchDirectory(folder).header)
    except (OSError, ValueError):
        return  # new, or damaged: for `SearchLogs`
    if header.get("format") == FORMAT:
        _compare(folder, header, _header(identity))


def _header(identity):
    return json.loads(json.dumps({"format": FORMAT, **identity}))


def _compare(folder, then, now):
    none = {"rules": [], "try": []}  # of which `identify` says nothing where there are none
    now = {key: value for key, value in _flat(now).items() if key.rpartition(".")[0] not in _unknown(then, now)}
    then, now = ({**flat, **{key: flat.get(key, none[key]) for key in none}} for flat in (_flat(then), now))
    if different := first_difference(then, now):
        key, old, new = different
        raise ValueError(
            f"`{key}` must be {old!r}, as in the search that {folder} belongs to "
            f"(or use another directory, where `start_from` learns from its trials). Received: {new!r}"
        )


def _unknown(then, now):
    """Of what makes a search, what an earlier version did not write down: nested dicts, as `_flat` names them."""
    several, objective = "objectives" in now.get("objective", {}), then.get("objective")
    is_older = isinstance(objective, dict) and objective.get("name") == now["objective"]["name"]
    return {"objective.objectives"} if several and is_older and "objectives" not in objective else set()


def _flat(data, prefix=""):
    """Nested dicts as one, with dotted keys."""
    flat = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
