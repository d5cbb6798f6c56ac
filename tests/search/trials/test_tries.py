"""Genotypes that a search tries before its strategy proposes."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.cli import main
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import canonical_name, load_genotype
from nasnet_keras.search.kerastuner import Trial
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import Replay
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import STRATEGIES
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.predictor import PredictorSettings
from nasnet_keras.search.trials.imported import read_tries
from nasnet_keras.search.tuner import search

OUTSIDE, INSIDE = load_genotype("nasnet_a"), load_genotype("nasnet_a_figure4")
SETTINGS = {
    "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=5),
    "predictor": PredictorSettings(beginning=4, candidates=20),
}


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder, strategy="random", max_trials=16, tries=("nasnet_a", INSIDE), **kwargs):
    oracle = NASNetOracle(max_trials, strategy=strategy, settings=SETTINGS.get(strategy), seed=0, tries=tries, **kwargs)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def run(oracle, limit=10**6):
    while limit and (trial := oracle.create_trial("w")).status == "RUNNING":
        genotype = oracle.space.decode_values(trial.hyperparameters.values)
        oracle.update_trial(trial.trial_id, {"reward": int(genotype.digest, 16) / 2**64})
        oracle.end_trial(trial)
        limit -= 1
    return oracle


def lines(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_one_of_the_two_lies_in_the_papers_space():
    assert SearchSpace().encode(INSIDE)
    with pytest.raises(ValueError, match="normal cell: `concat`"):
        SearchSpace().encode(OUTSIDE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_they_are_the_first_trials_and_resumption_is_exact(strategy, tmp_path, rng):
    straight = run(make(tmp_path / "straight", strategy))
    expected = lines(tmp_path / "straight")
    assert [line["number"] for line in expected] == list(range(16))
    assert [line["canonical"] for line in expected[:2]] == [canonical_name(OUTSIDE), canonical_name(INSIDE)]
    assert expected[0]["genotype"] == OUTSIDE.to_dict()
    assert straight.strategy.feedbacks == 16
    for limit in (0, 1, 1, 3, 100):
        oracle = make(tmp_path / "broken", strategy)
        if limit:
            run(oracle, limit)
        oracle.create_trial("w")  # killed while this one runs
        (tmp_path / "broken/controller/state.npz").unlink(missing_ok=True)
    assert lines(tmp_path / "broken") == expected


def test_one_outside_teaches_nothing_and_one_inside_does(tmp_path):
    oracle = make(tmp_path, "evolution", 2)
    run(oracle, 1)
    assert (oracle.strategy.feedbacks, oracle.strategy.version) == (1, 0)
    run(oracle)
    assert (oracle.strategy.feedbacks, oracle.strategy.version) == (2, 1)
    assert oracle.get_best_trials()[0].score == max(line["reward"] for line in lines(tmp_path))


def test_it_travels_to_workers_elsewhere(tmp_path):
    oracle = make(tmp_path)
    for genotype in (OUTSIDE, INSIDE):
        trial = oracle.create_trial(genotype.name)
        there = Trial.from_proto(trial.to_proto())
        assert oracle.space.decode_values(there.hyperparameters.values) == genotype
        assert oracle.space.decode_values(json.loads(json.dumps(trial.hyperparameters.values))) == genotype


def test_a_network_that_is_tried_twice_is_trained_once(tmp_path):
    run(make(tmp_path, tries=(OUTSIDE, INSIDE, "nasnet_a"), rules=(Replay(),)))
    assert lines(tmp_path)[2]["replayed"] == "00000"


def test_lost_proposals_are_made_again(tmp_path):
    run(make(tmp_path), 5)
    (tmp_path / "controller/proposals.jsonl").write_text("")
    (tmp_path / "controller/state.npz").unlink(missing_ok=True)
    run(make(tmp_path))
    assert lines(tmp_path)[0]["genotype"] == OUTSIDE.to_dict() and len(lines(tmp_path)) == 16


@pytest.mark.parametrize(
    "tries", [(), ("nasnet_a",), ("nasnet_a", INSIDE, "tiny"), ("tiny", INSIDE), (INSIDE, OUTSIDE)]
)
def test_others_are_refused_where_a_search_goes_on(tries, tmp_path):
    run(make(tmp_path), 3)
    with pytest.raises(ValueError, match="`(try|tries)` must be .*"):
        run(make(tmp_path, tries=tries))


@pytest.mark.parametrize("is_older", [False, True])
def test_a_search_goes_on_with_those_that_it_began_with(is_older, tmp_path, caplog):
    """An earlier version kept them with the trials that have ended, without the names of those inside the space."""
    run(make(tmp_path / "straight"))
    oracle = run(make(tmp_path / "s"), 1 + is_older)
    oracle.create_trial("w")
    if is_older:
        shutil.rmtree(tmp_path / "s/tries")
    oracle = run(make(tmp_path / "s", tries=("nasnet_a", replace(INSIDE, name=""))))
    assert caplog.messages == []
    assert lines(tmp_path / "s") == lines(tmp_path / "straight") and oracle.tries == (OUTSIDE, INSIDE)


def test_a_file_to_try_may_go_before_a_trial_has_ended(tmp_path):
    make(tmp_path).create_trial("w")  # killed while this one runs
    assert not (tmp_path / "trials.jsonl").exists()
    assert read_tries(("gone.json", INSIDE), directory=tmp_path) == (OUTSIDE, INSIDE)


def test_a_file_to_try_may_change_or_go_once_its_search_has_begun(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": 0.5})
    data, child, mine = load_data("digits", limit=200), ChildSettings(repeats=(1, 1), filters=4), tmp_path / "mine.json"

    def go_on(max_trials):
        return search(data, max_trials, tmp_path / "s", "random", child=child, tries=(mine,)).trials[0]["genotype"]

    OUTSIDE.save(mine)
    assert go_on(1) == OUTSIDE.to_dict()
    caplog.clear()
    INSIDE.save(mine)
    kept = tmp_path / "s/tries/0.json"
    with pytest.raises(
        ValueError, match=f"Received: {mine}, which is another genotype; {kept} is the one in its place"
    ):
        go_on(2)
    search(data, 2, tmp_path / "s", "random", child=child, tries=(kept,))
    mine.unlink()
    assert go_on(3) == OUTSIDE.to_dict()
    said = [line for line in caplog.messages if line.startswith(f"{mine}: the search goes on with the genotype")]
    assert len(said) == 1 and "mine.json" in said[0].partition("(")[2]
    with pytest.raises(ValueError, match="`tries` must be genotypes that can be read"):
        search(data, 1, tmp_path / "new", "random", child=child, tries=(mine,))
    assert not (tmp_path / "new").exists()

    words = ["search", "--limit", "200", "--controller", "random", "--repeats", "1", "--filters", "4", "--no-final"]
    for trials, expected in ((1, 0), (2, 1)):
        OUTSIDE.save(mine) if trials == 1 else mine.unlink()
        caplog.clear()
        assert main([*words, "--try", f"{mine}", "--directory", f"{tmp_path / 'c'}", "--max-trials", f"{trials}"]) == 0
        assert sum("with the genotype that it began with" in line for line in caplog.messages) == expected


@pytest.mark.parametrize("tries", ["nasnet_a", ("nasnet_b",), (3,), 3, INSIDE])
def test_bad_tries_are_refused(tries):
    with pytest.raises(ValueError, match="`tries` must be"):
        NASNetOracle(3, tries=tries)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "mine.json").write_text('{"format": "nasnet-genotype/1"')
    with pytest.raises(ValueError, match=r"`tries` must be .*mine\.json: a genotype must be JSON text"):
        NASNetOracle(3, tries=(tmp_path / "mine.json",))


def test_children_of_genotypes_outside_are_trained(tmp_path):
    data, child = load_data("digits", limit=200), ChildSettings(repeats=(1, 1), filters=4)
    result = search(data, 2, tmp_path / "s", "predictor", tries=("tiny", INSIDE), child=child)
    assert [trial["status"] for trial in result.trials] == ["COMPLETED"] * 2
    assert result.trials[0]["genotype"] == load_genotype("tiny").to_dict()


def test_more_tries_than_trials_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="`max_trials` must be at least 2, as many as genotypes to try. Received: 1"):
        NASNetOracle(1, tries=("nasnet_a", "tiny"))
    with pytest.raises(ValueError, match="`max_trials` must be at least 2"):
        search("digits", 1, tmp_path / "s", tries=("nasnet_a", "tiny"))
    assert not list(tmp_path.iterdir()) and NASNetOracle(None, tries=("nasnet_a", "tiny")).max_trials is None


def test_an_unknown_controller_is_named_as_the_argument_is_and_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="`controller` must be a Strategy or one of rl, .*Received: 'bayes'"):
        search("no such data", 1, tmp_path / "s", controller="bayes")
    with pytest.raises(ValueError, match="`settings`"):
        search("no such data", 1, tmp_path / "s", controller="random", settings=ControllerSettings())
    assert not list(tmp_path.iterdir())
