"""The chief of a distributed search: KerasTuner's service around the oracle, with leases.

KerasTuner's chief serves with one thread and waits for ever for a worker that has died. This
one speaks the same protocol (`OracleServicer`), and besides gives each trial out on a lease
that its worker's signs of life renew, refuses workers that would search something else,
logs the errors of the workers, and ends when the work is done.

What KerasTuner's messages have no field for travels in gRPC's metadata: `nasnet-worker` (the
worker's description of its search), `nasnet-tuner` and `nasnet-process` (its name, and what tells
its process from another), `nasnet-beat` (seconds between its signs of life), `nasnet-reason-bin`
(why a trial failed), and back `nasnet-seed`. KerasTuner's plain client sends none: it is served,
but shows no sign of life, and its trials have no time-out.

This way to other machines is superseded by Ray (`search.distributed.ray_pool`) and will be gone in a later release. The
channel has no encryption. It listens on the loopback address unless told otherwise, and elsewhere only for those who
know a secret: whoever can read along learns that, too.
"""

import hmac
import json
import logging
import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc

from nasnet_keras.checks import first_difference
from nasnet_keras.search.distributed.roles import LEASE
from nasnet_keras.search.kerastuner import OracleServicer, Trial, TrialStatus, protos

logger = logging.getLogger(__name__)

THREADS = 64
PATIENCE_OF_PLAIN_CLIENTS = 5.0  # seconds; they ask again at once when told to wait


class Leases:
    """Who has which trial, and until when.

    Args:
        seconds: how long a lease lasts.
        clock: function that gives seconds.
    """

    def __init__(self, seconds, clock=time.monotonic):
        self.seconds, self.clock = seconds, clock
        self._until = {}  # trial_id -> time; None where there is no end
        self._lock = threading.Lock()

    def grant(self, trial_id, forever=False):
        """Begin or renew a lease."""
        with self._lock:
            self._until[trial_id] = None if forever else self.clock() + self.seconds

    def end(self, trial_id):
        """The trial is no longer anybody's."""
        with self._lock:
            self._until.pop(trial_id, None)

    def expired(self):
        """Ids of the trials whose leases have run out; they are ended."""
        with self._lock:
            now = self.clock()
            over = [trial_id for trial_id, until in self._until.items() if until is not None and until < now]
            for trial_id in over:
                del self._until[trial_id]
            return over


class _Foreign(Exception):
    """A worker searches something else; the text says what."""


class _Namesake(_Foreign):
    """A worker has the name of another one that is there."""


class Servicer(OracleServicer):
    """Answers the workers.

    Args:
        oracle: the `NASNetOracle`.
        description: dict of what every worker must have alike, see `NASNetTuner.description`.
        lease: seconds after which a worker that shows no sign of life has lost its trial.
        clock: function that gives seconds.

    Attributes:
        error: an exception that ends the chief, or None.
    """

    def __init__(self, oracle, description, lease, clock=time.monotonic):
        super().__init__(oracle)
        self.description, self.leases = description, Leases(lease, clock)
        self.error = None
        self._clock = clock
        self._seen = {}  # worker -> when it was heard of; those that know that there is no more work are out
        self._processes, self._lock = {}, threading.Lock()  # worker -> (what tells its process, its beat in seconds)
        self._held = set(oracle.open_trials())  # of a chief before this one; their workers may be there still
        self._listeners = {name: getattr(oracle, name) for name in ("on_started", "on_finished")}
        for name, listener in self._listeners.items():
            setattr(oracle, name, listener and self._heard(listener))
        for trial_id in sorted(self._held):
            oracle.hold(trial_id)
            self.leases.grant(trial_id)

    def CreateTrial(self, request, context):
        """Give out a trial, let the worker wait, or tell it that there is no more work."""
        with self._errors_answered(context):
            worker, is_plain = request.tuner_id, self._meet(request.tuner_id, context)
            trial = self.oracle.create_trial(worker)
            if trial.status != TrialStatus.RUNNING:
                if not self.oracle.is_done():
                    trial.status = TrialStatus.IDLE  # somebody's trial may come back
                    if is_plain:
                        time.sleep(PATIENCE_OF_PLAIN_CLIENTS)
                else:
                    with self._lock:
                        self._seen.pop(worker, None)
            else:
                self.leases.grant(trial.trial_id, forever=is_plain)
            context.set_trailing_metadata((("nasnet-seed", str(self.oracle.seed)),))
            return protos.get_service().CreateTrialResponse(trial=trial.to_proto())

    def UpdateTrial(self, request, context):
        """Take metrics."""
        with self._errors_answered(context):
            return super().UpdateTrial(request, context)

    def EndTrial(self, request, context):
        """Take a trial's end, with the reason of a failure."""
        with self._errors_answered(context):
            trial = Trial.from_proto(request.trial)
            told = dict(context.invocation_metadata())
            trial.message = told.get("nasnet-reason-bin", b"").decode("utf-8", "replace") or None
            self._take_in(told.get("nasnet-tuner"), trial.trial_id)
            if trial.status != TrialStatus.COMPLETED:
                worker = told.get("nasnet-tuner", "a worker")
                logger.warning("trial %s failed on %s: %s", trial.trial_id, worker, trial.message or "no reason given")
            self.leases.end(trial.trial_id)
            for worker in self._workers_of(trial.trial_id):  # they will ask for the next
                self._seen[worker] = self._clock()
            self.oracle.end_trial(trial)
            return protos.get_service().EndTrialResponse()

    def GetTrial(self, request, context):
        """Show a trial; a worker that asks for its own shows that it lives."""
        with self._errors_answered(context):
            told = dict(context.invocation_metadata())
            worker = told.get("nasnet-tuner")
            if worker and request.trial_id in self.oracle.open_trials():
                with self._lock:
                    self._seen[worker] = self._clock()
                    self._processes.setdefault(worker, self._process(told))
                self.leases.grant(request.trial_id)
                self._take_in(worker, request.trial_id)
            return super().GetTrial(request, context)

    def sweep(self):
        """Take back what was lost with its worker; true when the work is done and the workers know it or are lost."""
        for trial_id in self.leases.expired():
            logger.warning("trial %s: no sign of life for %.0f s, it is given out again", trial_id, self.leases.seconds)
            self._held.discard(trial_id)
            self.oracle.take_back(trial_id)
        lost = self._clock() - self.leases.seconds
        is_over = self.oracle.is_done() and self.oracle.announce()
        return is_over and all(seen < lost for seen in list(self._seen.values()))

    def _meet(self, worker, context):
        """Refuse a worker of another search, and say whether this is KerasTuner's plain client."""
        metadata = dict(context.invocation_metadata())
        told = metadata.get("nasnet-worker")
        if told is not None:
            told = json.loads(told)
            if not isinstance(told, dict):
                raise ValueError(f"`nasnet-worker` must be a JSON object. Received: {told!r}")
            reason = difference(self.description, told)
            if reason:
                logger.warning("worker %s is refused: %s", worker, reason)
                raise _Foreign(reason)
        process = self._process(metadata)
        with self._lock:
            is_new, (known, beat) = worker not in self._seen, self._processes.get(worker, process)
            is_another = not is_new and None not in (process[0], known) and process[0] != known
            if is_another and self._clock() - self._seen[worker] < 2 * beat:  # one that comes back was silent before
                logger.warning("a second worker that is called %s is refused", worker)
                raise _Namesake(
                    f"another worker is called `{worker}`: give each its own `--name` (or `KERASTUNER_TUNER_ID`)"
                )
            self._seen[worker], self._processes[worker] = self._clock(), process
        if is_new:
            logger.info("worker %s is there", worker)
        return told is None

    def release(self):
        """Give the oracle its listeners back."""
        for name, listener in self._listeners.items():
            setattr(self.oracle, name, listener)

    def _process(self, metadata):
        """What tells a worker's process (None of a plain client), and the seconds between its signs of life."""
        return metadata.get("nasnet-process"), float(metadata.get("nasnet-beat", self.leases.seconds / 8))

    def _take_in(self, worker, trial_id):
        """A trial that an earlier chief gave out is its worker's again, which has shown that it is there."""
        with self._lock:
            if worker is None or trial_id not in self._held:
                return
            self._held.remove(trial_id)
        self.oracle.hold(trial_id, worker)

    def _workers_of(self, trial_id):
        return [worker for worker, trial in list(self.oracle.ongoing_trials.items()) if trial.trial_id == trial_id]

    def _heard(self, listener):
        """The listener; its exception ends the chief, whatever it is and whoever asks meanwhile."""

        def tell(what):
            try:
                listener(what)
            except BaseException as error:
                self.error = error if self.error is None else self.error
                raise

        return tell

    @contextmanager
    def _errors_answered(self, context):
        """An exception of the oracle becomes an answer; one that the search does not survive ends the chief."""
        try:
            yield
        except _Foreign as error:
            is_double = isinstance(error, _Namesake)
            code = grpc.StatusCode.ALREADY_EXISTS if is_double else grpc.StatusCode.FAILED_PRECONDITION
            context.abort(code, f"the chief refuses this worker: {error}")
        except Exception as error:
            if isinstance(error, ValueError) and error is not self.error:  # the worker's fault
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, " ".join(str(error).split()))
            logger.error("the chief ends: %s", error)
            self.error = error if self.error is None else self.error
            context.abort(grpc.StatusCode.ABORTED, f"the chief ends: {error}")


class SecretAsked(grpc.ServerInterceptor):
    """Answers only those who know the secret, whatever they ask for.

    Args:
        secret: bytes.
    """

    def __init__(self, secret):
        self._secret = secret
        self._refuse = grpc.unary_unary_rpc_method_handler(self._refusal)

    def intercept_service(self, continuation, handler_call_details):
        """The handler of a call, or one that refuses it."""
        told = dict(handler_call_details.invocation_metadata).get("nasnet-secret-bin", b"")
        return continuation(handler_call_details) if hmac.compare_digest(told, self._secret) else self._refuse

    def _refusal(self, request, context):
        has_one = "nasnet-secret-bin" in dict(context.invocation_metadata())
        logger.warning("%s is refused: it has %s", context.peer(), "another secret" if has_one else "no secret")
        reason = "`secret` must be the file that the chief has. Received: " + ("another one" if has_one else "none")
        context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)


def difference(expected, received):
    """The first respect in which a worker's description differs from the chief's, as a sentence, or None."""
    whatever = {key for key, value in expected.items() if value is None}  # the chief's own data tell nothing
    told = [key for key in {**expected, **received} if received.get(key) is not None and key not in whatever]
    if different := first_difference(expected, received, told):
        key, one, other = different
        return f"`{key}` must be {json.dumps(one)}. Received: {json.dumps(other)}"
    return None


def serve(oracle, role, description, lease=LEASE, *, on_ready=None, every=0.2, clock=time.monotonic):
    """Give out trials until the search is done.

    Args:
        oracle: the `NASNetOracle`, with its folder.
        role: the chief's `Role`.
        description: see `Servicer`.
        lease: see `Servicer`.
        on_ready: called with the port once workers may come.
        every: seconds between two looks at the leases.
        clock: see `Servicer`.

    Raises:
        ValueError: the address cannot be used, or only with a secret; or the folder belongs to another search.
        OSError: the disk is full; everything up to then is saved.
        RuntimeError: too many failures in a row.
    """
    role.check_secret()
    servicer = Servicer(oracle, json.loads(json.dumps(description)), lease, clock)
    # Without this a second chief would share the port, and each get half of the workers' calls.
    options = (("grpc.so_reuseport", 0),)
    interceptors = [SecretAsked(role.secret)] if role.secret else []
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), interceptors=interceptors, options=options)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(role.address)
    except RuntimeError:
        port = 0
    if not port:
        servicer.release()
        raise ValueError(f"`port` must be free on this machine, for the chief. Received: {role.address}, which is not")
    server.start()
    try:
        if on_ready:
            on_ready(port)
        while servicer.error is None and not servicer.sweep():
            time.sleep(every)
        if servicer.error is not None:
            raise servicer.error
    finally:
        server.stop(grace=1).wait()
        servicer.release()
