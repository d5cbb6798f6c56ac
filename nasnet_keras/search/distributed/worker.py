"""The worker of a distributed search: KerasTuner's client, with patience and signs of life."""

import json
import logging
import os
import secrets
import threading
import time
from contextlib import suppress

import grpc
import keras_tuner

from nasnet_keras.search.distributed.roles import PATIENCE
from nasnet_keras.search.kerastuner import OracleClient, Trial, TrialStatus, protos

logger = logging.getLogger(__name__)

TOKEN = secrets.token_hex(8)  # what tells this process, with its number, from another one of the same name
REASON_BYTES = 4000  # of a traceback, its end; gRPC takes 8 kB of metadata in all
# A chief that comes back is found within a second or two, not after gRPC's two minutes; it is no page of the web.
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
)
SOON = 2.0  # seconds after which a worker says that it waits
REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
)
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class ChiefGone(ConnectionError, keras_tuner.errors.FatalError):
    """No chief answers; KerasTuner's loop does not take it for the failure of a trial."""


class Refused(ValueError, keras_tuner.errors.FatalError):
    """The chief does not want this worker, or what it says."""


def await_chief(role, patience=PATIENCE):
    """Return once a chief is there, and say for whom this waits if that takes longer.

    Raises:
        ChiefGone: after `patience` seconds.
        ValueError: the chief is on another machine, and there is no secret.
    """
    role.check_secret()
    with grpc.insecure_channel(role.address, options=OPTIONS) as channel:
        ready, soon = grpc.channel_ready_future(channel), min(SOON, patience)
        try:
            ready.result(timeout=soon)
        except grpc.FutureTimeoutError:
            if patience <= soon:
                raise _gone(role, patience) from None
            logger.warning("%s waits up to %.0f s for a chief at %s", role.tuner_id, patience, role.address)
            try:
                ready.result(timeout=patience - soon)
            except grpc.FutureTimeoutError:
                raise _gone(role, patience) from None


def _gone(role, patience):
    return ChiefGone(
        f"no chief answers at {role.address}, for {patience:.0f} s. Start it first, with the same address; if it has "
        "finished, there is nothing left to do"
    )


class NameTaken(Refused):
    """Another process has this worker's name."""


class Client(OracleClient):
    """Stands for the chief's oracle in a worker.

    Args:
        oracle: this process's own `NASNetOracle`; only its settings are used.
        role: the worker's `Role`.
        description: what the chief must have alike, see `NASNetTuner.description`.
        patience: seconds for which a chief may be silent, so that one that died can be started again.
        beat: seconds between signs of life.

    Attributes:
        seed: of the search; the chief's once the first trial is there.
        space, rules: as the oracle's.
    """

    def __init__(self, oracle, role, description, patience=PATIENCE, beat=10.0):
        role.check_secret()
        self._oracle, self._role = oracle, role
        self.space, self.rules, self.seed = oracle.space, oracle.rules, oracle.seed
        self.tuner_id = role.tuner_id
        self.multi_worker, self.should_report = False, True  # KerasTuner's, for clusters that train one model together
        self._patience, self._beat = patience, beat
        self._channel = grpc.insecure_channel(role.address, options=OPTIONS)
        self.stub = protos.get_service_grpc().OracleStub(self._channel)
        self._description, self._process = json.dumps(description), f"{os.getpid()}-{TOKEN}"
        self._working = threading.Event()

    def create_trial(self, tuner_id):
        """The next trial; waits while all are with other workers, and once until one of this name may be known dead."""
        request, has_waited = protos.get_service().CreateTrialRequest(tuner_id=tuner_id), False
        while True:
            try:
                response, call = self._call("CreateTrial", request, ("nasnet-worker", self._description))
            except NameTaken as error:
                if has_waited:
                    raise
                has_waited, pause = True, 2.5 * self._beat
                logger.warning("%s; in case that it was this one and has ended, asked again in %.0f s", error, pause)
                time.sleep(pause)
                continue
            trial = Trial.from_proto(response.trial)
            if trial.status != TrialStatus.IDLE:
                break
            time.sleep(min(1.0, self._beat))
        self.seed = int(dict(call.trailing_metadata()).get("nasnet-seed", self.seed))
        if trial.status == TrialStatus.RUNNING:
            self._working = threading.Event()
            threading.Thread(target=self._show_life, args=(trial.trial_id, self._working), daemon=True).start()
        else:
            self._channel.close()
        return trial

    def get_trial(self, trial_id):
        """A trial as the chief sees it."""
        response, _ = self._call("GetTrial", protos.get_service().GetTrialRequest(trial_id=trial_id))
        return Trial.from_proto(response.trial)

    def update_trial(self, trial_id, metrics, step=0):
        """Report metrics; see `NASNetOracle.update_trial`."""
        request = protos.get_service().UpdateTrialRequest(trial_id=trial_id, metrics=metrics, step=step)
        return Trial.from_proto(self._call("UpdateTrial", request)[0].trial)

    def end_trial(self, trial):
        """Report a trial's end, with the end of its error's text."""
        self._working.set()
        reason = (trial.message or "").encode()[-REASON_BYTES:]
        request = protos.get_service().EndTrialRequest(trial=trial.to_proto())
        self._call("EndTrial", request, ("nasnet-reason-bin", reason))

    def get_best_trials(self, num_trials=1):
        """The chief's best trials."""
        request = protos.get_service().GetBestTrialsRequest(num_trials=num_trials)
        return [Trial.from_proto(trial) for trial in self._call("GetBestTrials", request)[0].trials]

    def close(self):
        """Show no sign of life any more: a search that was interrupted keeps no trial."""
        self._working.set()
        self._channel.close()

    def _show_life(self, trial_id, done):
        request = protos.get_service().GetTrialRequest(trial_id=trial_id)
        while not done.wait(self._beat):
            with suppress(grpc.RpcError, TypeError, ValueError):  # a chief that is away may come back; a closed channel
                self.stub.GetTrial(request, metadata=self._metadata(), timeout=self._beat)

    def _metadata(self, *further):
        secret = (("nasnet-secret-bin", self._role.secret),) if self._role.secret else ()
        own = ("nasnet-tuner", self.tuner_id), ("nasnet-process", self._process), ("nasnet-beat", str(self._beat))
        return (*own, *secret, *further)

    def _call(self, verb, request, *metadata):
        """The answer and the call; tries again while the chief is away."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return getattr(self.stub, verb).with_call(
                    request,
                    metadata=self._metadata(*metadata),
                    timeout=max(0.1, until - time.monotonic()),
                    wait_for_ready=True,
                )
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.ALREADY_EXISTS:
                    raise NameTaken(error.details()) from None
                if error.code() in REFUSALS:
                    raise Refused(error.details()) from None
                if error.code() not in GONE:
                    raise ChiefGone(f"the chief at {self._role.address} failed: {error.details()}") from None
                if time.monotonic() >= until:
                    raise _gone(self._role, self._patience) from None
            except (TypeError, ValueError) as error:
                # gRPC's words may hold all that it was to send, the secret among it: they are not passed on.
                kind = type(error).__name__
                raise Refused(f"gRPC does not send {verb} to the chief at {self._role.address}: {kind}") from None
            time.sleep(0.1)
