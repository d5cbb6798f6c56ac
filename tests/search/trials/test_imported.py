"""A search that begins with what another one learnt."""

import json
import os

import keras_tuner
import pytest

from nasnet_keras.genotype import OPERATIONS
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.trials.imported import read_imports

SPACE = SearchSpace(blocks=2)
SETTINGS = {
    "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=5, learning_rate=0.02),
    "evolution": EvolutionSettings(population=8, sample=4),
    "random": None,
}


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(folder, strategy="evolution", max_trials=20, imports=(), **kwargs):
    oracle = NASNetOracle(
        max_trials, **{"space": SPACE, "strategy": strategy, "settings": SETTINGS[strategy], "seed": 0, **kwargs},
        imports=imports,
    )  # fmt: skip
    oracle._set_project_dir(str(folder), ".")
    return oracle


def lines(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def value(values):
    """The share of convolutions: what a search should find."""
    return sum("conv" in str(choice) for choice in values.values()) / 8


def run(oracle, limit=10**6):
    while limit and (trial := oracle.create_trial("w")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"reward": value(trial.hyperparameters.values)})
        oracle.end_trial(trial)
        limit -= 1
    return oracle


@pytest.fixture
def other(tmp_path):
    run(make(tmp_path / "other", "random", max_trials=200, seed=9))
    return tmp_path / "other"


@pytest.mark.parametrize("strategy", ["rl", "evolution"])
def test_it_begins_better_than_from_nothing(tmp_path, other, strategy):
    imports = read_imports(other, SPACE)
    assert len(imports) == 200 and imports == read_imports(other / "trials.jsonl", SPACE)
    means = {}
    for name, given in (("cold", ()), ("warm", imports)):
        run(make(tmp_path / name, strategy, 40, given))
        means[name] = sum(line["reward"] for line in lines(tmp_path / name)) / 40
    assert means["warm"] > means["cold"] + 0.05
    assert len(lines(tmp_path / "warm")) == 40  # imports are no trials


@pytest.mark.parametrize("strategy", ["rl", "evolution", "random"])
def test_it_resumes_exactly_although_the_other_search_has_gone(tmp_path, other, strategy, rng):
    imports = read_imports(other, SPACE)[:33]
    run(make(tmp_path / "straight", strategy, 60, imports))
    run(make(tmp_path / "broken", strategy, 60, imports), 1)
    while len(lines(tmp_path / "broken")) < 60:
        if rng.random() < 0.3:
            (tmp_path / "broken/controller/state.npz").unlink(missing_ok=True)
        run(make(tmp_path / "broken", strategy, 60), int(rng.integers(1, 9)))
    clean = [[{**line, "worker": None} for line in lines(tmp_path / name)] for name in ("straight", "broken")]
    assert clean[0] == clean[1]


def test_updates_are_logged_once_whatever_happens(tmp_path, other):
    imports = read_imports(other, SPACE)[:33]
    for limit in (3, 1, 12, 7, 100):
        run(make(tmp_path / "s", "rl", 60, imports), limit)
        if limit == 12:
            (tmp_path / "s/controller/state.npz").unlink()
    text = (tmp_path / "s/controller/updates.jsonl").read_text().splitlines()
    updates = [json.loads(line) for line in text]
    assert [update["version"] for update in updates] == list(range(1, (33 + 60) // 5 + 1))
    assert [update["feedbacks"] for update in updates] == [5 * update["version"] for update in updates]
    assert {"reward", "baseline", "entropy", "kl", "staleness"} <= updates[0].keys()


def test_what_lies_outside_the_space_is_left_out(tmp_path, other):
    narrow = SearchSpace(blocks=2, operations=OPERATIONS[:-1])
    imports = read_imports(other, narrow)
    assert 60 < len(imports) < 150
    assert all(narrow.to_values(line["decisions"]) for line in imports)
    with pytest.raises(ValueError, match="`start_from` must hold finished trials whose cells lie in this space"):
        read_imports(other, SearchSpace(blocks=3))


def test_of_losses_the_smallest_is_the_best_also_of_another_search(tmp_path, rng, caplog):
    losses = [0.5, 0.125]
    imports = [{"decisions": SPACE.random(rng), "reward": loss} for loss in losses]

    def oracle(imports=()):
        return make(tmp_path, imports=imports, objective=keras_tuner.Objective("val_loss", "min"))

    first = oracle(imports)
    first.reload()
    assert [reward for _, reward in first.strategy._population] == [-0.5, -0.125]
    for number in range(18):  # and then there is a snapshot
        trial = first.create_trial("w")
        first.update_trial(trial.trial_id, {"val_loss": number / 16})
        first.end_trial(trial)
    again = oracle()
    again.reload()
    assert again.strategy.feedbacks == 20 and "does not fit" not in caplog.text


@pytest.mark.parametrize(
    "broken",
    [
        {"decisions": [0, 0], "reward": 0.5},
        {"decisions": [99] * 20, "reward": 0.5},
        {"decisions": [0.5] * 20, "reward": 0.5},
        {"decisions": [0] * 20, "reward": float("nan")},
        {"decisions": [0] * 20, "reward": None},
        {"decisions": [0] * 20},
        [],
    ],
)
def test_what_nobody_can_learn_from_is_refused_before_anything_is_written(broken, tmp_path):
    with pytest.raises(ValueError, match="`imports` must be dicts with `decisions` of this space .*Received: "):
        make(tmp_path, imports=[{"decisions": [0] * 20, "reward": 0.5}, broken]).create_trial("w")
    assert not (tmp_path / "search.json").exists()


@pytest.mark.parametrize("content", ["", '{"reward": 1}\n', '{"genotype": {}, "reward": "x"}\n'])
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "trials.jsonl").write_text(content)
    with pytest.raises(ValueError, match="`start_from`"):
        read_imports(tmp_path, SPACE)
    with pytest.raises(ValueError, match="cannot read the trials"):
        read_imports(tmp_path / "missing", SPACE)
