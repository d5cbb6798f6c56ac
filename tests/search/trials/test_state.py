"""What a search knows after a restart is what it knew before, and no number that a child tells ends it."""

import json
import os

import pytest
from free_children import as_another_process

from nasnet_keras.search import directory
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import FailurePenalty, MedianStop, Replay, Rule, SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import make_strategy
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.strategies.random_search import RandomSearch

SPACE = SearchSpace(blocks=2)
SETTINGS = {
    "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=5, learning_rate=0.02),
    "evolution": EvolutionSettings(population=8, sample=4),
    "local": None,
}


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder, strategy="evolution", trials=40, **options):
    oracle = NASNetOracle(trials, strategy=strategy, **options)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def value(genotype):
    return int(genotype.digest, 16) % 1000 / 1000


def run(oracle, count):
    while count and (trial := oracle.create_trial("w")).status == "RUNNING":
        genotype = SPACE.decode_values(trial.hyperparameters.values)
        oracle.update_trial(trial.trial_id, {"reward": value(genotype)})
        oracle.end_trial(trial)
        count -= 1


def lines(folder, name="trials.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_strategy_that_has_learnt_before_resumes_exactly(name, tmp_path, caplog):
    strategy = make_strategy(name, SPACE, 0, SETTINGS[name])

    def learn(count):
        for _ in range(count):
            proposal = strategy.propose()
            strategy.feedback(proposal, value(proposal.decode(SPACE)))

    learn(12)
    run(make(tmp_path / "straight", strategy), 40)
    for count in (7, 15, 2, 9, 40):
        run(make(tmp_path / "broken", strategy), count)
        if count == 2:
            (tmp_path / "broken/controller/state.npz").unlink()
    kept = make(tmp_path / "kept", strategy)
    run(kept, 7)
    learn(9)  # of the strategy that was given, which is the user's
    kept.reload()
    run(kept, 40)
    assert lines(tmp_path / "broken") == lines(tmp_path / "straight") == lines(tmp_path / "kept")
    assert len(lines(tmp_path / "straight")) == 40 and "does not fit" not in caplog.text


def test_a_penalty_of_0_is_0_also_in_a_snapshot(tmp_path, caplog):
    oracle = make(tmp_path, rules=(FailurePenalty(0),), seed=0, space=SPACE)
    trial = oracle.create_trial("w")
    trial.status = "FAILED"
    oracle.end_trial(trial)
    run(oracle, 19)
    assert (tmp_path / "controller/state.npz").exists()
    again = make(tmp_path, rules=(FailurePenalty(0),), seed=0, space=SPACE)
    again.reload()
    assert again.strategy.feedbacks == 20 and "does not fit the log" not in caplog.text


def test_a_progress_that_is_no_number_is_left_out(tmp_path):
    oracle = make(tmp_path, rules=(MedianStop(trials=1),), seed=0, space=SPACE)
    cases = (([0.25, float("nan"), None, float("inf"), "x"], [0.25]), ([None], None))
    for told, curve in (*cases, ([None, 0.25], None)):  # the last tells nothing of the first epochs
        trial = oracle.create_trial("w")
        for epoch, accuracy in enumerate(told, 1):
            assert oracle.update_trial(trial.trial_id, {"progress": accuracy}, epoch).status == "RUNNING"
        oracle.update_trial(trial.trial_id, {"reward": 0.5})
        oracle.end_trial(trial)
        assert lines(tmp_path)[-1]["reward"] == 0.5 and lines(tmp_path)[-1].get("curve") == curve


class Divides(Rule):
    """A rule of a user's own."""

    def shaped(self, reward, metrics):
        return 1 / (metrics["parameters"] - 1)

    def to_dict(self):
        return {"rule": "Divides"}


@pytest.mark.parametrize(
    ("rule", "kind"), [(SoftTarget(10**7, "parameters", -100.0), "OverflowError"), (Divides(), "ZeroDivisionError")]
)
def test_a_rule_whose_formula_breaks_down_fails_the_trial(rule, kind, tmp_path):
    oracle = make(tmp_path, rules=(rule,), seed=0, space=SPACE, max_retries_per_trial=1)
    trial = oracle.create_trial("w")
    oracle.update_trial(trial.trial_id, {"reward": 0.5, "parameters": 1})
    oracle.end_trial(trial)
    (line,) = lines(tmp_path)
    assert line["status"] == "FAILED" and f"a rule cannot shape `reward`: {kind}: " in line["reason"]


class Repeated(RandomSearch):
    """Proposes one network twice, and then others."""

    def _sample(self, rng):
        return tuple(SPACE.random(rng)) if self._next > 1 else (0,) * len(SPACE.decisions), ()


def test_a_trial_that_waited_was_not_given_out_before_a_restart(tmp_path):
    oracle = make(tmp_path, Repeated(SPACE), rules=(Replay(),))
    assert [oracle.create_trial(name).trial_id for name in "ab"] == ["00000", "00002"]  # 00001 waits
    for _ in range(2):
        as_another_process()
        oracle = make(tmp_path, Repeated(SPACE), rules=(Replay(),))
        assert [oracle.create_trial(name).trial_id for name in "ab"] == ["00000", "00002"]
    first = oracle.get_trial("00000")
    first.status = "FAILED"
    oracle.end_trial(first)
    assert oracle.create_trial("a").trial_id == "00001"
    assert [(line["number"], line["attempt"]) for line in lines(tmp_path, "controller/attempts.jsonl")] == [
        (0, 2), (2, 2), (0, 3), (2, 3),
    ]  # fmt: skip


def test_a_run_that_is_ended_on_purpose_is_no_lost_attempt(tmp_path):
    """As by Ctrl-C on more days than a trial may be lost on."""
    for _ in range(7):
        oracle = make(tmp_path, seed=0, space=SPACE)
        assert [oracle.create_trial(name).trial_id for name in "ab"] == ["00000", "00001"]
        oracle.close()
    last = {line["number"]: line["attempt"] for line in lines(tmp_path, "controller/attempts.jsonl")}
    assert last == {0: 0, 1: 0}
    for _ in range(7):  # a cell of a notebook that is run again: no process has ended
        oracle = make(tmp_path, seed=0, space=SPACE)
        assert oracle.create_trial("a").trial_id == "00000"
    oracle.close()
    for _ in range(5):  # killed, which counts, also for the first time
        as_another_process()
        oracle = make(tmp_path, seed=0, space=SPACE)
        assert oracle.create_trial("a").trial_id == "00000"
    as_another_process()
    oracle = make(tmp_path, seed=0, space=SPACE)
    assert oracle.create_trial("a").trial_id == "00001"
    assert lines(tmp_path)[0]["reason"].startswith("given out 5 times")


def test_the_end_of_a_process_that_ran_nothing_itself_counts_against_none(tmp_path):
    """Of workers elsewhere those count that died with their child, and no start takes one of them off."""

    def begin():
        oracle = make(tmp_path, seed=0, space=SPACE)
        oracle.reload(elsewhere=True)
        return oracle

    for lost in range(1, 6):
        for _ in range(3):  # killed while the trial was out
            assert begin().create_trial("a").trial_id == "00000"
        oracle = begin()
        assert oracle.create_trial("a").trial_id == "00000"
        oracle.close()  # Ctrl-C
        for _ in range(3):  # ended before anything was given out
            begin()
        oracle = begin()
        assert oracle.create_trial("a").trial_id == "00000"
        oracle.take_back("00000")
        assert lines(tmp_path, "controller/attempts.jsonl")[-1] == {"number": 0, "attempt": lost, "worker": None}
    assert begin().create_trial("a").trial_id == "00001"
    assert lines(tmp_path)[0]["reason"].startswith("given out 5 times")


def test_what_is_given_back_is_given_out_again_by_the_same_oracle_and_a_lost_folder_is_no_error(tmp_path):
    oracle = make(tmp_path, seed=0, space=SPACE)
    for _ in range(7):
        assert oracle.create_trial("a").trial_id == "00000"
        oracle.give_back()
    oracle.give_back()
    assert oracle.create_trial("a").trial_id == "00000"
    later = make(tmp_path, seed=0, space=SPACE)
    assert later.create_trial("b").trial_id == "00000"
    before = lines(tmp_path, "controller/attempts.jsonl")
    oracle.close()  # the folder is the later one's, and so is the trial
    assert lines(tmp_path, "controller/attempts.jsonl") == before


def test_a_run_of_this_process_is_taken_off_once_and_no_other_s_with_it(tmp_path):
    def begin():
        return make(tmp_path, seed=0, space=SPACE)

    first = begin()
    first.create_trial("a")
    kept = dict(directory._given_out)
    as_another_process()
    begin().create_trial("a")  # which goes on, and is killed
    directory._given_out.update(kept)
    for _ in range(2):
        begin().reload()
    assert lines(tmp_path, "controller/attempts.jsonl") == [{"number": 0, "attempt": 2, "worker": "a"}]


def test_what_was_given_back_here_is_no_run_of_this_process_any_more(tmp_path):
    """Another process may begin the trial as the same run, and die of it each time: those runs count."""
    first = make(tmp_path, seed=0, space=SPACE)
    first.create_trial("a")
    first.close()
    kept = {key: dict(runs) for key, runs in directory._given_out.items()}
    as_another_process()
    make(tmp_path, seed=0, space=SPACE).create_trial("a")  # and is killed
    directory._given_out.update(kept)
    make(tmp_path, seed=0, space=SPACE).reload()
    assert lines(tmp_path, "controller/attempts.jsonl")[-1] == {"number": 0, "attempt": 1, "worker": "a"}
