"""A search whose children run on a Ray cluster, as an elastic `pool.Pool` of actors.

The driver, the process that was started, has the oracle, the logs and the rules. An actor has the resources of one
child. Ray finds the places, starts actors on nodes that join and asks its autoscaler for more.

Ray itself authenticates nobody by default: whoever reaches a cluster's ports runs code there.
"""

import logging
import math
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec

from nasnet_keras.checks import check_integer, check_positive, is_number, take_integers, take_numbers
from nasnet_keras.search.distributed.pool import Gone, Pool
from nasnet_keras.search.distributed.processes import Machine, environment_of_child, known_cluster
from nasnet_keras.search.distributed.roles import PATIENCE

SCHEME = "ray"
ANSWER = 15.0  # seconds within which a cluster has to answer


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
    patience: float = PATIENCE

    def __post_init__(self):
        host, _, port = (self.address or "auto").rpartition(":")
        if self.address not in (None, "auto") and not (host and port.isascii() and port.isdigit()):
            raise ValueError(f"`engine` must be here, ray or ray://HOST:PORT. Received: ray://{self.address}")
        take_integers(self, "workers")
        take_numbers(self, "cpus", "gpus", "patience")
        check_integer("workers", self.workers, 1, optional=True)
        check_positive("cpus", self.cpus, finite=True)
        if not is_number(self.gpus) or not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"`gpus` must be a fraction of one, or a whole number from 0. Received: {self.gpus!r}")
        check_positive("patience", self.patience, "seconds")

    def check_installed(self):
        """Raise `ValueError` if Ray is not there."""
        if find_spec("ray") is None:
            raise ValueError("`ray` is not installed: pip install nasnet_keras[ray]")

    @contextmanager
    def place(self, children, data):
        """A `pool.Pool` for a search, see `RayCluster`; OSError if no cluster answers."""
        with _connected(self) as (ray, dashboard):
            cluster = RayCluster(ray, self, children, data, dashboard)
            with Pool(cluster, self.workers, self.patience, data=data) as pool:
                yield pool


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


def place_of(engine, workers, logs, patience):
    """Where children run by the `engine` and the `workers` of `tuner.search`; None for this process.

    Args:
        engine: as for `engine_of`.
        workers: children at a time, or None.
        logs: `Path` of the folder where processes of this machine write a log each.
        patience: of a cluster that the engine names.
    """
    engine = engine_of(engine, patience=patience)
    if workers is None:
        return engine
    if engine is None:
        return Machine(workers, logs)
    check_integer("workers", workers, least=1)
    return replace(engine, workers=workers)


class RayCluster:
    """A Ray cluster as a `pool.Pool` sees it.

    Args:
        ray: the module, connected.
        engine: an `Engine`.
        children: a `running.Children`.
        data: a `Data`, which every node gets once: decoded images, or the paths of files that lie there, too.
        dashboard: address of Ray's own page, or None.
    """

    def __init__(self, ray, engine, children, data, dashboard=None):
        self._ray, self._engine, self.dashboard = ray, engine, dashboard
        # As references in a list, so that an actor says where it is before anything is imported for them.
        parts = (
            [ray.put(children), ray.put(data)],
            environment_of_child(engine.cpus, engine.gpus, children.backend),
        )
        options = {"num_cpus": engine.cpus, "num_gpus": engine.gpus, "max_restarts": 0}
        kind = ray.remote(_actor()).options(**options)
        self._new = lambda: kind.remote(*parts)

    def start(self, number):
        """The name of a new worker, and its actor."""
        return f"ray-{number}", self._new()

    def ask(self, actor, verb, *words):
        """A future of what an actor answers."""
        return getattr(actor, verb).remote(*words)

    def ready(self, futures, seconds):
        """The futures that have an answer, after at most so many seconds."""
        ready, rest = self._ray.wait(futures, num_returns=1, timeout=seconds)
        return ready + (self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if rest else [])

    def answer(self, future):
        """The answer; raises `pool.Gone` of an actor that has died."""
        try:
            return self._ray.get(future)
        except self._ray.exceptions.RayError as error:
            raise Gone(_line(error)) from None

    def end(self, actor):
        """Give an actor's resources back."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)

    def room(self):
        """{node: how many children it has room for, whatever else it does}, of the nodes that live."""
        cpus, gpus = self._engine.cpus, self._engine.gpus
        nodes = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        room = {node: _times(has.get("CPU", 0), cpus) for node, has in nodes.items()}
        if not gpus:
            return room
        # A fraction lies on one GPU: what is left of two of them is nobody's.
        each, need = (_times(1, gpus), 1) if gpus < 1 else (1, gpus)
        return {node: min(room[node], each * _times(has.get("GPU", 0), need)) for node, has in nodes.items()}

    def lack(self):
        """Why there may be no worker."""
        has, needs = self._ray.cluster_resources(), f"{self._engine.cpus:g} CPUs and {self._engine.gpus:g} GPUs"
        return f"a child needs {needs}, and the cluster has {has.get('CPU', 0):g} and {has.get('GPU', 0):g} in all"


def _times(has, need):
    """How often a need fits into what there is."""
    return int(has / need + 1e-6)


def _actor():
    """The class of a `pool.Actor` on a node: of no module, so that it travels itself, and a node can say what it lacks.

    It takes references of the `Children` and the `Data`, and what is set before any framework is imported.
    """

    class RayActor:
        def __init__(self, parts, environment):
            self._parts, self._environment = parts, environment

        def about(self):
            import json
            import socket

            import ray

            node = {"node": ray.get_runtime_context().get_node_id(), "host": socket.gethostname()}
            try:
                from nasnet_keras.search.distributed.pool import Actor
                from nasnet_keras.search.distributed.processes import take_environment

                take_environment(self._environment)
                self._actor = Actor(lambda: ray.get(self._parts))
                return json.dumps({**json.loads(self._actor.about()), **node})
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                return json.dumps({**node, "wrong": reason[:300]})

        def load(self):
            return self._actor.load()

        def begin(self, *words):
            return self._actor.begin(*words)

        def go_on(self, *words):
            return self._actor.go_on(*words)

    return RayActor


@contextmanager
def _connected(engine):
    """The module `ray`, connected, and the address of its page; a cluster that it was connected to before stays so."""
    engine.check_installed()
    address = engine.address or known_cluster()
    if address.rpartition(":")[2].isdigit():
        plain = address.removeprefix("ray://")
        address = f"ray://{plain}" if _is_client_server(plain) else plain
    import ray

    if ray.is_initialized():
        if engine.address:
            rule = "'ray' where this process is connected to a cluster already, or call ray.shutdown() first"
            raise ValueError(f"`engine` must be {rule}. Received: ray://{engine.address}")
        yield ray, None
        return
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster at {engine.address or 'RAY_ADDRESS'}: {_line(error)}") from None
    url = getattr(context, "dashboard_url", None)  # empty without the dashboard, which `ray[default]` brings
    try:
        yield ray, f"http://{url}" if url else None
    finally:
        ray.shutdown()


def _is_client_server(address):
    """Whether Ray's client server answers there, and not a cluster's control store; raises `ConnectionError`."""
    import grpc

    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")(b"", timeout=ANSWER)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(f"no Ray cluster answers at {address}") from None
            return error.code() != grpc.StatusCode.UNIMPLEMENTED
    return True


def _line(error):
    """An error of Ray's in one line: what has happened, and the last line, which often says why."""
    text = re.sub(r"\x1b\[\d+m", "", str(getattr(error, "cause", None) or error))  # Ray's are in colours
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(" ".join([*lines[:1], *lines[1:][-1:]]).split())[:500] or type(error).__name__
