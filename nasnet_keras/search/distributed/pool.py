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
from concurrent.futures import ThreadPoolExecutor

from nasnet_keras import __version__

logger = logging.getLogger(__name__)

SOON = 10.0  # seconds without a worker, after which that is said
LOOK = 2.0  # seconds between two looks at the cluster's nodes
STARTS = 5  # of workers that fail in a row before any has worked


class Gone(Exception):
    """A worker has died; the text says why, in one line."""


class Pool:
    """The workers of a search, a place for `running.run_trials`; a context manager that ends them.

    Args:
        cluster: a `processes.Machine` or a `ray_pool.RayCluster`.
        workers: how many there may be; None for as many as the cluster has room for.
        patience: seconds for which there may be none.
        clock: function that gives seconds.

    Raises:
        ConnectionError: no worker can be started, or there is no room in `patience` seconds.
    """

    def __init__(self, cluster, workers=None, patience=600.0, clock=time.monotonic):
        self._cluster, self._workers, self._patience, self._clock = cluster, workers, patience, clock
        self._starting, self._idle, self._running = {}, {}, {}  # future: name, actor; name: actor; future: …, trial
        self._refused, self._reason, self._failed_starts, self._started, self._lost = [], None, 0, 0, 0
        self._nodes, self._room, self._looked = 0, 1, -math.inf
        self._without_since, self._has_said, self._trouble = clock(), False, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        running = [actor for _, actor, _ in self._running.values()]
        for actor in [*self._idle.values(), *(actor for _, actor in self._starting.values()), *running, *self._refused]:
            self._cluster.end(actor)

    def resize(self, wanted):
        """Ask for workers for so many trials, as far as there may be; let those go that nobody needs."""
        now = self._clock()
        if now - self._looked >= LOOK:
            self._looked, (self._nodes, self._room) = now, self._cluster.room()
        count = min(wanted, self._workers or max(1, self._room - len(self._refused)))
        while self._count() < count:
            self._started += 1
            name, actor = self._cluster.start(self._started)
            self._starting[self._cluster.ask(actor, "about")] = name, actor
        for places in (self._starting, self._idle):
            while places and self._count() > count:
                _, place = places.popitem()
                self._cluster.end(place[1] if places is self._starting else place)
        self._check_patience(now)

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
                self._cluster.end(actor)
            else:
                self._idle[worker] = actor
                if "progress" in event:
                    self._ask(worker, trial, "go_on", report(trial, event["epoch"], event["progress"]))
                    continue
            events.append((worker, trial, event))
        return events

    def state(self):
        """What there is to see: nodes, workers, how many work, how many are being started, lost runs, and trouble."""
        return {
            "nodes": self._nodes, "workers": len(self._idle) + len(self._running), "working": len(self._running),
            "starting": len(self._starting), "lost": self._lost, "dashboard": self._cluster.dashboard,
            "trouble": self._trouble,
        }  # fmt: skip

    def _count(self):
        return len(self._starting) + len(self._idle) + len(self._running)

    def _ask(self, worker, trial, verb, *words):
        actor = self._idle.pop(worker)
        self._running[self._cluster.ask(actor, verb, *words)] = worker, actor, trial

    def _greet(self, future):
        """Take in a worker that is there, or has failed to be."""
        name, actor = self._starting.pop(future)
        try:
            about = json.loads(self._cluster.answer(future))
        except Gone as error:
            self._reason, self._failed_starts = str(error), self._failed_starts + 1
            self._warn(f"{name} could not be started: {self._reason}")
            self._cluster.end(actor)
            if self._failed_starts >= STARTS:
                raise ConnectionError(f"no worker can be started: {self._reason}") from None
            return
        wrong = [key for key, value in _versions().items() if about[key] != value]
        if wrong:
            # It keeps its place, so that no other is started there.
            self._refused.append(actor)
            own = _versions()[wrong[0]]
            self._reason = f"the node {about['host']} has {wrong[0]} {about[wrong[0]]}, and the driver {own}"
            self._warn(f"{name} is refused: {self._reason}")
            return
        logger.info("%s is there, on %s", name, about["host"])
        self._failed_starts = -math.inf
        self._idle[f"{name}-{about['host']}"] = actor

    def _warn(self, text):
        self._trouble = text
        logger.warning(text)

    def _check_patience(self, now):
        if self._idle or self._running:
            self._without_since, self._has_said = now, False
            return
        waited = now - self._without_since
        if waited >= min(SOON, self._patience):
            text = self._reason or self._cluster.lack()
            if waited >= self._patience or (self._refused and len(self._refused) >= self._room):
                raise ConnectionError(f"there has been no worker for {waited:.0f} s: {text}")
            if not self._has_said:
                self._warn(f"waiting up to {self._patience:.0f} s for a worker: {text}")
                self._has_said = True


class Actor:
    """What a worker does: trains one child after another, and tells what becomes of it as JSON text.

    A child trains in a thread of its own, which waits when it has told an accuracy until it is told to go on.

    Args:
        children: a `running.Children`.
        data: a `Data`.
    """

    def __init__(self, children, data):
        self._children, self._data = children, data
        self._trainer, self._events, self._answers = ThreadPoolExecutor(1), queue.SimpleQueue(), queue.SimpleQueue()

    def about(self):
        """What this node has."""
        return json.dumps({**_versions(), "host": socket.gethostname()})

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
        from nasnet_keras.search.running import failure

        try:
            metrics = self._children.run(trial_id, values, self._data, self._report)
            self._events.put({"status": "COMPLETED", "message": None, "metrics": metrics})
        except BaseException as error:  # or nobody would ever hear of it
            status, message = failure(error)
            self._events.put({"status": status, "message": message, "metrics": {}})


def _versions():
    return {"nasnet_keras": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
