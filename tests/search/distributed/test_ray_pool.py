"""Children on Ray: the pool by itself, on a cluster that a test plays, and both on a real one."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import grpc
import keras_tuner
import pytest

from nasnet_keras.search import running
from nasnet_keras.search.distributed import pool, ray_pool
from nasnet_keras.search.distributed.pool import Pool
from nasnet_keras.search.distributed.ray_pool import Engine, RayCluster, engine_of
from nasnet_keras.search.distributed.roles import Role
from nasnet_keras.search.distributed.worker import await_chief
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import MedianStop, Replay
from nasnet_keras.search.running import Children, run_trials
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.trials import log

SPACE = SearchSpace(blocks=1)


class Lost(Exception):
    """What Ray raises of an actor that has died."""


def done(reward):
    return {"status": "COMPLETED", "message": None, "metrics": {"reward": reward}}


class Cluster:
    """As much of the module `ray` as a pool asks for. Time goes by while nothing is ready.

    `child(trial_id, attempt)` gives a trial's events: dicts, `"dies"`, or a function that is called.
    """

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, *cpus, child=lambda trial_id, attempt: [done(0.5)], versions=()):
        self.now, self.free, self.actors, self.child, self.attempts = 0.0, dict(enumerate(cpus)), [], child, {}
        self.size, self.versions, self.ended = dict(self.free), dict(versions), 0
        # Nodes where actors die while they load; where they die at once; how many nodes there have been.
        self.unfit, self.mute, self.joined = set(), set(), len(cpus)

    def join(self, cpus):
        """A node joins."""
        self.size[self.joined] = self.free[self.joined] = cpus
        self.joined += 1

    def lose(self, node):
        """A node dies with all its actors."""
        del self.size[node], self.free[node]
        for actor in self.actors:
            actor.alive &= actor.node != node

    def nodes(self):
        dead = [{"NodeID": "dead", "Alive": False, "Resources": {"CPU": 64.0}}]
        return dead + [
            {"NodeID": f"id{node}", "Alive": True, "Resources": {"CPU": float(cpus)}}
            for node, cpus in self.size.items()
        ]

    def cluster_resources(self):
        return {"CPU": sum(self.size.values())}

    def put(self, value):
        return value

    def remote(self, kind):
        return self

    def options(self, num_cpus, num_gpus, max_restarts):
        assert max_restarts == 0
        self.cpus = num_cpus
        return SimpleNamespace(remote=lambda parts, environment: self._new(environment))

    def _new(self, environment):
        assert environment["OMP_NUM_THREADS"] == str(int(self.cpus))
        self.actors.append(PlayedActor(self))
        return self.actors[-1]

    def kill(self, actor):
        if actor.node in self.free and not actor.is_over:
            self.free[actor.node] += self.cpus
        self.ended += not actor.is_over
        actor.alive, actor.is_over = False, True

    def wait(self, futures, num_returns, timeout):
        ready = [future for future in futures if future.is_ready()][:num_returns]
        self.now += 0.5 if ready else timeout
        return ready, [future for future in futures if future not in ready]

    def get(self, future):
        if not future.actor.alive:
            raise Lost("The actor died unexpectedly before finishing this task.\nfurther lines")
        return json.dumps(future.value())


class PlayedActor:
    def __init__(self, cluster):
        self.cluster, self.node, self.alive, self.is_over, self.events, self.told = cluster, None, True, False, [], []
        self.about, self.load, self.begin, self.go_on = (
            SimpleNamespace(remote=lambda *told, name=name: Future(self, name, told))
            for name in ("about", "load", "begin", "go_on")
        )

    def is_placed(self):
        room = [node for node, free in self.cluster.free.items() if free >= self.cluster.cpus]
        if self.node is None and room:
            self.node = room[0]
            self.cluster.free[self.node] -= self.cluster.cpus
        return self.node is not None


FAIL = {"about": "mute", "load": "unfit"}  # what is asked: on which nodes that takes the actor with it


class Future:
    def __init__(self, actor, name, told):
        self.actor, self.name, self.told = actor, name, told
        if name == "begin":
            attempts = actor.cluster.attempts
            attempts[told[0]] = attempts.get(told[0], 0) + 1
            actor.events = list(actor.cluster.child(told[0], attempts[told[0]]))
        actor.told += told if name == "go_on" else ()

    def is_ready(self):
        if self.name in ("begin", "go_on") and self.actor.alive and self.actor.events[0] == "dies":
            self.actor.alive = False
        if not self.actor.alive or not self.actor.is_placed():
            return not self.actor.alive
        self.actor.alive = self.actor.node not in getattr(self.actor.cluster, FAIL.get(self.name, ""), ())
        return True

    def value(self):
        if self.name == "about":
            return {
                **pool._versions(),
                **self.actor.cluster.versions.get(self.actor.node, {}),
                "node": f"id{self.actor.node}",
                "host": f"node{self.actor.node}",
            }
        if self.name == "load":
            return {}
        event = self.actor.events.pop(0)
        return event() if callable(event) else event


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def oracle_in(folder, max_trials=12, **kwargs):
    oracle = NASNetOracle(max_trials, **{"space": SPACE, "strategy": "evolution", "seed": 3, **kwargs})
    oracle._set_project_dir(str(folder), ".")
    return oracle


def play(monkeypatch, cluster, oracle, on_look=lambda state: None, data=None, **engine):
    """Search on a played cluster."""
    monkeypatch.setattr(pool.time, "sleep", lambda seconds: setattr(cluster, "now", cluster.now + seconds))
    engine = Engine(**engine)
    ray = RayCluster(cluster, engine, SimpleNamespace(backend="jax"), None, "http://head:1")
    with Pool(ray, engine.workers, engine.patience, lambda: cluster.now, data) as place:
        run_trials(oracle, place, on_look=on_look)
    assert cluster.ended == len(cluster.actors) and all(actor.is_over for actor in cluster.actors)


def lines(folder, without=("worker", "seconds", "staleness", "policy_version")):
    text = (folder / "trials.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in without} for line in text]


def reward_of(trial_id):
    return int(trial_id) * 7 % 10 / 10


def test_one_worker_makes_the_trajectory_of_one_process(tmp_path, monkeypatch):
    cluster = Cluster(4, child=lambda trial_id, attempt: [done(reward_of(trial_id))])
    play(monkeypatch, cluster, oracle_in(tmp_path / "ray", 40, rules=(Replay(),)), workers=1)
    alone = oracle_in(tmp_path / "alone", 40, rules=(Replay(),))
    while (trial := alone.create_trial("w")).status == "RUNNING":
        alone.update_trial(trial.trial_id, {"reward": reward_of(trial.trial_id)})
        trial.status = "COMPLETED"
        alone.end_trial(trial)
    assert lines(tmp_path / "ray") == lines(tmp_path / "alone")
    assert len(cluster.actors) == 1


def test_as_many_workers_as_nodes_have_room_for_and_more_when_one_joins(tmp_path, monkeypatch):
    oracle, seen = oracle_in(tmp_path, 60), []
    cluster = Cluster(2, 1)
    oracle.on_finished = lambda trials: (seen.append(len(cluster.actors)), len(trials) == 12 and cluster.join(3))
    play(monkeypatch, cluster, oracle)
    assert seen[8] == 3 and max(seen) == 6
    assert len({line["worker"] for line in lines(tmp_path, without=())}) == 6
    assert sorted(line["number"] for line in lines(tmp_path)) == list(range(60))


@pytest.mark.parametrize(
    ("gpus", "room"), [(0.6, 4), (0.4, 8), (0.5, 8), (1 / 3, 12), (1, 4), (2, 2), (3, 1), (8, 0), (0, 20)]
)
def test_a_fraction_of_a_gpu_lies_on_one_gpu(gpus, room):
    resources = {"CPU": 10.0, "GPU": 4.0}
    nodes = [{"NodeID": "a", "Alive": True, "Resources": resources}, {"NodeID": "b", "Alive": False, "Resources": {}}]
    nodes.append({"NodeID": "c", "Alive": True, "Resources": {"CPU": 10.0}})
    cluster = Cluster(10)
    cluster.nodes = lambda: nodes
    found = RayCluster(cluster, Engine(cpus=0.5, gpus=gpus), SimpleNamespace(backend="jax"), None).room()
    assert found == {"a": room, "c": 0 if gpus else 20}


def test_an_autoscaler_is_asked_for_the_workers_that_are_wanted_and_no_more(tmp_path, monkeypatch):
    cluster = Cluster(1)
    play(monkeypatch, cluster, oracle_in(tmp_path, 6), workers=4)
    assert len(cluster.actors) == 4
    few = Cluster(1)
    play(monkeypatch, few, oracle_in(tmp_path / "few", 2), workers=4)
    assert len(few.actors) == 2


def test_a_lost_node_s_trials_are_given_out_again(tmp_path, monkeypatch, caplog):
    cluster, lost = Cluster(1, 1, 1), []

    def child(trial_id, attempt):
        def event():
            if len(lost) < 1 and int(trial_id) >= 5:
                lost.append(trial_id)
                cluster.lose(next(a.node for a in cluster.actors if a.events is not None and a.alive and a.node != 0))
                cluster.join(1)
            return done(reward_of(trial_id))

        return [event]

    cluster.child = child
    play(monkeypatch, cluster, oracle_in(tmp_path, 20))
    found = lines(tmp_path)
    assert sorted(line["number"] for line in found) == list(range(20))
    assert {line["status"] for line in found} == {"COMPLETED"} and lost
    assert "given out again: The actor died unexpectedly before finishing this task." in caplog.text


def test_a_child_that_takes_its_actor_with_it_is_given_up_after_five_attempts(tmp_path, monkeypatch):
    cluster = Cluster(2, child=lambda trial_id, attempt: ["dies"] if trial_id == "00001" else [done(0.5)])
    play(monkeypatch, cluster, oracle_in(tmp_path, 6))
    failed = [line for line in lines(tmp_path) if line["status"] == "FAILED"]
    assert [line["trial_id"] for line in failed] == ["00001"] and cluster.attempts["00001"] == 5
    assert failed[0]["reason"].startswith("given out 5 times, the last time: lost with its worker: The actor died")


def test_failures_of_children_and_missing_rewards(tmp_path, monkeypatch):
    def child(trial_id, attempt):
        if trial_id == "00000":
            return [{"status": "FAILED", "message": "ValueError: too large", "metrics": {}}]
        if trial_id == "00001":
            return [
                {"status": "INVALID", "message": "MemoryError: no room", "metrics": {}} if attempt == 1 else done(1)
            ]
        return [{**done(0.5), "metrics": {"loss": 1.0}}] if trial_id == "00002" else [done(float("nan"))]

    play(monkeypatch, Cluster(1, child=child), oracle_in(tmp_path, 4, max_retries_per_trial=1))
    found = {line["trial_id"]: line for line in lines(tmp_path)}
    assert found["00000"]["reason"] == "ValueError: too large" and found["00001"]["reward"] == 1
    assert "Objective value missing" in found["00002"]["reason"]
    assert "finite" in found["00003"]["reason"]


ACCIDENT = {"status": "INVALID", "message": "OSError: /data/a.jpg: no such file\n", "metrics": {}}


@pytest.mark.parametrize("seconds", [0, 300])
def test_a_node_without_the_images_costs_hardly_a_trial(seconds, tmp_path, monkeypatch, caplog):
    """It is free again at once, where others take their time; from the first trial on."""
    cluster, met = Cluster(2, 4, 2), []
    begun, real = {}, Future.is_ready

    def is_ready(future):
        if future.name != "begin" or not future.actor.alive or future.actor.node == 1:
            return real(future)
        return real(future) and cluster.now >= begun.setdefault(future, cluster.now) + seconds

    def value(future):
        if future.name != "begin":
            return known(future)
        met.append(future.actor.node)
        return ACCIDENT if future.actor.node == 1 else done(0.5)

    known = Future.value
    monkeypatch.setattr(Future, "is_ready", is_ready)
    monkeypatch.setattr(Future, "value", value)
    play(monkeypatch, cluster, oracle_in(tmp_path, 60, max_retries_per_trial=1))
    found = lines(tmp_path)
    assert len(found) == 60 and [line["status"] for line in found].count("FAILED") <= pool.ACCIDENTS
    assert met.count(1) <= 4 + 2 * pool.ACCIDENTS
    assert "children on node1 have met with accidents alone, unlike those elsewhere" in caplog.text


def test_a_child_that_takes_every_actor_with_it_costs_no_node(tmp_path, monkeypatch, caplog):
    cluster = Cluster(1, 1, child=lambda trial_id, attempt: ["dies"] if trial_id == "00004" else [done(0.5)])
    play(monkeypatch, cluster, oracle_in(tmp_path, 20))
    assert [line["status"] for line in lines(tmp_path)].count("FAILED") == 1 and "accidents" not in caplog.text


def test_places_come_back_when_a_node_is_well_again(tmp_path):
    cluster = Cluster(2, 1)
    ray = RayCluster(cluster, Engine(), SimpleNamespace(backend="jax"), None)
    with Pool(ray, clock=lambda: cluster.now) as place:
        place._nodes, place._accidents = {"a": "id0"}, {"id0": {"1", "2", "3"}, "id1": set()}
        place._refused = [("id0", ray.start(0)[1], False), ("id1", ray.start(1)[1], False)]
        assert place._is_given_up("id0")
        place._is_well("id0")
        assert [node for node, *_ in place._refused] == ["id1"] and not place._is_given_up("id0")


@pytest.mark.parametrize("accident", [ACCIDENT, "dies"])
@pytest.mark.parametrize("workers", [1, 8])
def test_accidents_everywhere_end_the_search_with_its_trials_open(accident, workers, tmp_path, monkeypatch):
    cluster = Cluster(workers, child=lambda trial_id, attempt: [accident])
    most = max(running.ACCIDENTS, 2 * workers)
    rule = "trials in a row have met with accidents, the last one: (OSError: /data/a.jpg: no such|The actor died)"
    with pytest.raises(OSError, match=rule):
        play(monkeypatch, cluster, oracle_in(tmp_path, 2000, max_retries_per_trial=1))
    assert len(lines(tmp_path)) <= most
    failed = len(lines(tmp_path))
    cluster.child = lambda trial_id, attempt: [done(0.5)]
    play(monkeypatch, cluster, oracle_in(tmp_path, 40))
    assert [line["status"] for line in lines(tmp_path)].count("COMPLETED") == 40 - failed


def test_a_moment_without_a_drive_ends_nothing(tmp_path, monkeypatch):
    """Of many workers all children meet with accidents at once."""
    cluster = Cluster(
        64, child=lambda trial_id, attempt: [ACCIDENT if attempt == 1 and int(trial_id) < 64 else done(1)]
    )
    play(monkeypatch, cluster, oracle_in(tmp_path, 100, max_retries_per_trial=1))
    assert {line["status"] for line in lines(tmp_path)} == {"COMPLETED"}


@pytest.mark.parametrize("kind", ["FatalError", "FatalRuntimeError", "what a later version has"])
def test_an_error_that_ends_a_search_ends_it(tmp_path, monkeypatch, kind):
    cluster = Cluster(1, child=lambda trial_id, attempt: [{"fatal": "no such machine", "kind": kind, "broken": {}}])
    with pytest.raises(keras_tuner.errors.FatalError, match="no such machine") as raised:
        play(monkeypatch, cluster, oracle_in(tmp_path, 6))
    assert kind in (type(raised.value).__name__, "what a later version has")
    assert all(actor.is_over for actor in cluster.actors)


def test_the_driver_hears_of_files_that_only_its_workers_have_met(tmp_path, monkeypatch):
    told = []
    data = SimpleNamespace(note_broken=told.append)
    broken = [{"a.png": "it is empty"}, {}, {"b.png": "truncated"}, {}]
    cluster = Cluster(1, child=lambda trial_id, attempt: [{**done(0.5), "broken": broken[int(trial_id)]}])
    play(monkeypatch, cluster, oracle_in(tmp_path, 4), data=data)
    assert told == [{"a.png": "it is empty"}, {"b.png": "truncated"}] and len(lines(tmp_path)) == 4


def test_after_its_hours_a_search_keeps_no_worker_without_a_trial(tmp_path, monkeypatch):
    oracle, seen = oracle_in(tmp_path, 60, hours=1.0), []
    cluster = Cluster(1, 1, 1)

    def child(trial_id, attempt):
        def event():
            if trial_id == "00009":  # the others end; this one's worker is lost, and another one must not come
                oracle._ends_at = -math.inf
                return {"progress": 0.5, "epoch": 1}
            return done(0.5)

        return [event, *[{"progress": 0.5, "epoch": 2}] * 5, "dies"] if trial_id == "00009" else [event]

    cluster.child = child
    play(monkeypatch, cluster, oracle, on_look=lambda state: seen.append((state["workers"], state["starting"])))
    assert seen[-1] == (1, 0) and len(cluster.actors) == 3 and len(lines(tmp_path)) < 15


def test_progress_travels_to_the_rules_and_a_stop_back(tmp_path, monkeypatch):
    curves = [(0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.2, 0.9), (0.9, 0.95)]

    def child(trial_id, attempt):
        told = [{"progress": value, "epoch": epoch} for epoch, value in enumerate(curves[int(trial_id)], 1)]
        return [*told, done(told[-1]["progress"])]

    cluster = Cluster(1, child=child)
    play(monkeypatch, cluster, oracle_in(tmp_path, 5, rules=(MedianStop(trials=3),)), workers=1)
    assert cluster.actors[0].told == [False] * 6 + [True, False, False, False]


def test_what_there_is_to_see(tmp_path, monkeypatch):
    cluster, seen = Cluster(1, 1, child=lambda trial_id, attempt: ["dies"] if attempt == 1 else [done(0.5)]), []
    play(monkeypatch, cluster, oracle_in(tmp_path, 6), on_look=seen.append)
    first, *_, last = seen
    assert first == {
        "nodes": 2, "workers": 0, "working": 0, "starting": 2, "lost": 0, "waiting": 0, "dashboard": "http://head:1",
        "trouble": None,
    }  # fmt: skip
    assert last["lost"] == 6 and any(state["waiting"] for state in seen)
    assert {state["workers"] for state in seen} <= {0, 1, 2} and all(s["working"] <= s["workers"] for s in seen)


def test_a_node_with_another_version_gets_no_work(tmp_path, monkeypatch, caplog):
    cluster = Cluster(1, 1, versions={0: {"nasnet_keras": "0.0.9"}})
    play(monkeypatch, cluster, oracle_in(tmp_path, 6))
    assert {line["worker"].split("-")[-1] for line in lines(tmp_path, without=())} == {"node1"}
    assert f"the node node0 has nasnet_keras 0.0.9, and the driver {pool.__version__}" in caplog.text
    assert len(cluster.actors) == 2
    with pytest.raises(ConnectionError, match="no worker for 10 s: the node node0 has nasnet_keras 0.0.9"):
        play(monkeypatch, Cluster(1, versions={0: {"nasnet_keras": "0.0.9"}}), oracle_in(tmp_path / "none", 6))


def test_a_node_with_another_python_gets_no_work(tmp_path, monkeypatch):
    own = pool._versions()["Python"]
    with pytest.raises(ConnectionError, match=f"the node node0 has Python 3.9, and the driver {own}"):
        play(monkeypatch, Cluster(1, versions={0: {"Python": "3.9"}}), oracle_in(tmp_path, 6))


def test_without_room_the_search_says_what_is_missing_and_ends(tmp_path, monkeypatch, caplog):
    cluster = Cluster(2)
    with pytest.raises(ConnectionError, match="no worker for 60 s: a child needs 4 CPUs and 1 GPUs, .* has 2 and 0"):
        play(monkeypatch, cluster, oracle_in(tmp_path, 6), cpus=4, gpus=1, patience=60)
    assert "waiting up to 60 s for a worker: a child needs 4 CPUs" in caplog.text
    cluster = Cluster(0)
    cluster.wait, wait = lambda *a, **k: (cluster.now > 30 and cluster.join(1), wait(*a, **k))[1], cluster.wait
    play(monkeypatch, cluster, oracle_in(tmp_path, 6), patience=60)
    assert len(lines(tmp_path)) == 6


def test_an_unfit_node_gets_no_work_and_is_not_tried_for_ever(tmp_path, monkeypatch, caplog):
    """One where an actor starts, and cannot load what the trials need: a folder is missing, or a GPU's memory full."""
    for workers in (None, 3):
        cluster = Cluster(1, 1, child=lambda trial_id, attempt: ["dies"] if attempt == 1 else [done(0.5)])
        cluster.unfit = {0}
        play(monkeypatch, cluster, oracle_in(tmp_path / str(workers), 30), workers=workers)
        assert {line["worker"].split("-")[-1] for line in lines(tmp_path / str(workers), without=())} == {"node1"}
        assert sum(actor.node == 0 for actor in cluster.actors) == pool.STARTS + 1
    assert "could not be started on node0: The actor died" in caplog.text
    assert "on node0 is refused: The actor died" in caplog.text


def test_only_where_every_node_is_unfit_the_search_ends(tmp_path, monkeypatch):
    cluster = Cluster(1, 2)
    cluster.unfit = {0, 1}
    with pytest.raises(ConnectionError, match="no worker can be started: The actor died"):
        play(monkeypatch, cluster, oracle_in(tmp_path, 6))
    assert len(cluster.actors) < 3 * (pool.STARTS + 2)


def test_a_node_whose_actors_die_before_they_say_where_they_are_does_not_end_the_search(tmp_path, monkeypatch):
    cluster = Cluster(1, 1)
    cluster.mute = {0}
    play(monkeypatch, cluster, oracle_in(tmp_path, 40))
    assert {line["worker"].split("-")[-1] for line in lines(tmp_path, without=())} == {"node1"}
    assert sum(actor.node == 0 for actor in cluster.actors) <= pool.STARTS + 1


def test_a_node_without_the_package_is_named(tmp_path, monkeypatch):
    cluster = Cluster(1, 1, versions={0: {"wrong": "ModuleNotFoundError: No module named 'nasnet_keras'"}})
    seen = []
    play(monkeypatch, cluster, oracle_in(tmp_path, 6), on_look=seen.append)
    assert seen[-1]["trouble"].endswith(
        "on node0 is refused: the node node0 has no nasnet_keras that runs: "
        "ModuleNotFoundError: No module named 'nasnet_keras'"
    )


def test_an_actor_answers_where_the_package_is_not_there(monkeypatch):
    """Its class travels itself: where it had to be imported, the actor would die before it could say anything."""
    node = SimpleNamespace(get_node_id=lambda: "id7")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get_runtime_context=lambda: node))
    kind = ray_pool._actor()
    assert "<locals>" in kind.__qualname__ and kind.__mro__[1:] == (object,)
    told = json.loads(kind([], {}).about())
    assert told["node"] == "id7" and told["nasnet_keras"] == pool.__version__ and "wrong" not in told
    monkeypatch.setitem(sys.modules, "nasnet_keras.search.distributed.pool", None)
    told = json.loads(kind([], {}).about())
    assert told["node"] == "id7" and told["host"] and told["wrong"].startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize("refused", ["versions", "unfit"])
def test_the_places_of_a_node_that_is_replaced_are_given_back(tmp_path, monkeypatch, refused):
    cluster, seen = Cluster(2, 1, versions={0: {"nasnet_keras": "0.0.9"}} if refused == "versions" else {}), []
    cluster.unfit = {0} if refused == "unfit" else set()
    oracle = oracle_in(tmp_path, 60)
    oracle.on_finished = lambda trials: len(trials) == 20 and (cluster.lose(0), cluster.join(2))
    play(monkeypatch, cluster, oracle, on_look=lambda state: seen.append(state["workers"]))
    assert max(seen) == 3 and max(seen[:20]) == 1
    assert {line["worker"].split("-")[-1] for line in lines(tmp_path, without=())} == {"node1", "node2"}


def test_workers_that_cannot_be_started_end_the_search(tmp_path, monkeypatch):
    cluster = Cluster(2)
    cluster._new, new = lambda environment: setattr(actor := new(environment), "alive", False) or actor, cluster._new
    with pytest.raises(ConnectionError, match="no worker can be started: The actor died"):
        play(monkeypatch, cluster, oracle_in(tmp_path, 6))
    assert len(cluster.actors) < 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_whatever_ends_the_driver_everything_is_saved_and_the_nodes_are_released(tmp_path, monkeypatch, error):
    cluster, append = Cluster(2), log.Log.append

    def full(self, value):
        if self.path.name == "trials.jsonl" and value["number"] >= 4:
            raise error
        append(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "append", full)
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            play(monkeypatch, cluster, oracle_in(tmp_path, 10))
    assert all(actor.is_over for actor in cluster.actors) and 0 < len(lines(tmp_path)) < 10
    play(monkeypatch, Cluster(2), oracle_in(tmp_path, 10))
    assert sorted(line["number"] for line in lines(tmp_path)) == list(range(10))


def test_engines_by_name():
    assert engine_of("here") is None and engine_of(None) is None
    assert engine_of("ray") == Engine() and engine_of("ray://auto").address == "auto"
    assert engine_of("ray://head.example.org:10001", workers=3) == Engine("head.example.org:10001", 3)
    for text in ("dask", "ray:", "ray://", "ray://nowhere", "ray://host:", "ray://:1", "http://host:1", 3):
        with pytest.raises(ValueError, match="`engine` must be here, ray or ray://HOST:PORT. Received: "):
            engine_of(text)
    for name, value in (("workers", 0), ("cpus", 0), ("gpus", 1.5), ("gpus", -1), ("gpus", "1"), ("patience", 0)):
        with pytest.raises(ValueError, match=f"`{name}`"):
            Engine(**{name: value})


def test_without_ray_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setattr(ray_pool, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`ray` is not installed: pip install nasnet_keras\[ray\]"):
        Engine().check_installed()


def test_an_address_that_nobody_answers_is_said_soon(monkeypatch):
    monkeypatch.setattr(ray_pool, "find_spec", lambda name: True)
    with pytest.raises(ConnectionError, match="no Ray cluster answers at 127.0.0.1:9"):
        Engine("127.0.0.1:9").place(None, None).__enter__()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConnectionError, match="no Ray cluster answers at 127.0.0.1:9"):
        Engine().place(None, None).__enter__()


def test_a_cluster_is_asked_past_a_proxy(monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(ray_pool, "ANSWER", 5.0)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert ray_pool._is_client_server(f"127.0.0.1:{port}") is False  # it knows no verb at all
        await_chief(Role("w", port=port), patience=5)
    finally:
        server.stop(None)


def test_an_address_that_takes_calls_and_does_not_answer(monkeypatch):
    monkeypatch.setattr(ray_pool, "find_spec", lambda name: True)
    monkeypatch.setattr(ray_pool, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address}"):
            Engine(address).place(None, None).__enter__()


class Clumsy:
    """A real child for real actors: its reward is its seed; the third takes its process with it, the first time."""

    def __init__(self, folder):
        self.folder = str(folder)

    def evaluate(self, genotype, data, seed, on_epoch):
        for epoch in (1, 2):
            if on_epoch(epoch, seed / 2**32):
                break
        marks = os.listdir(self.folder)
        open(os.path.join(self.folder, f"{len(marks)}-{seed}"), "w").close()
        if len(marks) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return {
            "reward": seed / 2**32,
            "parameters": len(data["images"]),
            "threads": int(os.environ["OMP_NUM_THREADS"]),
        }


@pytest.mark.long
def test_on_a_real_cluster_a_killed_actor_loses_and_doubles_nothing(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    # Where the nodes find this module, with the child in it, and the package.
    places = [Path(__file__).parent, Path(ray_pool.__file__).parents[3]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    rules, folder, seen = (Replay(), MedianStop(trials=100)), tmp_path / "marks", []
    folder.mkdir()
    oracle = oracle_in(tmp_path / "s", 10, rules=rules)
    children = Children(Clumsy(folder), SPACE, rules, 3)
    with Engine(workers=2).place(children, {"images": [1, 2, 3]}) as place:
        run_trials(oracle, place, on_look=seen.append)
    found = lines(tmp_path / "s", without=())
    assert sorted(line["number"] for line in found) == list(range(10))
    assert {line["status"] for line in found} == {"COMPLETED"}
    assert {line["parameters"] for line in found if "replayed" not in line} == {3}
    assert all(line["metrics"]["threads"] == 1 and len(line["curve"]) == 2 for line in found if "replayed" not in line)
    attempts = [json.loads(line) for line in (tmp_path / "s/controller/attempts.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in attempts] == [1, 2] and attempts[0]["worker"] is None
    assert seen[-1]["lost"] == 1 and seen[-1]["nodes"] == 1
    page, has_one = seen[-1]["dashboard"], find_spec("aiohttp_cors") is not None  # which ray[default] brings
    assert page.startswith("http://") if has_one else page is None


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of this machine with two CPUs, started by Ray's own command."""
    pytest.importorskip("ray")
    ray = Path(sys.executable).with_name("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(ray_pool.__file__).parents[3]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    process = subprocess.Popen([ray, "start", *words], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.5)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


@pytest.mark.long
def test_from_the_command_line_an_interrupted_search_gives_its_nodes_back_and_goes_on(tmp_path, cluster):
    import ray

    words = ["search", "--limit", "100", "--max-trials", "6", "--blocks", "1", "--filters", "2", "--no-final"]
    words += ["--engine", "ray", "--directory", str(tmp_path / "s")]
    command = [sys.executable, "-m", "nasnet_keras.cli", *words]
    first, log = subprocess.Popen(command, stderr=subprocess.PIPE, text=True), tmp_path / "s/trials.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text()) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130 and "run the same command again" in said and "Traceback" not in said
    assert 0 < len(log.read_text().splitlines()) < 6
    ray.init(address=cluster, logging_level="ERROR")
    try:
        while (free := ray.available_resources().get("CPU", 0)) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert free == 2
    finally:
        ray.shutdown()
    assert subprocess.run(command, capture_output=True, timeout=240).returncode == 0
    assert sorted(line["number"] for line in lines(tmp_path / "s")) == list(range(6))


@pytest.mark.long
def test_a_real_cluster_without_the_asked_gpus_is_said(tmp_path, cluster):
    words = ["search", "--limit", "100", "--max-trials", "2", "--no-final", "--directory", str(tmp_path / "s")]
    words += ["--engine", f"ray://{cluster}", "--child-gpus", "1", "--patience", "3"]
    command = [sys.executable, "-m", "nasnet_keras.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "no worker for 3 s: a child needs 1 CPUs and 1 GPUs, and the cluster has 2 and 0 in all" in done.stderr
