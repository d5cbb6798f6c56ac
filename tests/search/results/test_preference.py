"""The rule by which the best of a search is chosen: in all files alike, and as trials end."""

import json
import os
import random
from types import SimpleNamespace

import pytest
from test_publication import digest_of, trials_with

from nasnet_keras.children.settings import ChildSettings
from nasnet_keras.commands import report
from nasnet_keras.data.loading import load_data
from nasnet_keras.genotype import Genotype
from nasnet_keras.pictures.pareto import cost_of, pareto_front
from nasnet_keras.search import running
from nasnet_keras.search.directory import SearchDirectory
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.results.publication import Publisher, best_genotype, write_report
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.tuner import search

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_conv_3x3", "max_pool_3x3"), combinations=("add",))
CHILD = ChildSettings(repeats=(1, 1), filters=4)


@pytest.fixture(autouse=True)
def _no_power_failures(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def priced(rewards, costs):
    return [trial | {"multiply_adds": cost} for trial, cost in zip(trials_with(rewards), costs, strict=True)]


REWARDS, COSTS = [0.50, None, 0.58, 0.60, 0.59, 0.60], [10, 5, 30, 50, 20, 40]


@pytest.mark.parametrize(
    ("prefer", "order"),
    [
        ("reward", [3, 5, 4, 2, 0]),
        ("within:0.02", [4, 2, 5, 3]),
        ("within:0", [5, 3]),
        ("within:1", [0, 4, 2, 5, 3]),
        ("below:40", [5, 4, 2, 0]),
        ("below:10", [0]),
        ("below:9", []),
    ],
)
def test_ranking(prefer, order):
    found = Preference(prefer=prefer).ranked(priced(REWARDS, COSTS))
    assert [trial["number"] for trial in found] == order


@pytest.mark.parametrize("prefer", ["reward", "within:0.5", "within:2", "below:3", "below:1"])
def test_as_trials_end_the_choice_is_that_among_all(prefer):
    rng, preference = random.Random(prefer), Preference(prefer=prefer)
    for _ in range(30):
        trials = priced(
            [rng.choice([None, 0, 1, 2, 3]) for _ in range(12)], [rng.choice([None, 1, 2, 3, 4]) for _ in range(12)]
        )
        kept = []
        for count, trial in enumerate(trials, 1):
            kept = preference.contenders([*kept, trial])
            assert preference.ranked(kept)[:1] == preference.ranked(trials[:count])[:1]
        assert len(kept) <= 6


def test_all_files_agree(tmp_path):
    trials = priced(REWARDS, COSTS)
    Preference(prefer="within:0.02").keep(tmp_path)
    Publisher(tmp_path)(trials)
    on_disk = Genotype.load(tmp_path / "best_genotype.json")
    write_report(tmp_path, trials)
    assert on_disk == Genotype.load(tmp_path / "best_genotype.json") == best_genotype(tmp_path, trials)
    assert on_disk.digest == digest_of(trials[4])
    assert "at most 0.02 below the highest" in (tmp_path / "report.html").read_text()


def test_a_winner_of_longer_trainings_that_breaks_the_rule_is_not_taken(tmp_path):
    trials = priced(REWARDS, COSTS)
    rows = [{"network": trials[place]["trial_id"], "digest": digest_of(trials[place])} for place in (3, 4)]
    (tmp_path / "retrained.json").write_text(json.dumps(rows))
    assert best_genotype(tmp_path, trials).digest == digest_of(trials[3])
    Preference(prefer="below:20").keep(tmp_path)
    assert best_genotype(tmp_path, trials).digest == digest_of(trials[4])


def test_another_rule_takes_the_best_of_those_trained_again_that_meet_it(tmp_path):
    """And not the one that the short trainings put first among them."""
    trials = priced([0.9, 0.7, 0.6, 0.5], [100, 20, 15, 10])
    digests = [digest_of(trial) for trial in trials]
    figures = {"epochs": 10, "parameters": 1, "multiply_adds": 5}
    rows = [
        {"network": trials[number]["trial_id"], "digest": digests[number], "validation_accuracy": accuracy, **figures}
        for number, accuracy in ((0, 0.95), (2, 0.8), (3, 0.7), (1, None))
    ]
    (tmp_path / "retrained.json").write_text(json.dumps(rows))
    for prefer, best in (("reward", 0), ("below:20", 2), ("below:10", 3), ("below:9", None)):
        Preference(prefer=prefer).keep(tmp_path)
        found = best_genotype(tmp_path, trials)
        assert (found and found.digest) == (None if best is None else digests[best])
        write_report(tmp_path, trials)
        told = "of the 3 that were trained again for 10 epochs the best"
        assert (told in (tmp_path / "report.html").read_text()) == (prefer == "below:20")
    (tmp_path / "retrained.json").write_text(json.dumps(rows[::-1]))  # the one that diverged is no winner anywhere
    Preference(prefer="below:20").keep(tmp_path)
    assert best_genotype(tmp_path, trials).digest == digests[3]


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        ({}, 0),  # an earlier version's: it stood
        ({"cost": "multiply_adds", "prefer": "within:0.2"}, 0),
        ({"cost": "multiply_adds", "prefer": "reward"}, 2),
        ({"cost": "multiply_adds", "prefer": "within:0.3"}, 2),
        ({"cost": "parameters", "prefer": "within:0.2"}, 2),
    ],
)
def test_the_cheapest_within_a_bound_is_outdone_only_by_trainings_under_this_very_rule(rule, best, tmp_path):
    trials = priced([0.6, 0.4, 0.5], [100, 20, 10])
    digests = [digest_of(trial) for trial in trials]
    rows = [{"network": trials[number]["trial_id"], "digest": digests[number], **rule} for number in (0, 2)]
    (tmp_path / "retrained.json").write_text(json.dumps(rows))
    Preference(prefer="within:0.2").keep(tmp_path)
    assert best_genotype(tmp_path, trials).digest == digests[best]
    Preference().keep(tmp_path)
    assert best_genotype(tmp_path, trials).digest == digests[0]


def test_where_nothing_meets_the_rule_that_is_said_and_no_older_choice_stays(tmp_path):
    trials = priced(REWARDS, COSTS)
    Publisher(tmp_path)(trials)
    Preference(prefer="below:9").keep(tmp_path)
    write_report(tmp_path, trials)
    assert best_genotype(tmp_path, trials) is None and not (tmp_path / "best_genotype.json").exists()
    assert "the least multiply_adds of one is 10" in Preference(prefer="below:9").complaint(trials)
    assert (
        Preference(prefer="below:10").complaint(trials) is None and Preference(prefer="below:9").complaint([]) is None
    )


def test_costs_that_are_no_numbers_are_neither_cheap_nor_below():
    trials = priced([0.5, 0.6, 0.55], [10, float("nan"), None])
    assert [trial["number"] for trial in Preference(prefer="within:0.2").ranked(trials)] == [0, 1, 2]
    assert [trial["number"] for trial in Preference(prefer="below:100").ranked(trials)] == [0]
    assert [trial["number"] for trial in Preference().ranked(trials)] == [1, 2, 0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cost": 3}', '{"prefer": "best"}', '{"other": 1}'])
def test_a_record_that_cannot_be_read_is_the_default(tmp_path, text):
    (tmp_path / "preference.json").write_text(text)
    assert Preference.of(tmp_path) == Preference.of(tmp_path / "missing") == Preference()


@pytest.mark.parametrize(
    "prefer", ["best", "within", "within:", "within:-1", "below:nan", "below:inf", "reward:1", "below:x", None, 3]
)
def test_bad_rules(prefer):
    with pytest.raises(ValueError, match="`prefer` must be"):
        Preference(prefer=prefer)


@pytest.mark.parametrize("cost", ["", "a b", None, "reward"])
def test_bad_costs(cost):
    with pytest.raises(ValueError, match="`cost` must be"):
        Preference(cost)


def test_a_search_measures_a_cost_of_ones_own(tmp_path):
    data, measured = load_data("digits", limit=200), []

    def latency(architecture):
        measured.append(architecture.filters)
        return [float("nan"), 7.0, 5.0][len(measured) - 1]

    result = search(
        data, 3, tmp_path / "s", "random", 3, space=SPACE, child=CHILD, rules=(), cost=latency, prefer="below:5"
    )
    assert measured == [4, 4, 4]
    assert [trial["metrics"].get("latency") for trial in result.trials] == [None, 7.0, 5.0]
    assert [trial["status"] for trial in result.trials] == ["COMPLETED"] * 3
    assert result.best == Genotype.from_dict(result.trials[2]["genotype"])
    again = search(data, 3, tmp_path / "s", "random", 3, space=SPACE, child=CHILD, rules=(), prefer="reward")
    assert again.best == Genotype.from_dict(max(again.trials, key=lambda trial: trial["reward"])["genotype"])
    with pytest.raises(ValueError, match="`cost` must be a name or a function"):
        search(data, 3, tmp_path / "s", "random", 3, space=SPACE, child=CHILD, cost=3)


def test_the_seconds_of_a_child_are_without_those_in_which_its_cost_was_measured(monkeypatch):
    now = [0.0]

    def spend(seconds, answer):
        now[0] += seconds
        return answer

    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    child = SimpleNamespace(evaluate=lambda *_: spend(2.0, {"reward": 0.5}), architecture=lambda *_: None)
    space = SimpleNamespace(decode_values=lambda values: None)
    children = running.Children(child, space, (), 0, cost=lambda architecture: spend(100.0, 7.0))
    assert children.run("00000", {}, None, None) == {"reward": 0.5, "cost": 7.0, "seconds": 2.0}


def test_a_repeated_network_takes_its_time_from_the_one_that_was_trained():
    trials = [
        trial | {"seconds": seconds}
        for trial, seconds in zip(trials_with([0.6, 0.59, 0.6]), (9.0, 5.0, 0.0), strict=True)
    ]
    trials[2]["replayed"] = trials[0]["trial_id"]
    assert [one["number"] for one in Preference("seconds", "within:0.02").ranked(trials)] == [1, 0, 2]
    assert [one["number"] for one in pareto_front(trials, "seconds")] == [1, 0]
    assert cost_of({"number": 3, "metrics": {"number": 7.0}}, "number") == 7.0


def test_a_cost_that_fails_leaves_the_reward_and_is_told(tmp_path, caplog):
    def latency(architecture):
        raise KeyError("no device")

    options = {"space": SPACE, "child": CHILD, "cost": latency}
    result = search(load_data("digits", limit=200), 1, tmp_path / "s", "random", 3, **options)
    assert result.trials[0]["status"] == "COMPLETED" and "latency" not in result.trials[0]["metrics"]
    assert "`cost` latency has failed for trial 00000, which has none now: KeyError: 'no device'" in caplog.text


@pytest.mark.parametrize("name", ["seconds", "parameters", "reward"])
def test_a_function_may_not_have_the_name_of_another_number(name, tmp_path):
    def measure(architecture):
        return 1.0

    measure.__name__ = name
    with pytest.raises(ValueError, match=f"`cost` must be a function of another name.*{name}"):
        search("digits", 1, tmp_path / "s", cost=measure)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rewards", "bound", "near"),
    [
        ([0.51, 0.41, 0.4099], "0.1", 2),
        ([0.52, 0.47, 0.1], "0.05", 2),
        ([0.79, 0.69], "0.1", 2),
        ([1000.3, 1000.2], "0.1", 2),
        ([0.51, 0.40999], "0.1", 1),
    ],
)
def test_a_reward_on_the_boundary_is_within_it_whatever_binary_numbers_make_of_it(rewards, bound, near):
    ranked = Preference(prefer=f"within:{bound}").ranked(priced(rewards, [9, 8, 7][: len(rewards)]))
    assert sorted(trial["number"] for trial in ranked) == list(range(near))
    assert Preference(prefer=f"within:{bound}").ranked([]) == []


@pytest.mark.parametrize(
    ("cost", "prefer", "costs", "complaint"),
    [
        ("multiply_adds", "within:0.1", [1, 2, 3], None),
        ("multiply_adds", "within:0.1", [1, None, 3], "1 of 3 trained trials have no `multiply_adds`; they count as"),
        ("multiply_adds", "below:1", [1, None, 3], "1 of 3 trained trials have no `multiply_adds`; they are not"),
        ("multiply_adds", "below:0", [1, None, 3], "the least multiply_adds of one is 1, and 1 of 3 trained trials"),
        ("multiply_adds", "below:9", [None, None, None], "none is chosen, as 3 of 3 trained trials have no"),
        ("multiply_adds", "reward", [None, None, 1], None),
        ("latency", "reward", [1, 2, 3], "3 of 3 trained trials have no `latency`; they are not on the front"),
        ("latency", "within:0.1", [1, 2, 3], "3 of 3 trained trials have no `latency`; they count as the dearest"),
    ],
)
def test_trials_without_the_cost_that_the_rule_goes_by_are_told(cost, prefer, costs, complaint):
    told = Preference(cost, prefer).complaint(priced([0.5, 0.6, 0.7], costs))
    assert told is None if complaint is None else complaint in told and f"`prefer` {prefer}: " in told
    assert Preference(cost, prefer).complaint([]) is None


@pytest.mark.parametrize(
    ("prefer", "rewards", "says"),
    [
        ("within:1", REWARDS, "`prefer` within:1: it takes in all 5 trials: rewards are shares, 0.01 is one point"),
        ("within:0.1", REWARDS, "`prefer` within:0.1: it takes in all 5 trials: rewards are shares"),
        ("within:0.09", REWARDS, None),
        ("within:1", [None, 0.5, 0.5], None),
        ("within:1", [None, 0.5], None),
        ("within:5", [3.0, 7.0], "`prefer` within:5: it takes in all 2 trials"),
    ],
)
def test_a_bound_that_leaves_no_trial_out_is_told(prefer, rewards, says):
    told = Preference(prefer=prefer).complaint(priced(rewards, range(1, 1 + len(rewards))))
    assert told is None if says is None else told.startswith(says) and ("shares" in told) == (rewards[-1] < 1)
    assert Preference("latency", prefer).complaint(priced(rewards, range(len(rewards)))).count("`prefer`") == 1


def test_a_repeated_trial_has_no_seconds_of_its_own_and_that_is_no_complaint():
    trials = [trial | {"seconds": 1.0} for trial in trials_with([0.6, 0.6])]
    trials[1]["replayed"] = trials[0]["trial_id"]
    assert Preference("seconds", "within:0.1").complaint(trials) is None


def shown_as_found(directory):
    page = (directory / "report.html").read_text()
    return page[page.index("Found cells") : page.index("Best trials")]


def test_the_report_shows_no_cell_that_the_rule_forbids_and_says_why(tmp_path, capsys):
    trials = priced(REWARDS, COSTS)
    (tmp_path / "trials.jsonl").write_text("".join(f"{json.dumps(trial)}\n" for trial in trials))
    Preference(prefer="below:9").keep(tmp_path)
    write_report(tmp_path, trials)
    shown = shown_as_found(tmp_path)
    assert "<svg" not in shown and "<pre>" not in shown and "None yet" not in shown
    assert "no child costs so little; the least multiply_adds of one is 10" in shown
    (tmp_path / "report.html").unlink()
    report.run(SimpleNamespace(tensorboard=False, json=False), SearchDirectory(tmp_path), trials)
    assert shown_as_found(tmp_path) == shown
    assert capsys.readouterr().err.startswith("nasnet-keras: `prefer` below:9: no child costs so little")
    Preference(prefer="below:10").keep(tmp_path)
    report.run(SimpleNamespace(tensorboard=False, json=False), SearchDirectory(tmp_path), trials)
    assert "<pre>" in shown_as_found(tmp_path) and capsys.readouterr().err == ""


def test_a_search_logs_a_preference_that_does_not_work(tmp_path, monkeypatch, caplog):
    rewards = iter([0.5, 0.6, 0.7])
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": next(rewards), "multiply_adds": 9})
    data = load_data("digits", limit=200)

    def run(**preference):
        caplog.clear()
        result = search(data, 3, tmp_path / "s", "random", 3, space=SPACE, child=CHILD, rules=(), **preference)
        return result, caplog.text

    def latency(architecture):
        return 1.0

    assert "`prefer`" not in run()[1]
    again, said = run(cost=latency, prefer="within:0.05")
    assert again.best == Genotype.from_dict(again.trials[2]["genotype"])
    assert "3 of 3 trained trials have no `latency`; they count as the dearest" in said
    none, said = run(prefer="below:5")
    assert none.best is None and "no child costs so little; the least multiply_adds of one is 9" in said


def test_a_search_tells_that_its_cost_is_another_function_of_the_same_name(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ChildSettings, "evaluate", lambda *_, **__: {"reward": 0.5})
    data = load_data("digits", limit=200)

    def run(max_trials, cost):
        caplog.clear()
        options = {"space": SPACE, "child": CHILD, "rules": (), "cost": cost, "prefer": "within:0.01"}
        trials = search(data, max_trials, tmp_path / "s", "random", 3, **options).trials
        return [trial["metrics"]["cost"] for trial in trials], "`cost` cost is another function" in caplog.text

    assert run(1, lambda architecture: architecture.filters) == ([4.0], False)
    assert run(2, lambda architecture: architecture.filters / 8) == ([4.0, 0.5], True)
    assert run(2, lambda architecture: architecture.filters / 8) == ([4.0, 0.5], False)  # in another line, but the same
