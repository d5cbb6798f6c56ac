"""A search that begins with what another one learnt."""

import json
import os

import keras_tuner
import pytest

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import OPERATIONS, Genotype
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import SoftTarget
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings
from nasnet_keras.search.trials.imported import check_same_start, read_imports
from nasnet_keras.search.tuner import search

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


def start_of(folder, imports):
    """A search's directory that began with these."""
    folder.mkdir()
    (folder / "imported.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in imports))
    return folder


def test_a_search_goes_on_with_the_start_that_it_had(tmp_path, other):
    imports = read_imports(other, SPACE)
    begun = start_of(tmp_path / "s", imports[:150])  # the other one has grown since
    assert check_same_start(begun, other, SPACE) is None
    assert check_same_start(begun, other / "trials.jsonl", SPACE) is None
    told = check_same_start(begun, tmp_path / "missing", SPACE)
    assert "the search goes on with what was imported then (cannot read the trials in" in told
    nameless = [{key: one[key] for key in ("decisions", "reward")} for one in imports]  # of an earlier version
    assert check_same_start(start_of(tmp_path / "older", nameless), other, SPACE) is None
    mended = imports[:3] + imports[4:]  # a damaged line has been set aside
    assert check_same_start(start_of(tmp_path / "mended", mended), other, SPACE) is None
    whole = start_of(tmp_path / "whole", imports)
    kept = (other / "trials.jsonl").read_text().splitlines(keepends=True)
    (other / "trials.jsonl").write_text("".join(kept[:3] + kept[4:]))
    assert check_same_start(whole, other, SPACE) is None
    (other / "trials.jsonl").write_text("".join(kept))
    (start_of(tmp_path / "damaged", imports) / "imported.jsonl").write_text("{\n{}\n")
    assert check_same_start(tmp_path / "damaged", other, SPACE) is None


@pytest.mark.parametrize("what", ["another search", "other rewards", "a shorter one", "nothing of this space"])
def test_another_start_than_it_had_is_refused(what, tmp_path, other):
    imports = read_imports(other, SPACE)
    begun = start_of(tmp_path / "s", imports)
    if what == "another search":
        other = run(make(tmp_path / "third", "random", max_trials=250, seed=4)) and tmp_path / "third"
    elif what == "other rewards":
        changed = [line | {"reward": line["reward"] + 1} for line in lines(other)]
        (other / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in changed))
    else:
        kept = lines(other)[:50] if what == "a shorter one" else []
        (other / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    with pytest.raises(ValueError, match="`start_from` must be the search .* it began with another `start_from`"):
        check_same_start(begun, other, SPACE)


def test_python_is_told_as_well(tmp_path, monkeypatch, caplog):
    count = iter(range(99))
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": next(count) / 99})
    data, space = load_data("digits", limit=200), SearchSpace(blocks=1)

    def begin(name, trials, **options):
        return search(data, trials, tmp_path / name, "evolution", 3, space=space, **options)

    for name in ("first", "second"):
        begin(name, 2)
    begin("s", 1, start_from=tmp_path / "first")
    begin("first", 3)
    assert len(begin("s", 2, start_from=tmp_path / "first").trials) == 2 and "`start_from`" not in caplog.text
    with pytest.raises(ValueError, match="it began with another `start_from`"):
        begin("s", 3, start_from=tmp_path / "second")
    assert len(begin("s", 3, start_from=tmp_path / "missing").trials) == 3
    assert "goes on with what was imported then" in caplog.text


def costing(folder, rules=(), costs=True):
    """A finished search whose children cost 4 or 16, and have a reward of 0.5 or 0.25."""
    oracle = make(folder, "random", 8, rules=rules)
    while (trial := oracle.create_trial("w")).status == "RUNNING":
        odd = int(trial.trial_id) % 2
        metrics = {"reward": 0.25 if odd else 0.5} | ({"multiply_adds": 16 if odd else 4} if costs else {})
        oracle.update_trial(trial.trial_id, metrics)
        oracle.end_trial(trial)
    oracle.close()
    return folder


@pytest.mark.parametrize("theirs", [(), (SoftTarget(8),)], ids=["plain", "with a target"])
@pytest.mark.parametrize("ours", [(), (SoftTarget(4, exponent=-0.5),)], ids=["into plain", "into another target"])
def test_what_another_search_s_rules_made_of_a_reward_counts_for_nothing(theirs, ours, tmp_path):
    other = costing(tmp_path / "other", theirs)
    rewards = [one["reward"] for one in read_imports(other, SPACE, ours)]
    assert rewards == [0.5, 0.125 if ours else 0.25] * 4
    begun = start_of(tmp_path / "begun", read_imports(other, SPACE, ours))
    assert check_same_start(begun, other, SPACE, ours) is None
    # As an earlier version took them in: such a search goes on.
    older = [
        {"decisions": list(SPACE.encode(Genotype.from_dict(line["genotype"]))), "reward": line["reward"]}
        for line in lines(other)
    ]
    assert check_same_start(start_of(tmp_path / "older", older), other, SPACE, ours) is None


def test_a_trial_without_the_cost_of_a_target_is_left_out_and_counted(tmp_path, caplog):
    other = costing(tmp_path / "other")
    kept = [line | {"multiply_adds": None} if line["number"] < 3 else line for line in lines(other)]
    (other / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    assert len(read_imports(other, SPACE, (SoftTarget(4),))) == 5
    assert "3 of 8 trials are left out: `multiply_adds` must be reported with the reward" in caplog.text
    with pytest.raises(ValueError, match="`start_from` must hold .* none of that kind, as `multiply_adds` must be"):
        read_imports(costing(tmp_path / "none", costs=False), SPACE, (SoftTarget(4),))


def test_a_search_takes_them_by_its_own_rules(tmp_path, monkeypatch):
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": 0.5, "multiply_adds": 4})
    other, data = costing(tmp_path / "other", (SoftTarget(8),)), load_data("digits", limit=200)
    search(data, 1, tmp_path / "s", "evolution", space=SPACE, rules=(SoftTarget(4, exponent=-0.5),), start_from=other)
    kept = [json.loads(line)["reward"] for line in (tmp_path / "s/imported.jsonl").read_text().splitlines()]
    assert kept == [0.5, 0.125] * 4


@pytest.mark.parametrize("imports", [None, 3, "found", {"decisions": [0] * 20, "reward": 0.5}])
def test_imports_that_are_no_list_are_named(imports, tmp_path):
    with pytest.raises(ValueError, match="`imports` must be a list of dicts with `decisions` .*Received: "):
        make(tmp_path, imports=imports)
