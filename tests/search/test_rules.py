"""The rules between child and strategy: each by itself, together in an oracle, and after a restart."""

import json
import os
import statistics
from dataclasses import dataclass

import keras_tuner
import numpy as np
import pytest

from nasnet_keras.genotype import Genotype, canonical_name
from nasnet_keras.pictures.report import search_report
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import (
    FailurePenalty,
    Limits,
    MedianStop,
    Memory,
    Replay,
    Rule,
    SoftTarget,
    check_rules,
)
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.trials import state as state_module
from nasnet_keras.search.tuner import NASNetTuner

SMALL = SearchSpace(blocks=1, operations=("identity", "conv_3x3"), combinations=("add",))  # 256 strings, 100 networks


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder, rules, max_trials=150, space=SMALL, strategy="random", seed=0, **kwargs):
    oracle = NASNetOracle(max_trials, space=space, strategy=strategy, seed=seed, rules=rules, **kwargs)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def lines(folder, without=("seconds",)):
    text = (folder / "trials.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in without} for line in text]


def run(oracle, reward=None, limit=None, **metrics):
    """Trials until the end; a trial's reward is its number unless given."""
    trained = []
    while (limit is None or len(trained) < limit) and (trial := oracle.create_trial("w")).status == "RUNNING":
        trained.append(trial.trial_id)
        oracle.update_trial(trial.trial_id, {"reward": int(trial.trial_id) if reward is None else reward, **metrics})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return trained


def test_a_network_is_trained_once_and_its_reward_repeated(tmp_path):
    trained = run(make(tmp_path, (Replay(),)))
    found = lines(tmp_path)
    assert len(found) == 150 and len(trained) < 100
    by_network = {}
    for line in found:
        by_network.setdefault(canonical_name(Genotype.from_dict(line["genotype"])), []).append(line)
    assert len(by_network) == len(trained)
    for same in by_network.values():
        assert len({line["reward"] for line in same}) == 1
        assert [line.get("replayed") for line in same] == [None] + [same[0]["trial_id"]] * (len(same) - 1)
    written = {json.dumps(line["genotype"]) for line in found}
    assert len(written) > len(by_network)  # isomorphic cells were recognised, not only equal ones


@pytest.mark.parametrize("strategy", ["rl", "evolution"])
def test_with_rules_too_resumption_is_exact(tmp_path, strategy, rng):
    settings = {
        "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=7, learning_rate=0.01),
        "evolution": EvolutionSettings(population=10, sample=4),
    }[strategy]
    rules = (Replay(), SoftTarget(50, "parameters"), MedianStop(trials=5), FailurePenalty(-1.0))

    def step(oracle):
        trial = oracle.create_trial("w")
        if trial.status == "STOPPED":
            return False
        value = int(SMALL.decode_values(trial.hyperparameters.values).digest, 16) % 1000 / 1000
        status = oracle.update_trial(trial.trial_id, {"progress": value}, 1).status
        if status == "RUNNING":
            oracle.update_trial(trial.trial_id, {"progress": value + 0.1}, 2)
        reward = float("nan") if value < 0.1 else value
        oracle.update_trial(trial.trial_id, {"reward": reward, "parameters": 1 + int(value * 100)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        return True

    straight = make(tmp_path / "straight", rules, strategy=strategy, settings=settings)
    while step(straight):
        pass
    oracle = make(tmp_path / "broken", rules, strategy=strategy, settings=settings)
    going = True
    while going:
        if rng.random() < 0.15:
            oracle.create_trial("w")  # and killed with it
        if rng.random() < 0.3:
            oracle = make(tmp_path / "broken", rules, strategy=strategy, settings=settings)
        going = step(oracle)
    found = lines(tmp_path / "broken")
    assert found == lines(tmp_path / "straight") and len(found) == 150
    assert {len(line["curve"]) for line in found if "curve" in line} == {1, 2}
    assert any("replayed" in line for line in found) and any(line["status"] == "FAILED" for line in found)


def test_replay_ends_where_a_space_is_exhausted(tmp_path):
    trained = run(make(tmp_path, (Replay(),), max_trials=None))
    assert 50 < len(trained) <= 100


@pytest.mark.parametrize("max_trials", [None, 100_000])
def test_an_exhausted_space_ends_the_search_for_good(tmp_path, max_trials, monkeypatch):
    assert state_module.EXHAUSTED == 1000
    monkeypatch.setattr(state_module, "EXHAUSTED", 150)
    oracle = make(tmp_path, (Replay(),), max_trials=max_trials)
    run(oracle)
    log = (tmp_path / "trials.jsonl").read_bytes()
    row = [("replayed" in line) for line in lines(tmp_path)][::-1].index(False)
    assert row == 150 and log.count(b"\n") < 3000
    assert state_module.is_exhausted(lines(tmp_path)) and not state_module.is_exhausted(lines(tmp_path)[:-1])
    for again in (oracle, make(tmp_path, (Replay(),), max_trials=max_trials)):
        assert again.is_done() and again.trials_to_train() == 0
        assert [again.create_trial(name).status for name in "vw"] == ["STOPPED"] * 2
    assert (tmp_path / "trials.jsonl").read_bytes() == log


def test_without_replay_nothing_is_exhausted(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "EXHAUSTED", 20)
    space = SearchSpace(blocks=1, operations=("identity",), combinations=("add",))
    assert len(run(make(tmp_path, (), space=space, max_trials=60))) == 60


def test_what_a_rule_refuses_is_not_tried_again(tmp_path):
    oracle = make(tmp_path, (SoftTarget(2.0),), max_retries_per_trial=3)
    assert len(run(oracle, reward=0.5, limit=2)) == 2
    assert ["`multiply_adds` must be reported" in line["reason"] for line in lines(tmp_path)] == [True] * 2


def test_failures_are_not_replayed(tmp_path):
    space = SearchSpace(blocks=1, operations=("identity",), combinations=("add",))
    trained = run(make(tmp_path, (Replay(),), space=space, max_trials=20), reward=float("nan"))
    assert len(trained) == 20


@pytest.mark.parametrize(
    ("limits", "sizes", "reason"),
    [
        (Limits(10, 20), {"parameters": 10, "multiply_adds": 20}, None),
        (Limits(10, 20), {"parameters": 11, "multiply_adds": 0}, "`parameters` must be at most 10. Received: 11"),
        (Limits(None, 20), {"parameters": 11, "multiply_adds": 2100}, "`multiply_adds` must be at most 20. .* 2,100"),
        (Limits(), {"parameters": 1, "multiply_adds": 1}, None),
    ],
)
def test_limits(limits, sizes, reason):
    refusal = limits.refusal(sizes)
    assert refusal is None if reason is None else __import__("re").search(reason, refusal)


def test_mnasnet_s_target():
    """Equation 2 by hand: twice the target costs 2^-0.07, about 5%."""
    target = SoftTarget(100, "latency")
    assert target.shaped(0.8, {"latency": 100.0}) == 0.8
    assert target.shaped(0.8, {"latency": 200.0}) == pytest.approx(0.8 * 0.95264, rel=1e-4)
    assert target.shaped(0.8, {"latency": 50.0}) == pytest.approx(0.8 * 1.04972, rel=1e-4)
    for metrics in ({}, {"latency": 0.0}):
        with pytest.raises(ValueError, match="`latency` must be reported"):
            target.shaped(0.8, metrics)


def test_a_target_shapes_the_reward_and_keeps_the_accuracy(tmp_path):
    oracle = make(tmp_path, (SoftTarget(1000, "parameters", -0.5),), max_trials=3)
    run(oracle, 0.8, limit=1, parameters=4000)
    run(oracle, 0.6, limit=1, parameters=1000)
    run(oracle, 0.6, limit=1)
    first, second, third = lines(tmp_path)
    assert (first["reward"], first["metrics"]) == (pytest.approx(0.4), {"raw_reward": 0.8})
    assert (second["reward"], second["metrics"]) == (0.6, {})
    assert third["status"] == "FAILED" and "`parameters` must be reported" in third["reason"]
    assert third["reward"] is None and third["metrics"] == {"raw_reward": 0.6}
    for again in (oracle, make(tmp_path, (SoftTarget(1000, "parameters", -0.5),), max_trials=3)):
        assert [trial.trial_id for trial in again.get_best_trials(2)] == ["00001", "00000"]
        assert [trial.score for trial in again.get_best_trials(2)] == [0.6, pytest.approx(0.4)]


def test_a_penalty_teaches_what_a_failure_does_not(tmp_path):
    told = {}
    for name, rules in (("none", ()), ("penalty", (FailurePenalty(-2.0),))):
        oracle = make(tmp_path / name, rules, strategy="evolution", max_trials=5)
        run(oracle, float("nan"))
        told[name] = [reward for _, reward in oracle.strategy._population]
        assert lines(tmp_path / name)[0]["reward"] is None
    assert told == {"none": [], "penalty": [-2.0] * 5}


def test_the_median_rule_by_hand():
    memory, rule = Memory(), MedianStop(epochs=2, trials=3)
    for curve in ([0.1, 0.3], [0.2, 0.6], [0.5, 0.9]):  # means up to epoch 2: 0.2, 0.4, 0.7
        memory.add({"reward": 1.0, "curve": curve})
    assert memory.means_at(2) == pytest.approx([0.2, 0.4, 0.7])
    assert not rule.is_hopeless({1: 0.0}, memory)  # too early
    assert rule.is_hopeless({1: 0.1, 2: 0.39}, memory)
    assert not rule.is_hopeless({1: 0.1, 2: 0.41}, memory)
    assert not rule.is_hopeless({1: 0.5, 2: 0.1}, memory)  # its best counts
    assert not rule.is_hopeless({1: 0.1, 3: 0.1}, memory)  # nobody has trained so far
    memory.add({"reward": None, "curve": [0.6, 0.6]})  # an even number: 0.5 between 0.4 and 0.6
    assert statistics.median(memory.means_at(2)) == pytest.approx(0.5)
    assert rule.is_hopeless({2: 0.49}, memory) and not rule.is_hopeless({2: 0.51}, memory)
    assert not MedianStop(epochs=1, trials=5).is_hopeless({2: 0.0}, memory)


def test_rules_belong_to_a_search(tmp_path):
    run(make(tmp_path, (Replay(), FailurePenalty()), max_trials=2))
    with pytest.raises(ValueError, match="`rules` must be .*FailurePenalty"):
        make(tmp_path, (Replay(),)).reload()
    with pytest.raises(ValueError, match="`rules`"):
        make(tmp_path, ()).reload()


@pytest.mark.parametrize("rules", [(1,), (Replay(), Replay()), (Replay,), Replay(), None, 3])
def test_bad_rules(rules):
    with pytest.raises(ValueError, match="`rules` must be `Rule` objects, each of another kind"):
        check_rules(rules)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Limits(0), "max_parameters"),
        (lambda: Limits(None, 1.5), "max_multiply_adds"),
        (lambda: SoftTarget(0), "target"),
        (lambda: SoftTarget(float("inf")), "target"),
        (lambda: SoftTarget(1, exponent=0.1), "exponent"),
        (lambda: MedianStop(0), "epochs"),
        (lambda: MedianStop(1, 0), "trials"),
        (lambda: FailurePenalty(float("nan")), "reward"),
        (lambda: NASNetOracle(3, hours=0), "hours"),
        (lambda: NASNetOracle(3, max_attempts=0), "max_attempts"),
    ],
)
def test_bad_settings(make, named):
    with pytest.raises(ValueError, match=f"`{named}`.*Received: "):
        make()


def test_a_rule_of_one_s_own(tmp_path):
    @dataclass(frozen=True)
    class Halve(Rule):
        factor: float = 0.5

        def shaped(self, reward, metrics):
            return reward * self.factor

    run(make(tmp_path, (Halve(),), max_trials=1), 0.5)
    assert lines(tmp_path)[0]["reward"] == 0.25
    assert json.loads((tmp_path / "search.json").read_text())["rules"] == [{"rule": "Halve", "factor": 0.5}]


def test_a_rule_that_is_no_dataclass_is_known_by_its_public_attributes(tmp_path):
    class Times(Rule):
        def __init__(self, factor):
            self.factor, self._seen, self.log = factor, 0, print

        def shaped(self, reward, metrics):
            return reward * self.factor

    run(make(tmp_path, (Times(np.float32(0.5)),), max_trials=1), 0.5)
    assert lines(tmp_path)[0]["reward"] == 0.25
    assert json.loads((tmp_path / "search.json").read_text())["rules"] == [{"rule": "Times", "factor": 0.5}]
    with pytest.raises(ValueError, match="`rules` must be"):
        make(tmp_path, (Times(3.0),)).reload()


def test_how_many_trials_a_run_will_train(tmp_path):
    oracle = make(tmp_path, (), max_trials=5, hours=1)
    assert oracle.trials_to_train() == 5
    one, _ = oracle.create_trial("v"), oracle.create_trial("w")
    assert oracle.trials_to_train() == 5
    oracle.update_trial(one.trial_id, {"reward": 0.5})
    one.status = "COMPLETED"
    oracle.end_trial(one)
    assert oracle.trials_to_train() == 4
    oracle._ends_at = float("-inf")
    assert oracle.trials_to_train() == 1 and not oracle.is_done()
    oracle.take_back("00001")  # its worker is lost: no other will get it in this run
    assert oracle.trials_to_train() == 0 and oracle.is_done()
    fewer = make(tmp_path, (), max_trials=1)
    assert fewer.trials_to_train() == 1  # of two that were begun one is left
    assert make(tmp_path / "endless", (), max_trials=None).trials_to_train() == float("inf")


def test_hours_end_a_run_and_the_next_goes_on(tmp_path, monkeypatch):
    from nasnet_keras.search import oracle as module

    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    oracle = make(tmp_path, (), hours=0.5)
    assert len(run(oracle, limit=3)) == 3
    trial = oracle.create_trial("w")
    now[0] += 1799
    assert oracle.create_trial("other").status == "RUNNING"
    now[0] += 2
    assert oracle.create_trial("late").status == "STOPPED" and not oracle.is_done()
    for one in ("00003", "00004"):  # what is running may end
        oracle.update_trial(one, {"reward": 1.0})
        trial = oracle.get_trial(one)
        oracle.end_trial(trial)
    assert oracle.is_done() and len(lines(tmp_path)) == 5
    assert len(run(make(tmp_path, (), hours=0.5), limit=2)) == 2


class Data:
    """As much of a data set as a tuner asks for."""

    class_names, image_shape, train, digest = ["a", "b"], (8, 8, 1), range(10), None


class Measured:
    """A child with sizes and epochs that costs nothing."""

    trained = 0

    def sizes(self, genotype, data):
        return {"parameters": int(genotype.digest, 16) % 100, "multiply_adds": 1}

    def evaluate(self, genotype, data, seed, on_epoch=None):
        self.trained += 1
        accuracy = seed / 2**32
        for epoch in range(1, 5):
            if on_epoch and on_epoch(epoch, accuracy):
                break
        return {"reward": accuracy, **self.sizes(genotype, data), "epochs": epoch}


def test_a_tuner_asks_the_limits_before_it_trains(tmp_path):
    child = Measured()
    oracle = make(tmp_path, (Limits(max_parameters=49),), space=SearchSpace(), max_trials=30)
    NASNetTuner(oracle, child, directory=str(tmp_path), project_name=".").search(Data)
    failed = [line for line in lines(tmp_path) if line["status"] == "FAILED"]
    assert 5 < len(failed) < 25 and child.trained == 30 - len(failed)
    assert all(line["reason"].startswith("ValueError: `parameters` must be at most 49. Rec") for line in failed)


def test_a_tuner_stops_what_is_hopeless(tmp_path):
    oracle = make(tmp_path, (MedianStop(trials=4),), space=SearchSpace(), max_trials=40)
    NASNetTuner(oracle, Measured(), directory=str(tmp_path), project_name=".").search(Data)
    epochs = np.array([line["metrics"]["epochs"] for line in lines(tmp_path)])
    assert (epochs[:4] == 4).all() and {1, 4} <= set(epochs) and 8 < (epochs < 4).sum() < 36


def test_a_failing_child_prints_nothing(tmp_path, capfd):
    class Broken:
        def evaluate(self, genotype, data, seed):
            raise MemoryError("no room")

    NASNetTuner(make(tmp_path, (), max_trials=2), Broken(), directory=str(tmp_path), project_name=".").search(Data)
    assert [line["reason"] for line in lines(tmp_path)] == ["MemoryError: no room"] * 2
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err


def test_the_objective_of_a_loss_is_told_its_sign(tmp_path):
    objective = keras_tuner.Objective("val_loss", "min")
    oracle = make(tmp_path, (FailurePenalty(-9.0),), strategy="evolution", max_trials=2, objective=objective)
    for loss in (0.5, float("nan")):
        trial = oracle.create_trial("w")
        oracle.update_trial(trial.trial_id, {"val_loss": loss})
        oracle.end_trial(trial)
    assert [reward for _, reward in oracle.strategy._population] == [-0.5, -9.0]


@pytest.mark.parametrize("penalty", [0.0, 0, 3])
def test_what_would_steer_a_loss_the_wrong_way_is_told(penalty, tmp_path, caplog):
    kinds = {
        "min": (FailurePenalty(penalty), SoftTarget(9), FailurePenalty(-0.5), Limits(9), Replay()),
        "max": (FailurePenalty(penalty), SoftTarget(9)),
    }
    told = [[rule.remark(direction) is not None for rule in rules] for direction, rules in kinds.items()]
    assert told == [[True, True, False, False, False], [False, False]]
    rules, objective = (Replay(), FailurePenalty(penalty)), keras_tuner.Objective("val_loss", "min")
    oracle = NASNetOracle(2, objective=objective, strategy="random", rules=rules)
    oracle._set_project_dir(tmp_path, "s")
    oracle.finished_trials()
    oracle.finished_trials()
    assert [message for message in caplog.messages if "failures with FailurePenalty" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_repeated_trial_is_not_among_the_best(tmp_path):
    oracle = make(tmp_path, (Replay(),))
    trained = run(oracle)
    assert len(oracle.finished_trials()) == 150
    best = [trial.trial_id for trial in oracle.get_best_trials(150)]
    assert best[: len(trained)] == trained[::-1] and len(best) == 150  # repeats follow only where there are too few
    oracle.close()
    again = make(tmp_path, (Replay(),))
    assert [trial.trial_id for trial in again.get_best_trials(150)] == best
    shown = search_report(again.finished_trials())
    rows = shown[shown.index("Best trials") :].split('<tr class="first"><td>')[1:11]
    assert [row.split("<td>")[1].split("<")[0] for row in rows] == best[:10]


def test_what_is_reported_above_a_limit_fails_whoever_trained_it(tmp_path, caplog):
    oracle = make(tmp_path, (Limits(max_parameters=9, max_multiply_adds=9),), max_trials=4)
    for sizes in ({"parameters": 9, "multiply_adds": 9}, {"parameters": 10, "multiply_adds": 1}):
        run(oracle, limit=1, **sizes)
    assert "does nothing" not in caplog.text
    run(oracle, limit=2, parameters=3)
    reasons = [line["reason"] for line in lines(tmp_path)]
    assert reasons == [None, "`parameters` must be at most 9. Received: 10", None, None]
    told = [record.getMessage() for record in caplog.records if "does nothing" in record.getMessage()]
    assert told == ["`Limits` does nothing: trials report no `multiply_adds`"]


def test_a_rule_that_is_told_of_no_progress_says_so_once(tmp_path, caplog):
    oracle = make(tmp_path, (MedianStop(), Replay()), max_trials=4)
    trial = oracle.create_trial("w")
    trial.status, trial.message = "FAILED", "an accident"
    oracle.end_trial(trial)
    trial = oracle.create_trial("w")
    oracle.update_trial(trial.trial_id, {"progress": 0.5}, 1)
    oracle.update_trial(trial.trial_id, {"reward": 0.5})
    oracle.end_trial(trial)
    assert "does nothing" not in caplog.text
    run(oracle)
    assert caplog.text.count("`MedianStop` does nothing: trials report no `progress`") == 1


def test_sizes_that_were_asked_for_are_kept_and_no_rule_is_said_to_do_nothing(tmp_path, caplog):
    @dataclass(frozen=True)
    class Sized:
        def sizes(self, genotype, data):
            return {"parameters": 5, "multiply_adds": 7}

        def evaluate(self, genotype, data, seed):
            return {"reward": 0.5}

    oracle = NASNetOracle(2, space=SMALL, strategy="random", seed=0, rules=(Limits(max_parameters=5),))
    NASNetTuner(oracle, Sized(), directory=str(tmp_path), project_name=".").search(object())
    assert [(line["parameters"], line["multiply_adds"]) for line in lines(tmp_path)] == [(5, 7)] * 2
    assert "does nothing" not in caplog.text
    for metric, cost in (("parameters", 5), ("multiply_adds", 7)):
        oracle = NASNetOracle(1, space=SMALL, strategy="random", seed=0, rules=(SoftTarget(10, metric, -1.0),))
        NASNetTuner(oracle, Sized(), directory=str(tmp_path), project_name=metric).search(object())
        assert oracle.finished_trials()[0]["reward"] == pytest.approx(0.5 * 10 / cost)


def test_a_sum_of_objectives_is_known_by_its_parts(tmp_path, caplog):
    def several(*names):
        objective = [keras_tuner.Objective(*name) for name in names]
        return make(tmp_path, (), max_trials=2, objective=objective)

    first = several(("accuracy", "max"), ("cost", "min"))
    trial = first.create_trial("w")
    first.update_trial(trial.trial_id, {"accuracy": 0.5, "cost": 3.0})
    first.end_trial(trial)
    several(("cost", "min"), ("accuracy", "max")).reload()
    for others in (
        [("accuracy", "max"), ("latency", "min")],
        [("accuracy", "max")],
        [("accuracy", "max"), ("cost", "max")],
    ):
        with pytest.raises(ValueError, match="`objective.* must be "):
            several(*others).reload()
    assert "does not say" not in caplog.text
    header = json.loads((tmp_path / "search.json").read_text())  # as an earlier version wrote it
    del header["objective"]["objectives"]
    (tmp_path / "search.json").write_text(json.dumps(header))
    several(("accuracy", "max"), ("cost", "min")).reload()
    assert "does not say which objectives it was begun with, and goes on with accuracy, cost" in caplog.text
