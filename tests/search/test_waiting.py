"""A network that a worker has already is waited for and not trained a second time."""

import json
import os

import numpy as np
import pytest

from nasnet_keras.search import oracle as oracle_module
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import Replay
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.random_search import RandomSearch

SPACE = SearchSpace(blocks=1)


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Dictated(RandomSearch):
    """Proposes the networks of a list of numbers, over and over."""

    order = (0,)

    def _sample(self, rng):
        number = self.order[self._next % len(self.order)]
        return SPACE.encode(SPACE.sample(number + 1, np.random.default_rng(7))[number]), ()


RULES = (Replay(),)


def make(folder, order, max_trials=12, rules=RULES):
    strategy = Dictated(SPACE)
    strategy.order = order
    oracle = NASNetOracle(max_trials, strategy=strategy, rules=rules)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def end(oracle, trial, reward=0.5, status="COMPLETED"):
    if status == "COMPLETED":
        oracle.update_trial(trial.trial_id, {"reward": reward})
    trial.status = status
    oracle.end_trial(trial)


def lines(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_the_second_of_a_network_gets_the_first_s_reward(tmp_path):
    oracle = make(tmp_path, (0, 0, 1, 2, 3), 5)
    first, other = oracle.create_trial("a"), oracle.create_trial("b")
    assert (first.trial_id, other.trial_id) == ("00000", "00002")  # 00001 waits
    assert set(oracle.open_trials()) == {"00000", "00001", "00002"}
    end(oracle, first, 0.75)
    assert oracle.create_trial("a").trial_id == "00003"
    repeated = lines(tmp_path)[1]
    assert (repeated["trial_id"], repeated["reward"], repeated["replayed"]) == ("00001", 0.75, "00000")


def test_if_the_first_fails_the_second_is_trained_and_the_third_waits_for_it(tmp_path):
    oracle = make(tmp_path, (0, 0, 0, 1, 2), 5)
    first, other = oracle.create_trial("a"), oracle.create_trial("b")
    assert other.trial_id == "00003"
    end(oracle, first, status="FAILED")
    second = oracle.create_trial("a")
    assert second.trial_id == "00001"
    assert oracle.create_trial("c").trial_id == "00004"
    end(oracle, second, 0.25)
    assert oracle.create_trial("a").status == "STOPPED"
    assert [(line["trial_id"], line["reward"]) for line in lines(tmp_path)] == [
        ("00000", None), ("00001", 0.25), ("00002", 0.25),
    ]  # fmt: skip


def test_a_first_that_is_given_out_again_does_not_wait_for_itself(tmp_path):
    oracle = make(tmp_path, (0, 0, 1))
    first = oracle.create_trial("a")
    assert oracle.create_trial("b").trial_id == "00002"
    oracle.on_taken_back = (told := []).append
    oracle.take_back(first.trial_id)
    assert told == [first.trial_id]
    assert oracle.create_trial("c").trial_id == first.trial_id


def test_without_the_rule_both_are_trained(tmp_path):
    oracle = make(tmp_path, (0,), rules=())
    assert [oracle.create_trial(name).trial_id for name in "abc"] == ["00000", "00001", "00002"]


def test_a_controller_that_repeats_itself_does_not_use_up_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_module, "WAITING", 3)
    oracle = make(tmp_path, (0,), None)
    first = oracle.create_trial("a")
    assert [oracle.create_trial("b").status for _ in range(3)] == ["IDLE"] * 3
    assert len(oracle.open_trials()) == 4 and not oracle.is_done()
    end(oracle, first, 0.5)
    assert oracle.create_trial("b").status == "STOPPED"  # exhausted: every network of this strategy is known
    assert {line["reward"] for line in lines(tmp_path)} == {0.5}


def test_what_waited_waits_again_after_a_restart(tmp_path):
    oracle = make(tmp_path, (0, 0, 1), 3)
    for name in "ab":
        oracle.create_trial(name)
    again = make(tmp_path, (0, 0, 1), 3)
    first, other = again.create_trial("a"), again.create_trial("b")
    assert (first.trial_id, other.trial_id) == ("00000", "00002")
    end(again, first, 0.5)
    assert again.create_trial("a").status == "STOPPED"
    end(again, other, 0.25)
    assert again.is_done()
    assert [line["reward"] for line in lines(tmp_path)] == [0.5, 0.5, 0.25]


def test_one_that_is_answered_while_it_waits_has_ended(tmp_path):
    """As by a worker of before a restart, which was given it by a version that trained both."""
    oracle = make(tmp_path, (0, 0, 1, 2))
    first = oracle.create_trial("a")
    assert oracle.create_trial("b").trial_id == "00002"
    end(oracle, oracle.get_trial("00001"), 0.25)
    end(oracle, first, 0.75)
    assert oracle.create_trial("a").trial_id == "00003"
    assert [(line["trial_id"], line["reward"]) for line in lines(tmp_path)] == [("00001", 0.25), ("00000", 0.75)]
