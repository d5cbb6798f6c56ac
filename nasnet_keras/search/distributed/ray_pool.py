"""A search whose children run on a Ray cluster, as an elastic pool of actors.

The driver, the process that was started, has the oracle, the logs and the rules, and writes all files. An actor has the
resources of one child, takes a trial's values, and answers with JSON text: accuracies while the child trains, where a
rule wants them, and its metrics or its failure at the end. Ray finds the places, starts actors on nodes that join and
asks its autoscaler for more. It is not trusted with the trials: one whose actor or node is lost goes back to the
oracle, which counts the attempts.

Ray itself authenticates nobody by default: whoever reaches a cluster's ports runs code there.
"""

import json
import logging
import math
import platform
import queue
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec

from nasnet_keras import __version__
from nasnet_keras.checks import check_integer, check_positive, is_number
from nasnet_keras.search.distributed.processes import environment_of_child, known_cluster, take_environment

logger = logging.getLogger(__name__)

SCHEME = "ray"
ANSWER = 15.0  # seconds within which a cluster has to answer
SOON = 10.0  # seconds without a worker, after which that is said
LOOK = 2.0  # seconds between two looks at the cluster's nodes
STARTS = 5  # of workers that fail in a row before any has worked


@dataclass(frozen=True)
class Engine:
    """A Ray cluster and what of it children get.

    Args:
        address: None, the cluster that RAY_ADDRESS names or else one of this machine's own; `"auto"`, the one that runs
            on this machine; or HOST:PORT of a cluster or of its client server.
        workers: children at a time; None for as many as the nodes have room for, which is looked at again and again.
            An autoscaler is asked for nodes for so many.
        cpus, gpus: of each child, and so of its actor; several children share a GPU by fractions.
        patience: seconds for which the cluster may have no worker.

    Raises:
        ValueError: naming the argument at fault.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    patience: float = 600.0

    def __post_init__(self):
        host, _, port = (self.address or "auto").rpartition(":")
        if self.address not in (None, "auto") and not (host and port.isascii() and port.isdigit()):
            raise ValueError(f"`engine` must be here, ray or ray://HOST:PORT. Received: ray://{self.address}")
        check_integer("workers", self.workers, 1, optional=True)
        check_positive("cpus", self.cpus, finite=True)
        if not is_number(self.gpus) or not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"`gpus` must be a fraction of one, or a whole number from 0. Received: {self.gpus!r}")
        check_positive("patience", self.patience, "seconds")

    def check_installed(self):
        """Raise `ValueError` if Ray is not there."""
        if find_spec("ray") is None:
            raise ValueError("`ray` is not installed: pip install nasnet_keras[ray]")


def engine_of(text, **further):
    """The `Engine` that `ray` or `ray://ADDRESS` names, None for `here`.

    Args:
        text: the name; or an `Engine`, or None for `here`.
        **further: arguments of `Engine`.

    Raises:
        ValueError: another name.
    """
    if text is None or text == "here":
        return None
    if isinstance(text, Engine):
        return text
    scheme, separator, address = str(text).partition("://")
    if scheme != SCHEME or bool(separator) != bool(address):
        raise ValueError(f"`engine` must be here, ray or ray://HOST:PORT. Received: {text!r}")
    return Engine(address or None, **further)


def search_on(engine, oracle, children, data, clock=time.monotonic):
    """Propose, place, finish, until the search is done.

    Args:
        engine: an `Engine`.
        oracle: the `NASNetOracle`, with its folder.
        children: a `running.Children`.
        data: a `Data`, which every node gets once: decoded images, or the paths of files that lie there, too.
        clock: function that gives seconds.

    Raises:
        ValueError: Ray is not installed, or its nodes have another version of this package.
        OSError: no cluster answers, or it has no room in `patience` seconds; or the disk is full. All is saved.
        RuntimeError: too many failures in a row.
    """
    with _connected(engine) as ray, Pool(ray, engine, children, data, clock) as pool:
        while not oracle.is_done():
            left = oracle.remaining_trials()
            pool.resize(math.inf if left is None else left + len(oracle.open_trials()))
            while (worker := pool.free()) and (trial := oracle.create_trial(worker)).status == "RUNNING":
                pool.begin(worker, trial)
            for worker, trial, event in pool.events(1.0):
                _take(oracle, pool, worker, trial, event)


def _take(oracle, pool, worker, trial, event):
    """What an actor says of its trial, or that it is lost."""
    if "lost" in event:
        logger.warning("trial %s is lost with %s and given out again: %s", trial.trial_id, worker, event["lost"])
        oracle.get_trial(trial.trial_id).message = f"lost with its worker: {event['lost']}"
        oracle.take_back(trial.trial_id)
    elif "progress" in event:
        seen = oracle.update_trial(trial.trial_id, {"progress": event["progress"]}, event["epoch"])
        pool.go_on(worker, trial, seen.status == "STOPPED")
    else:
        trial.status, trial.message = event["status"], event["message"]
        if trial.status == "COMPLETED":
            try:
                oracle.update_trial(trial.trial_id, event["metrics"])
            except ValueError as error:  # it brought no reward
                trial.status, trial.message = "INVALID", str(error)
        if trial.status != "COMPLETED":
            logger.warning("trial %s failed on %s: %s", trial.trial_id, worker, trial.message)
        oracle.end_trial(trial)


class Pool:
    """The actors of a search; a context manager that ends them.

    Args:
        ray: the module, connected.
        engine, children, data, clock: as for `search_on`.
    """

    def __init__(self, ray, engine, children, data, clock=time.monotonic):
        self._ray, self._engine, self._clock = ray, engine, clock
        # As references in a list, so that an actor sets its environment before anything is imported for them.
        self._parts = [ray.put(children), ray.put(data)]
        self._environment = environment_of_child(engine.cpus, engine.gpus)
        self._starting, self._idle, self._running = {}, {}, {}  # future: name, actor; name: actor; future: …, trial
        self._refused, self._reason, self._failed_starts, self._started = [], None, 0, 0
        self._room, self._looked = 1, -math.inf
        self._without_since, self._has_said = clock(), False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        running = [actor for _, actor, _ in self._running.values()]
        for actor in [*self._idle.values(), *(actor for _, actor in self._starting.values()), *running, *self._refused]:
            self._end(actor)

    def resize(self, wanted):
        """Ask for workers for so many trials, as far as there may be; let those go that nobody needs."""
        now = self._clock()
        if now - self._looked >= LOOK:
            self._looked, self._room = now, self._look()
        count = min(wanted, self._engine.workers or max(1, self._room - len(self._refused)))
        while len(self._starting) + len(self._idle) + len(self._running) < count:
            self._start()
        for places in (self._starting, self._idle):
            while places and len(self._starting) + len(self._idle) + len(self._running) > count:
                _, place = places.popitem()
                self._end(place[1] if places is self._starting else place)
        self._check_patience(now)

    def free(self):
        """The name of a worker that has nothing to do, or None."""
        return next(iter(self._idle), None)

    def begin(self, worker, trial):
        """Let a free worker have a trial."""
        actor = self._idle.pop(worker)
        future = actor.begin.remote(trial.trial_id, dict(trial.hyperparameters.values))
        self._running[future] = worker, actor, trial

    def go_on(self, worker, trial, stop):
        """Answer a worker that has told an accuracy."""
        actor = self._idle.pop(worker)
        self._running[actor.go_on.remote(stop)] = worker, actor, trial

    def events(self, seconds):
        """[(worker, trial, event)] of what is new, after at most so many seconds.

        An event has `lost`, the reason; or `progress` and `epoch`, and the worker waits for `go_on`; or `status`,
        `message` and `metrics`, and the worker is free.
        """
        futures, events = [*self._starting, *self._running], []
        if not futures:
            time.sleep(seconds)
            return []
        ready, rest = self._ray.wait(futures, num_returns=1, timeout=seconds)
        ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if rest else []
        for future in ready:
            if future in self._starting:
                self._greet(future)
                continue
            worker, actor, trial = self._running.pop(future)
            try:
                event = json.loads(self._ray.get(future))
                self._idle[worker] = actor
            except self._ray.exceptions.RayError as error:
                event = {"lost": _line(error)}
                self._end(actor)
            events.append((worker, trial, event))
        return events

    def _start(self):
        self._started += 1
        options = {"num_cpus": self._engine.cpus, "num_gpus": self._engine.gpus, "max_restarts": 0}
        actor = self._ray.remote(Actor).options(**options).remote(self._parts, self._environment)
        self._starting[actor.about.remote()] = f"ray-{self._started}", actor

    def _greet(self, future):
        """Take in an actor that is there, or has failed to be."""
        name, actor = self._starting.pop(future)
        try:
            about = json.loads(self._ray.get(future))
        except self._ray.exceptions.RayError as error:
            self._reason, self._failed_starts = _line(error), self._failed_starts + 1
            logger.warning("%s could not be started: %s", name, self._reason)
            self._end(actor)
            if self._failed_starts >= STARTS:
                raise ConnectionError(f"no worker can be started on the cluster: {self._reason}") from None
            return
        here = {"nasnet_keras": __version__, "Python": _python()}
        wrong = [key for key, value in here.items() if about[key] != value]
        if wrong:
            # It keeps its place, so that no other is started there.
            self._refused.append(actor)
            self._reason = f"the node {about['host']} has {wrong[0]} {about[wrong[0]]}, and the driver {here[wrong[0]]}"
            logger.warning("%s is refused: %s", name, self._reason)
            return
        self._failed_starts = -math.inf
        self._idle[f"{name}-{about['host']}"] = actor

    def _look(self):
        """How many children the nodes that are there have room for, whatever else they do."""
        places = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                needs = (("CPU", self._engine.cpus), ("GPU", self._engine.gpus))
                places += min(int(has.get(name, 0) / need + 1e-6) for name, need in needs if need)
        return places

    def _check_patience(self, now):
        if self._idle or self._running:
            self._without_since, self._has_said = now, False
            return
        waited = now - self._without_since
        if waited >= min(SOON, self._engine.patience):
            text = (
                self._reason
                or f"a child needs {self._engine.cpus:g} CPUs and {self._engine.gpus:g} GPUs, {self._has()}"
            )
            if waited >= self._engine.patience or (self._refused and len(self._refused) >= self._room):
                raise ConnectionError(f"the cluster has had no worker for {waited:.0f} s: {text}")
            if not self._has_said:
                logger.warning("waiting up to %.0f s for a first worker: %s", self._engine.patience, text)
                self._has_said = True

    def _has(self):
        has = self._ray.cluster_resources()
        return f"and the cluster has {has.get('CPU', 0):g} and {has.get('GPU', 0):g} in all"

    def _end(self, actor):
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)


class Actor:
    """A worker on a node: trains one child after another, and tells what becomes of it as JSON text.

    A child trains in a thread of its own, which waits when it has told an accuracy until it is told to go on.

    Args:
        parts: references of the `Children` and the `Data`.
        environment: set before any framework is imported.
    """

    def __init__(self, parts, environment):
        take_environment(environment)
        import ray

        self._children, self._data = ray.get(parts)
        self._trainer, self._events, self._answers = ThreadPoolExecutor(1), queue.SimpleQueue(), queue.SimpleQueue()

    def about(self):
        """What this node has."""
        return json.dumps({"nasnet_keras": __version__, "Python": _python(), "host": socket.gethostname()})

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


@contextmanager
def _connected(engine):
    """The module `ray`, connected; disconnected afterwards unless it was before, which is then the cluster."""
    engine.check_installed()
    address = engine.address or known_cluster()
    if engine.address not in (None, "auto"):
        address = f"ray://{address}" if _is_client_server(address) else address
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster at {engine.address or 'RAY_ADDRESS'}: {_line(error)}") from None
    if url := getattr(context, "dashboard_url", None):
        logger.info("Ray's dashboard: http://%s", url)
    try:
        yield ray
    finally:
        ray.shutdown()


def _is_client_server(address):
    """Whether Ray's client server answers there, and not a cluster's control store; raises `ConnectionError`."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")(b"", timeout=ANSWER)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(f"no Ray cluster answers at {address}") from None
            return error.code() != grpc.StatusCode.UNIMPLEMENTED
    return True


def _python():
    return ".".join(platform.python_version_tuple()[:2])  # Ray itself asks for the same


def _line(error):
    """An error of Ray's in one line: what has happened, and the last line, which often says why."""
    text = re.sub(r"\x1b\[\d+m", "", str(getattr(error, "cause", None) or error))  # Ray's are in colours
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(" ".join([*lines[:1], *lines[1:][-1:]]).split())[:500] or type(error).__name__
