"""Workers in other processes, one child each: they are started, given trials, and replaced when they are lost.

Which processes, a cluster knows: `processes.Machine` or `ray_pool.RayCluster`. It is not trusted with the trials: one
whose worker is lost goes back to the oracle, which counts the attempts. Workers answer with JSON text alone, and only
the process that was started writes files.
"""

import json
import logging
import math
import platform
import queue
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from nasnet_keras import __version__
from nasnet_keras.search.distributed.roles import PATIENCE

logger = logging.getLogger(__name__)

SOON = 10.0  # seconds without a worker, after which that is said
LOOK = 2.0  # seconds between two looks at the cluster's nodes
STARTS = 5  # of workers that fail in a row, after which a place is given up
ACCIDENTS = 3  # trials in a row that meet with accidents on a node, after which it is given up where others have none
INVALID = "INVALID"  # KerasTuner's status of a trial whose run ended in an accident; nothing heavy is loaded here
PAUSE = 60.0  # seconds without a start where so many have failed before they could say on which node


class Gone(Exception):
    """A worker has died; the text says why, in one line."""


class Pool:
    """The workers of a search, a place for `running.run_trials`; a context manager that ends them.

    A worker says on which node it is before it loads anything of the search. One that a node is not fit for keeps its
    place there as long as the node lives, so that no other is started there. One whose child has met with an accident,
    which may be the worker's own, is replaced by another.

    Args:
        cluster: a `processes.Machine` or a `ray_pool.RayCluster`.
        workers: how many there may be; None for as many as the cluster has room for.
        patience: seconds for which there may be none.
        clock: function that gives seconds.
        data: None, or this process's `Data`, which is told of the files that have turned out to be broken elsewhere.

    Raises:
        ConnectionError: no worker can be started anywhere, or there is no room in `patience` seconds.
    """

    def __init__(self, cluster, workers=None, patience=PATIENCE, clock=time.monotonic, data=None):
        self._cluster, self._workers, self._patience, self._clock = cluster, workers, patience, clock
        self._data, self._started, self._lost = data, 0, 0
        # future: name, actor, None or what it has said of itself; name: actor; future: worker, actor, trial
        self._starting, self._idle, self._running = {}, {}, {}
        # node: its room; (node, actor that keeps its place, whether the node itself is unfit); node, None where it is
        # not known: failed starts in a row
        self._room, self._refused, self._failed = {}, [], Counter()
        self._nodes, self._accidents = {}, {}  # worker: its node; node: the trials that met with accidents in a row
        self._looked, self._paused, self._reason = -math.inf, -math.inf, None
        self._without_since, self._has_said, self._trouble = clock(), False, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        places = [*self._starting.values(), *self._running.values(), *self._refused]
        for actor in [*self._idle.values(), *(actor for _, actor, *_ in places)]:
            self._cluster.end(actor)

    def resize(self, wanted):
        """Ask for workers for so many trials, as far as there may be; let those go that nobody needs."""
        now = self._clock()
        if now - self._looked >= LOOK:
            self._looked, self._room = now, self._cluster.room()
            self._forget_nodes()
        self._check_patience(now)
        count = min(wanted, self._workers or max(1, self._places()))
        nowhere = self._refused and self._places() <= 0
        while self._count() < count and now >= self._paused and not nowhere:
            self._started += 1
            name, actor = self._cluster.start(self._started)
            self._starting[self._cluster.ask(actor, "about")] = name, actor, None
        for places in (self._starting, self._idle):
            while places and self._count() > count:
                _, place = places.popitem()
                self._cluster.end(place[1] if places is self._starting else place)

    def free(self):
        """The name of a worker that has nothing to do, or None."""
        return next(iter(self._idle), None)

    def begin(self, worker, trial):
        """Let a free worker have a trial."""
        self._ask(worker, trial, "begin", trial.trial_id, dict(trial.hyperparameters.values))

    def is_busy(self):
        """Whether any worker has a trial."""
        return bool(self._running)

    def events(self, seconds, report):
        """[(worker, trial, event)] of what is new, after at most so many seconds; see `running.run_trials`."""
        futures, events = [*self._starting, *self._running], []
        if not futures:
            time.sleep(seconds)
        for future in self._cluster.ready(futures, seconds) if futures else ():
            if future in self._starting:
                self._greet(future)
                continue
            worker, actor, trial = self._running.pop(future)
            try:
                event = json.loads(self._cluster.answer(future))
            except Gone as error:
                event, self._lost = {"lost": str(error)}, self._lost + 1
            else:
                if "progress" in event:
                    self._idle[worker] = actor
                    self._ask(worker, trial, "go_on", report(trial, event["epoch"], event["progress"]))
                    continue
                if broken := event.pop("broken", None):
                    self._data.note_broken(broken)
            if "lost" in event or event.get("status") == INVALID:
                self._accidents.setdefault(self._nodes.pop(worker), set()).add(trial.trial_id)
                self._cluster.end(actor)
            else:
                self._is_well(self._nodes[worker])
                self._idle[worker] = actor
            events.append((worker, trial, event))
        return events

    def state(self):
        """What there is to see: nodes, workers, how many work, how many are being started, lost runs, and trouble."""
        return {
            "nodes": len(self._room), "workers": len(self._idle) + len(self._running), "working": len(self._running),
            "starting": len(self._starting), "lost": self._lost, "dashboard": self._cluster.dashboard,
            "trouble": self._trouble,
        }  # fmt: skip

    def _count(self):
        return len(self._starting) + len(self._idle) + len(self._running)

    def _ask(self, worker, trial, verb, *words):
        actor = self._idle.pop(worker)
        self._running[self._cluster.ask(actor, verb, *words)] = worker, actor, trial

    def _greet(self, future):
        """Take in a worker that is there, as soon as it has what its trials need; or one that has failed."""
        name, actor, about = self._starting.pop(future)
        try:
            answer = self._cluster.answer(future)
        except Gone as error:
            node, where = (about["node"], f" on {about['host']}") if about else (None, "")
            self._reason, self._failed[node] = str(error), self._failed[node] + 1
            self._warn(f"{name} could not be started{where}: {self._reason}")
            self._cluster.end(actor)
            if self._failed[None] >= STARTS:
                self._paused = self._clock() + PAUSE
        else:
            if about is None:
                self._meet(name, actor, {"node": "", **json.loads(answer)})
                return
            logger.info("%s is there, on %s", name, about["host"])
            for node in (None, about["node"]):
                self._failed.pop(node, None)
            self._take_back(lambda node, unfit: node == about["node"] and not unfit)
            worker = f"{name}-{about['host']}"
            self._idle[worker], self._nodes[worker] = actor, about["node"]

    def _meet(self, name, actor, about):
        """Let a worker load what its trials need, unless its node is not fit for that."""
        node, own = about["node"], _versions()
        wrong = [key for key, value in own.items() if about.get(key) != value]
        given_up = sum(place[0] == node for place in self._refused)
        if "wrong" in about:
            self._reason = f"the node {about['host']} has no nasnet_keras that runs: {about['wrong']}"
        elif wrong:
            received = f"{wrong[0]} {about.get(wrong[0])}"
            self._reason = f"the node {about['host']} has {received}, and the driver {own[wrong[0]]}"
        elif self._is_given_up(node):
            self._reason = f"children on {about['host']} have met with accidents alone, unlike those elsewhere"
        elif self._failed[node] < STARTS * (given_up + 1):
            self._starting[self._cluster.ask(actor, "load")] = name, actor, about
            return
        self._refused.append((node, actor, "wrong" in about or bool(wrong)))
        self._warn(f"{name} on {about['host']} is refused: {self._reason}")

    def _is_well(self, node):
        """A child has ended there as it should."""
        if len(self._accidents.get(node, ())) >= ACCIDENTS:
            self._take_back(lambda other, unfit: other == node and not unfit)
        self._accidents[node] = set()

    def _is_given_up(self, node):
        """Whether children have had accidents alone on a node, and others are well elsewhere or still train there."""
        well = {other for other, trials in self._accidents.items() if not trials}
        well |= {self._nodes[worker] for worker, *_ in self._running.values()} - self._accidents.keys()
        return len(self._accidents.get(node, ())) >= ACCIDENTS and bool(well - {node})

    def _places(self):
        return sum(self._room.values()) - len(self._refused)

    def _forget_nodes(self):
        """Of nodes that live no longer nothing counts: what comes in their place may be fit."""
        self._take_back(lambda node, _: node not in self._room)
        for counts in (self._failed, self._accidents):
            for node in [node for node in counts if node is not None and node not in self._room]:
                del counts[node]

    def _take_back(self, wanted):
        """Places that were given up may be used again, where a function of node and `unfit` says so."""
        for place in [place for place in self._refused if wanted(place[0], place[2])]:
            self._refused.remove(place)
            self._cluster.end(place[1])

    def _warn(self, text):
        self._trouble = text
        logger.warning(text)

    def _check_patience(self, now):
        if self._idle or self._running:
            self._without_since, self._has_said = now, False
            return
        nowhere = self._refused and self._places() <= 0
        if self._failed and (nowhere or (now < self._paused and not self._starting)):
            raise ConnectionError(f"no worker can be started: {self._reason}")
        waited = now - self._without_since
        if waited >= min(SOON, self._patience):
            text = self._reason or self._cluster.lack()
            if waited >= self._patience or nowhere:
                raise ConnectionError(f"there has been no worker for {waited:.0f} s: {text}")
            if not self._has_said:
                self._warn(f"waiting up to {self._patience:.0f} s for a worker: {text}")
                self._has_said = True


class Actor:
    """What a worker does: trains one child after another, and tells what becomes of it as JSON text.

    A child trains in a thread of its own, which waits when it has told an accuracy until it is told to go on.

    Args:
        parts: function of nothing that gives a `running.Children` and a `Data`.
    """

    def __init__(self, parts):
        self._parts, self._children, self._data, self._broken = parts, None, None, {}
        self._trainer, self._events, self._answers = ThreadPoolExecutor(1), queue.SimpleQueue(), queue.SimpleQueue()

    def about(self):
        """What this node has."""
        return json.dumps({**_versions(), "host": socket.gethostname()})

    def load(self):
        """Take what all trials need, which may fail where `about` does not."""
        self._children, self._data = self._parts()
        return "{}"

    def begin(self, trial_id, values):
        """Begin a trial; what comes of it first."""
        self._trainer.submit(self._run, trial_id, values)
        return self._next()

    def go_on(self, stop):
        """Go on, or stop, after an accuracy; what comes next."""
        self._answers.put(stop)
        return self._next()

    def _next(self):
        return json.dumps(self._events.get(), default=float)

    def _report(self, epoch, accuracy):
        self._events.put({"progress": accuracy, "epoch": epoch})
        return self._answers.get()

    def _run(self, trial_id, values):
        from nasnet_keras.search.running import ending

        try:
            event = {"metrics": self._children.run(trial_id, values, self._data, self._report)}
            event |= {"status": "COMPLETED", "message": None}
        except BaseException as error:  # or nobody would ever hear of it
            event = ending(error)
        known, self._broken = self._broken, self._data.found_broken() if hasattr(self._data, "found_broken") else {}
        new = {name: reason for name, reason in self._broken.items() if name not in known}
        self._events.put({**event, "broken": new})


def _versions():
    return {"nasnet_keras": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
