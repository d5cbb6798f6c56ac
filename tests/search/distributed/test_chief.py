"""A chief and its workers on the loopback: every trial done once, whoever dies, comes late or does not belong."""

import json
import os
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from types import SimpleNamespace

import grpc
import pytest
from free_children import Data, Free, as_another_process
from keras_tuner.engine.trial import Trial
from keras_tuner.src import protos

from nasnet_keras.files import read_secret
from nasnet_keras.search.distributed import worker as worker_module
from nasnet_keras.search.distributed.chief import Leases, Servicer, difference, serve
from nasnet_keras.search.distributed.roles import Role, current_role, data_description
from nasnet_keras.search.distributed.worker import ChiefGone, Client, Refused, await_chief
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import MedianStop, Replay
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.trials import log
from nasnet_keras.search.trials import state as state_module
from nasnet_keras.search.tuner import NASNetTuner

SPACE = SearchSpace(blocks=1)
TRACEBACK = "Traceback …\n" + '  File "a.py", line 1, in f\n    f()\n' * 300 + "MemoryError: 3 GB für nichts"


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def lines(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def oracle_in(folder, max_trials=40, **kwargs):
    oracle = NASNetOracle(max_trials, **{"space": SPACE, "strategy": "evolution", "seed": 3, **kwargs})
    oracle._set_project_dir(str(folder.parent), folder.name)
    return oracle


class Chief:
    """`serve` in a thread. Its leases last for 30 seconds of a clock that stands until a test moves it."""

    def __init__(self, oracle, description=None, port=0, secret=None):
        self.oracle, self.error, self.port, ready = oracle, None, None, threading.Event()
        self.now, self._sweeps, is_done = 0.0, threading.Semaphore(0), oracle.is_done

        def noted():
            self._sweeps.release()
            return is_done()

        oracle.is_done = noted

        def on_ready(port):
            self.port = port
            ready.set()

        def run():
            try:
                serve(
                    oracle,
                    Role("chief", port=port, secret=secret),
                    description or {},
                    30.0,
                    on_ready=on_ready,
                    every=0.02,
                    clock=lambda: self.now,
                )
            except Exception as error:
                self.error = error
                ready.set()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(30)

    def wait(self, seconds):
        """Let so many seconds of its clock go by, and the chief look at its leases."""
        self.now += seconds
        while self._sweeps.acquire(blocking=False):
            pass
        for _ in range(3):  # the first may be of a look that began before
            assert self._sweeps.acquire(timeout=30)

    def kill(self):
        """Stop answering without a word to anybody."""

        def killed():
            raise InterruptedError

        self.oracle.is_done = killed
        self.join()
        assert isinstance(self.error, InterruptedError)
        as_another_process()

    def client(self, name, description=None, **kwargs):
        kwargs = {"patience": 3.0, "beat": 0.1, **kwargs}
        own = NASNetOracle(1, space=SPACE, rules=self.oracle.rules)
        return Client(own, Role(name, port=self.port), description or {}, **kwargs)

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()


def work(client, limit=None, child=lambda trial: 0.5):
    """What KerasTuner's loop does: trials until there are no more, or a limit."""
    done = 0
    while (limit is None or done < limit) and (trial := client.create_trial(client.tuner_id)).status == "RUNNING":
        client.update_trial(trial.trial_id, {"reward": child(trial)})
        trial.status = "COMPLETED"
        client.end_trial(trial)
        done += 1
    return done


def in_threads(*functions):
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def test_a_chief_and_its_workers_do_every_trial_once_and_go_home(tmp_path):
    oracle, seen = oracle_in(tmp_path / "s", 60), []
    oracle.on_finished = lambda trials: seen.append(len(trials))
    chief = Chief(oracle)
    done = []
    for thread in in_threads(*[lambda n=n: done.append(work(chief.client(f"w{n}"))) for n in range(5)]):
        thread.join(60)
    chief.join()
    assert chief.error is None and sum(done) == 60
    assert seen == sorted(set(seen)) and seen[-1] == 60
    found = lines(tmp_path / "s")
    assert sorted(line["number"] for line in found) == list(range(60))
    assert {line["worker"] for line in found} <= {f"w{n}" for n in range(5)}
    assert any(line["staleness"] > 0 for line in found)
    assert all(line["staleness"] >= 0 and line["policy_version"] >= 0 for line in found)


def test_a_dead_worker_s_trial_is_given_out_again_and_a_late_worker_joins(tmp_path, caplog):
    chief = Chief(oracle_in(tmp_path / "s", 8))
    dead = chief.client("dead")
    lost = dead.create_trial("dead")
    dead._working.set()  # shows no sign of life any more
    assert work(chief.client("alive"), limit=7) == 7
    chief.wait(29)
    assert chief.oracle.open_trials() == [lost.trial_id] and "no sign of life" not in caplog.text
    late, done = chief.client("late"), []
    thread = in_threads(lambda: done.append(work(late)))[0]  # waits for the lost one
    chief.wait(2)
    thread.join(30)
    assert done == [1]
    chief.now += 30  # those that have gone without a word are lost
    chief.join()
    by_id = {line["trial_id"]: line for line in lines(tmp_path / "s")}
    assert len(by_id) == 8 and by_id[lost.trial_id]["worker"] == "late"
    assert f"trial {lost.trial_id}: no sign of life" in caplog.text


def test_signs_of_life_keep_a_slow_trial(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 2))
    slow, quick = chief.client("slow", beat=0.02), chief.client("quick")
    trial, beats, get_trial = slow.create_trial("slow"), threading.Semaphore(0), chief.oracle.get_trial

    def noted(trial_id):
        if trial_id == trial.trial_id:
            beats.release()
        return get_trial(trial_id)

    chief.oracle.get_trial = noted
    other = in_threads(lambda: work(quick))
    for _ in range(5):
        chief.wait(20)
        while beats.acquire(blocking=False):
            pass
        for _ in range(2):  # the first may have come before the clock moved
            assert beats.acquire(timeout=30)
    slow.update_trial(trial.trial_id, {"reward": 0.9})
    trial.status = "COMPLETED"
    slow.end_trial(trial)
    assert slow.create_trial("slow").status == "STOPPED"
    other[0].join(20)
    chief.join()
    assert {line["worker"]: line["reward"] for line in lines(tmp_path / "s")} == {"slow": 0.9, "quick": 0.5}


def test_a_lost_worker_that_answers_after_all_counts_once(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 1))
    lost, other = chief.client("lost"), chief.client("other")
    trial = lost.create_trial("lost")
    lost._working.set()
    chief.wait(31)
    again = other.create_trial("other")
    assert again.trial_id == trial.trial_id
    for client, one, reward in ((lost, trial, 0.1), (other, again, 0.2)):
        client.update_trial(one.trial_id, {"reward": reward})
        one.status = "COMPLETED"
        client.end_trial(one)
        assert client.create_trial(client.tuner_id).status == "STOPPED"
    chief.join()
    assert [line["reward"] for line in lines(tmp_path / "s")] == [0.1]


def test_attempts_are_capped(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 1, max_attempts=2))
    for name in ("one", "two"):
        client = chief.client(name)
        assert client.create_trial(name).trial_id == "00000"
        client._working.set()
        chief.wait(31)
    assert work(chief.client("three")) == 0
    chief.join()
    assert [line["reason"] for line in lines(tmp_path / "s")] == ["given out 2 times, and no worker has answered"]


def test_attempts_survive_the_process(tmp_path):
    for _ in range(3):
        assert oracle_in(tmp_path / "s", 2, max_attempts=3).create_trial("w").trial_id == "00000"
        as_another_process()
    assert oracle_in(tmp_path / "s", 2, max_attempts=3).create_trial("w").trial_id == "00001"
    assert lines(tmp_path / "s")[0]["status"] == "FAILED"


def test_a_chief_that_comes_back_takes_the_answers_of_its_workers(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 6))
    client = chief.client("w", patience=20.0)
    trial = client.create_trial("w")
    chief.kill()
    again = Chief(oracle_in(tmp_path / "s", 6), port=chief.port)
    client.update_trial(trial.trial_id, {"reward": 0.7})
    trial.status = "COMPLETED"
    client.end_trial(trial)
    assert work(client) == 5
    again.join()
    found = {line["trial_id"]: line for line in lines(tmp_path / "s")}
    assert len(found) == 6 and found["00000"]["reward"] == 0.7


def test_after_a_restart_a_trial_waits_for_its_worker_and_then_for_another(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 3))
    dead = chief.client("dead")
    lost = dead.create_trial("dead")
    dead._working.set()
    chief.kill()
    again = Chief(oracle_in(tmp_path / "s", 3), port=chief.port)
    client = again.client("w")
    assert client.create_trial("w").trial_id != lost.trial_id
    assert work(client, limit=2) == 2
    again.wait(31)
    assert work(client) == 1
    again.join()
    assert len(lines(tmp_path / "s")) == 3


def test_errors_reach_the_chief_and_hold_nothing(tmp_path, caplog):
    chief = Chief(oracle_in(tmp_path / "s", 3))
    client = chief.client("w")
    trial = client.create_trial("w")
    with pytest.raises(Refused, match="Objective value missing"):
        client.update_trial(trial.trial_id, {"loss": 1.0})
    with pytest.raises(Refused, match="`trial_id` must be the id of a started trial"):
        client.update_trial("99", {"reward": 1.0})
    trial.status, trial.message = "FAILED", TRACEBACK
    client.end_trial(trial)
    assert work(client) == 2
    chief.join()
    assert lines(tmp_path / "s")[0]["reason"] == "MemoryError: 3 GB für nichts"
    assert f"trial {trial.trial_id} failed on w" in caplog.text and "MemoryError: 3 GB für nichts" in caplog.text


def test_a_full_disk_ends_the_chief_with_everything_saved(tmp_path, monkeypatch):
    chief = Chief(oracle_in(tmp_path / "s", 9))
    client = chief.client("w")
    assert work(client, limit=4) == 4
    trial = client.create_trial("w")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "append", full)
        client.update_trial(trial.trial_id, {"reward": 1.0})
        trial.status = "COMPLETED"
        with pytest.raises(ChiefGone, match="No space left"):
            client.end_trial(trial)
        chief.join()
    assert isinstance(chief.error, OSError)
    again = Chief(oracle_in(tmp_path / "s", 9))
    again.wait(31)
    assert work(again.client("w")) == 5
    again.join()
    assert sorted(line["number"] for line in lines(tmp_path / "s")) == list(range(9))


@pytest.mark.parametrize("hook", ["on_started", "on_finished"])
@pytest.mark.parametrize("error", [KeyError("of a callback"), ValueError("of a callback")], ids=repr)
def test_an_exception_of_a_listener_ends_the_chief_with_everything_saved(hook, error, tmp_path):
    def fail(_):
        raise error

    oracle = oracle_in(tmp_path / "s", 9)
    setattr(oracle, hook, fail)
    chief = Chief(oracle)
    with pytest.raises(ChiefGone, match="the chief ends: .*of a callback"):
        work(chief.client("w"))
    chief.join()
    assert chief.error is error
    oracle.close()
    again = oracle_in(tmp_path / "s", 9)
    assert (len(again.open_trials()), len(again.finished_trials())) == ((1, 0) if hook == "on_started" else (0, 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"package": "0.0.9"}, '`package` must be "0.1.0". Received: "0.0.9"'),
        ({"space": {"blocks": 2}}, "`space` must be"),
        ({"seed": None}, None),
        ({"extra": 1}, "`extra` must be null"),
    ],
)
def test_a_worker_of_another_search_is_refused_with_the_reason(tmp_path, change, reason, caplog):
    description = {"package": "0.1.0", "space": SPACE.to_dict(), "seed": 3}
    chief = Chief(oracle_in(tmp_path / "s", 1), description)
    if reason:
        with pytest.raises(Refused, match="the chief refuses this worker") as error:
            chief.client("odd", {**description, **change}).create_trial("odd")
        assert reason in str(error.value) and "worker odd is refused" in caplog.text
    assert work(chief.client("w", {**description, "seed": None})) == 1
    chief.join()


def test_a_worker_learns_the_seed_of_the_search(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 1))
    client = chief.client("w")
    assert client.seed is None
    client.create_trial("w")
    assert client.seed == 3
    client._working.set()
    chief.kill()


def test_kerastuner_s_plain_client_is_served(tmp_path, monkeypatch):
    from keras_tuner.src.distribute.oracle_client import OracleClient

    chief = Chief(oracle_in(tmp_path / "s", 3))
    for name, value in Role("plain", port=chief.port).to_environment().items():
        monkeypatch.setenv(name, value)
    client = OracleClient(oracle_in(tmp_path / "unused", 3))
    trial = client.create_trial("plain")
    chief.wait(1e6)  # no sign of life and no time-out
    client.update_trial(trial.trial_id, {"reward": 0.25})
    trial.status = "COMPLETED"
    client.end_trial(trial)
    assert work(client) == 2
    chief.join()
    assert lines(tmp_path / "s")[0]["reward"] == 0.25


def test_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        role = Role("chief", port=other.getsockname()[1])
        with pytest.raises(ValueError, match="`port` must be free"):
            serve(oracle_in(tmp_path / "s"), role, {})
    chief = Chief(oracle_in(tmp_path / "t", 1))
    with pytest.raises(ValueError, match="`port` must be free"):
        serve(oracle_in(tmp_path / "u"), Role("chief", port=chief.port), {})
    assert work(chief.client("w")) == 1
    chief.join()


SECRET = b"sixteen letters!"


@pytest.mark.parametrize("host", ["203.0.113.1", "0.0.0.0", "127.example.org", "[::]"])
def test_an_address_that_others_can_reach_asks_for_a_secret(tmp_path, host):
    refusal = pytest.raises(ValueError, match="`secret` must be .*an SSH tunnel.*--engine ray.*no secret")
    with refusal:
        serve(oracle_in(tmp_path / "s"), Role("chief", host=host, port=1), {})
    with refusal:
        Client(oracle_in(tmp_path / "s"), Role("w", host=host, port=1), {})
    with refusal:
        await_chief(Role("w", host=host, port=1), 1.0)
    Role("w", host=host, port=1, secret=SECRET).check_secret()


def test_only_those_who_know_the_secret_take_part(tmp_path, caplog):
    chief = Chief(oracle_in(tmp_path / "s", 2), secret=SECRET)
    own = NASNetOracle(1, space=SPACE)
    for secret, received in ((None, "none"), (b"another sixteen", "another one"), (SECRET + b"x", "another one")):
        role = Role("odd", port=chief.port, secret=secret)
        with pytest.raises(Refused, match=f"`secret` must be the file that the chief has. Received: {received}"):
            Client(own, role, {}, patience=3.0).create_trial("odd")
    with grpc.insecure_channel(f"127.0.0.1:{chief.port}") as channel:  # KerasTuner's own client, and every other verb
        stub = protos.get_service_grpc().OracleStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.GetBestTrials(protos.get_service().GetBestTrialsRequest(num_trials=1))
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert work(Client(own, Role("w", port=chief.port, secret=SECRET), {}, patience=3.0)) == 2
    chief.join()
    assert "is refused: it has no secret" in caplog.text and "letters" not in caplog.text + repr(role)


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_what_grpc_does_not_send_is_not_shown(kind):
    def with_call(request, metadata, **_):
        raise kind(f"metadata was invalid: {metadata}")

    client = Client(NASNetOracle(1, space=SPACE), Role("w", port=9, secret=SECRET), {})
    client.stub = SimpleNamespace(GetTrial=SimpleNamespace(with_call=with_call))
    with pytest.raises(Refused, match="gRPC does not send GetTrial to the chief") as error:
        client.get_trial("00000")
    assert "letters" not in "".join(traceback.format_exception(error.value))
    for name in ("wörker", "工人", ""):
        with pytest.raises(ValueError, match="`tuner_id` must be a name of ASCII characters"):
            Role(name)


def test_a_secret_is_read_from_a_file(tmp_path):
    (tmp_path / "good").write_bytes(SECRET + b"\n")
    assert read_secret("secret", tmp_path / "good") == SECRET
    (tmp_path / "short").write_text("abc\n")
    (tmp_path / "long").write_text("a" * 257)
    for name, reason in (("short", "of 16 to 256 characters"), ("long", "of 16 to 256"), ("none", "No such file")):
        with pytest.raises(ValueError, match=f"`secret` must be .*{reason}"):
            read_secret("secret", tmp_path / name)


def test_a_worker_says_for_whom_it_waits(caplog, monkeypatch):
    monkeypatch.setattr(worker_module, "SOON", 0.05)
    with pytest.raises(ChiefGone, match="no chief answers at 127.0.0.1:9, for 0 s"):
        await_chief(Role("w", port=9), 0.3)
    assert "w waits up to 0 s for a chief at 127.0.0.1:9" in caplog.text


def test_no_chief_is_an_error_soon(tmp_path):
    client = Client(oracle_in(tmp_path / "s"), Role("w", port=9), {}, patience=1.0)
    start = time.monotonic()
    with pytest.raises(ChiefGone, match="no chief answers at 127.0.0.1:9"):
        client.create_trial("w")
    assert time.monotonic() - start < 10


def test_overwrite_on_a_worker_is_refused_and_deletes_nothing(tmp_path, monkeypatch):
    for name, value in Role("worker-1").to_environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "trials.jsonl").write_text("precious")
    oracle = NASNetOracle(3, space=SPACE)
    with pytest.raises(ValueError, match="`overwrite` must be False on a worker"):
        NASNetTuner(oracle, directory=str(tmp_path), project_name="p", overwrite=True)
    assert (tmp_path / "p" / "trials.jsonl").read_text() == "precious"


def test_the_same_program_is_chief_and_worker_by_kerastuner_s_variables(tmp_path, monkeypatch):
    """One tuner script, run as KerasTuner's documentation says; here in two threads of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def tuner(name):
        role = Role(name, port=port)
        oracle = NASNetOracle(5, space=SPACE, strategy="random", seed=1)
        return NASNetTuner(oracle, Free(), role=role, directory=str(tmp_path), project_name=name, patience=15.0)

    chief, worker = tuner("chief"), tuner("worker-1")
    for thread in in_threads(lambda: chief.search(Data), lambda: worker.search(Data)):
        thread.join(60)
        assert not thread.is_alive()
    found = lines(tmp_path / "chief")
    assert [line["worker"] for line in found] == ["worker-1"] * 5
    alone = NASNetOracle(5, space=SPACE, strategy="random", seed=1)
    NASNetTuner(alone, Free(), directory=str(tmp_path), project_name="alone").search(Data)
    keys = ("trial_id", "genotype", "reward")
    assert [[line[key] for key in keys] for line in found] == [
        [line[key] for key in keys] for line in lines(tmp_path / "alone")
    ]


class Context:
    """As much of gRPC's as an answer needs, without a channel."""

    def __init__(self, worker):
        self.worker = worker

    def invocation_metadata(self):
        return (("nasnet-worker", "{}"), ("nasnet-tuner", self.worker))

    def set_trailing_metadata(self, metadata):
        pass

    def abort(self, code, reason):
        raise RuntimeError(reason)


def test_an_exhausted_space_sends_the_workers_home(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "EXHAUSTED", 150)
    space = SearchSpace(blocks=1, operations=("identity", "conv_3x3"), combinations=("add",))
    oracle = oracle_in(tmp_path / "s", None, space=space, strategy="random", rules=(Replay(),))
    servicer, messages = Servicer(oracle, {}, 30.0), protos.get_service()

    def ask(worker):
        return servicer.CreateTrial(messages.CreateTrialRequest(tuner_id=worker), Context(worker)).trial

    crew, done, questions = ["w0", "w1", "w2"], 0, 0
    while crew:
        worker, questions = crew.pop(0), questions + 1
        assert questions < 150  # a trial each, and one that sends the worker home
        trial = Trial.from_proto(ask(worker))
        if trial.status == "STOPPED":  # sent home
            continue
        crew.append(worker)
        if trial.status == "RUNNING":
            metrics = messages.UpdateTrialRequest(trial_id=trial.trial_id, metrics={"reward": 0.5}, step=0)
            servicer.UpdateTrial(metrics, Context(worker))
            trial.status, done = "COMPLETED", done + 1
            servicer.EndTrial(messages.EndTrialRequest(trial=trial.to_proto()), Context(worker))
    assert 50 < done <= 100 and oracle.is_done() and servicer.sweep()
    log = (tmp_path / "s" / "trials.jsonl").read_bytes()
    assert Trial.from_proto(ask("late")).status == "STOPPED"
    assert (tmp_path / "s" / "trials.jsonl").read_bytes() == log


def test_an_accident_of_a_worker_is_tried_again(tmp_path):
    @dataclass(frozen=True)
    class Clumsy:
        """Its first child has no room the first time; its second never has."""

        seen: list

        def evaluate(self, genotype, data, seed):
            self.seen.append(seed)
            if len(self.seen) != 2:
                raise MemoryError(f"no room, attempt {len(self.seen)}")
            return {"reward": seed / 2**32}

    child = Clumsy([])

    def worker(port):
        own = NASNetOracle(2, space=SPACE, strategy="evolution", seed=3)
        place = {"directory": str(tmp_path), "project_name": "worker"}
        return NASNetTuner(own, child, role=Role("worker-0", port=port), patience=5.0, **place)

    oracle = oracle_in(tmp_path / "s", 2, max_retries_per_trial=1)
    chief = Chief(oracle, worker(1).description(Data))
    worker(chief.port).search(Data)
    chief.join()
    assert child.seen[0] == child.seen[1] != child.seen[2] == child.seen[3]
    assert [(line["status"], line["reason"]) for line in lines(tmp_path / "s")] == [
        ("COMPLETED", None),
        ("FAILED", "MemoryError: no room, attempt 4"),
    ]


def test_early_stopping_reaches_the_workers(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 6, rules=(MedianStop(trials=3),)))
    client, stopped = chief.client("w"), []
    for accuracy in (0.5, 0.6, 0.7, 0.2, 0.9):
        trial = client.create_trial("w")
        stopped.append(client.update_trial(trial.trial_id, {"progress": accuracy}, 1).status)
        client.update_trial(trial.trial_id, {"reward": accuracy})
        trial.status = "COMPLETED"
        client.end_trial(trial)
    assert stopped == ["RUNNING", "RUNNING", "RUNNING", "STOPPED", "RUNNING"]
    assert work(client) == 1
    chief.join()
    assert lines(tmp_path / "s")[3]["curve"] == [0.2]


def test_leases_run_out_unless_renewed():
    now = [0.0]
    leases = Leases(10.0, clock=lambda: now[0])
    for trial in "abc":
        leases.grant(trial)
    leases.grant("d", forever=True)
    now[0] = 8.0
    leases.grant("b")
    leases.end("c")
    now[0] = 11.0
    assert leases.expired() == ["a"] and leases.expired() == []
    now[0] = 1e9
    assert leases.expired() == ["b"]


def test_roles_are_read_from_kerastuner_s_variables():
    assert current_role({}) is None
    role = Role("worker-3", "10.0.0.7", 5000)
    assert current_role(role.to_environment()) == role and not role.is_chief and role.address == "10.0.0.7:5000"
    assert current_role({**role.to_environment(), "KERASTUNER_TUNER_ID": "my_chief"}).is_chief
    for name, value in (("KERASTUNER_ORACLE_PORT", ""), ("KERASTUNER_TUNER_ID", ""), ("KERASTUNER_ORACLE_PORT", "x")):
        with pytest.raises(ValueError, match=f"`{name}`"):
            current_role({**role.to_environment(), name: value})
    with pytest.raises(ValueError, match="`port`"):
        Role("w", port=70000)


def test_differences_are_named():
    assert difference({"a": 1}, {"a": 1}) is None is difference({"data": None}, {"data": {"images": "d"}})
    assert difference({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1]}) == "`b` must be [1, 2]. Received: [1]"


def test_a_chief_is_asked_past_a_proxy(tmp_path, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    chief = Chief(oracle_in(tmp_path / "s", 2))
    assert work(chief.client("w")) == 2
    chief.join()


def test_a_second_worker_of_a_name_is_refused_and_costs_nothing(tmp_path, caplog, monkeypatch):
    oracle = oracle_in(tmp_path / "s", 3, max_attempts=2)
    chief = Chief(oracle)
    first = chief.client("gpu")
    trial = first.create_trial("gpu")
    first.update_trial(trial.trial_id, {"progress": 0.5}, 1)
    monkeypatch.setattr(worker_module, "TOKEN", "another process")
    for _ in range(2):
        second = chief.client("gpu")
        with pytest.raises(Refused, match="another worker is called `gpu`: give each its own `--name`"):
            second.create_trial("gpu")
    assert not (tmp_path / "s/controller/attempts.jsonl").exists()
    first.update_trial(trial.trial_id, {"reward": 0.5})
    trial.status = "COMPLETED"
    first.end_trial(trial)
    assert work(first, limit=1) == 1  # the first goes on under its name
    # One that comes back waits once, until its own silence shows that it had ended.
    asleep = SimpleNamespace(sleep=lambda seconds: chief.wait(seconds + 1e-3), monotonic=time.monotonic)
    monkeypatch.setattr(worker_module, "time", asleep)
    assert work(chief.client("gpu")) == 1
    chief.join()
    assert [line["worker"] for line in lines(tmp_path / "s")] == ["gpu"] * 3
    assert "a second worker that is called gpu is refused" in caplog.text and "asked again in 0 s" in caplog.text


def test_a_worker_that_begins_again_in_its_process_is_no_second_one(tmp_path):
    chief = Chief(oracle_in(tmp_path / "s", 1))
    trial = chief.client("notebook", beat=1e6).create_trial("notebook")
    again = chief.client("notebook", beat=1e6)
    assert again.create_trial("notebook").trial_id == trial.trial_id
    assert work(again) == 1
    chief.join()


def test_a_chief_gives_the_oracle_its_listeners_back(tmp_path):
    oracle, told = oracle_in(tmp_path / "s", 1), []
    oracle.on_finished = told.append
    listener, chief = oracle.on_finished, Chief(oracle)
    assert work(chief.client("w")) == 1
    chief.join()
    assert oracle.on_finished is listener and oracle.on_started is None and len(told) == 1


def test_after_a_restart_a_worker_that_shows_life_has_its_trial_again(tmp_path, monkeypatch):
    chief = Chief(oracle_in(tmp_path / "s", 3))
    client = chief.client("w", patience=20.0, beat=0.02)
    trial = client.create_trial("w")
    quiet = chief.client("quiet", patience=20.0, beat=1e6)
    other = quiet.create_trial("quiet")
    chief.kill()
    oracle, started = oracle_in(tmp_path / "s", 3), []
    oracle.on_started = lambda what: started.append((what["trial_id"], what["worker"]))
    again = Chief(oracle, port=chief.port)
    until = time.monotonic() + 30
    while not started and time.monotonic() < until:
        time.sleep(0.01)
    assert started == [(trial.trial_id, "w")] and oracle.ongoing_trials["w"].trial_id == trial.trial_id
    monkeypatch.setattr(worker_module, "TOKEN", "another process")
    with pytest.raises(Refused, match="another worker is called `w`"):
        again.client("w").create_trial("w")
    for one, what in ((quiet, other), (client, trial)):
        one.update_trial(what.trial_id, {"reward": 0.5})
        what.status = "COMPLETED"
        one.end_trial(what)
    assert started[1] == (other.trial_id, "quiet") and len(started) == 2
    assert work(client) == 1 and quiet.create_trial("quiet").status == "STOPPED"
    again.join()
    assert {line["trial_id"]: line["worker"] for line in lines(tmp_path / "s")} == {
        trial.trial_id: "w", other.trial_id: "quiet", "00002": "w",
    }  # fmt: skip
    assert not (tmp_path / "s/controller/attempts.jsonl").exists()


def test_an_interrupted_worker_shows_no_life(tmp_path):
    class Stopped:
        def evaluate(self, genotype, data, seed):
            raise KeyboardInterrupt

    chief = Chief(oracle_in(tmp_path / "s", 1))
    own = NASNetOracle(1, space=SPACE, strategy="evolution", seed=3)
    place = {"directory": str(tmp_path), "project_name": "worker"}
    tuner = NASNetTuner(own, Stopped(), role=Role("w", port=chief.port), patience=5.0, **place)
    tuner.description = lambda data: {}
    with pytest.raises(KeyboardInterrupt):
        tuner.search(Data)
    assert tuner.oracle._working.is_set()
    chief.kill()


def test_data_of_one_s_own_tell_what_they_know():
    class Endless:
        def __len__(self):
            raise TypeError("the dataset length is unknown")

    told = data_description(SimpleNamespace(train=Endless(), class_names=("a", "b"), digest="d"), False)
    assert told == {"classes": 2, "images": "d"}
    assert data_description({"train": [1]}, False) is None
