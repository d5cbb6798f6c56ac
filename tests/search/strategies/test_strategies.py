"""All strategies: the same verbs, exact resumption, any order of answers; and what each is for."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from nasnet_keras.genotype import canonical_name
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.choice import STRATEGIES, advice, make_strategy, random_to_the_end
from nasnet_keras.search.strategies.controller import Controller, ControllerSettings
from nasnet_keras.search.strategies.evolution import EvolutionSettings, RegularizedEvolution
from nasnet_keras.search.strategies.local_search import LocalSearch, LocalSettings
from nasnet_keras.search.strategies.predictor import PredictorSettings
from nasnet_keras.search.strategies.random_search import RandomSearch, RandomSettings
from nasnet_keras.search.strategies.strategy import Proposal

SPACE = SearchSpace(blocks=2)
SETTINGS = {
    "rl": ControllerSettings(hidden_units=8, embedding_size=6, batch_size=4, learning_rate=0.01),
    "random": RandomSettings(),
    "evolution": EvolutionSettings(population=10, sample=4),
    "local": LocalSettings(beginning=4),
    "predictor": PredictorSettings(beginning=6, candidates=40),
}
NAMES = sorted(SETTINGS)


def make(name, seed=5):
    return make_strategy(name, SPACE, seed, SETTINGS[name])


def reward(proposal):
    """None for one in nine, otherwise a number that has nothing simple to do with the decisions."""
    value = int(SPACE.decode(proposal.decisions).digest, 16)
    return None if value % 9 == 0 else (value >> 8) / 2**56


def test_every_name_makes_its_strategy():
    assert {name: type(make(name)).__name__ for name in NAMES} == {
        "rl": "Controller",
        "random": "RandomSearch",
        "evolution": "RegularizedEvolution",
        "local": "LocalSearch",
        "predictor": "Predictor",
    }
    assert sorted(STRATEGIES) == NAMES
    assert isinstance(make_strategy("rl"), Controller)
    assert make_strategy("rl").space == SearchSpace()


@pytest.mark.parametrize("name", ["RL", "bayes", None, 3, ["rl"]])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="`strategy` must be .*rl, random, evolution, local, predictor. Received: "):
        make_strategy(name)


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_another_strategy_are_refused(name):
    with pytest.raises(ValueError, match="`settings` must be"):
        make_strategy(name, SPACE, 0, {})


def test_a_given_strategy_is_copied_and_takes_no_other_arguments():
    given = make("evolution")
    copy = make_strategy(given, seed=5)
    copy.feedback(copy.propose(), 0.5)
    assert (given.feedbacks, copy.feedbacks) == (0, 1)
    with pytest.raises(ValueError, match="`seed` must be left out"):
        make_strategy(given, seed=6)


@pytest.mark.parametrize("name", NAMES)
def test_proposals_are_in_the_space_and_repeat_with_the_seed(name):
    one, same, other = make(name), make(name), make(name, seed=6)
    proposals = [one.propose() for _ in range(30)]
    assert proposals == [same.propose(number) for number in range(30)]
    assert proposals != [other.propose() for _ in range(30)]
    assert [proposal.number for proposal in proposals] == list(range(30))
    for proposal in proposals:
        assert SPACE.encode(SPACE.decode(proposal.decisions)) == proposal.decisions


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_restored_at_every_point_it_goes_on_identically(name, tmp_path):
    straight = make(name)
    expected = []
    for _ in range(45):
        proposal = straight.propose()
        expected.append(proposal)
        straight.feedback(proposal, reward(proposal))

    path = tmp_path / "state.npz"
    strategy = make(name)

    def reborn():
        strategy.save(path)
        new = make(name)
        new.restore(path)
        return new

    for proposal in expected:
        strategy = reborn()
        assert strategy.propose() == proposal
        strategy = reborn()
        strategy.feedback(proposal, reward(proposal))
    assert (strategy.feedbacks, strategy.failures) == (45, sum(reward(p) is None for p in expected))
    assert strategy.failures > 0
    assert strategy.diagnostics == straight.diagnostics
    assert strategy.version == straight.version
    assert strategy.propose() == straight.propose()


@pytest.mark.parametrize("name", NAMES)
def test_several_proposals_wait_and_answers_come_in_any_order(name, tmp_path):
    rng = random.Random(1)

    def run(stop_at):
        strategy, waiting, seen, chance = make(name), [], [], random.Random(rng.random())
        chance.seed(7)
        for step in range(120):
            if step == stop_at:
                strategy.save(tmp_path / "state.npz")
                strategy = make(name)
                strategy.restore(tmp_path / "state.npz")
            if len(waiting) < 2 or (len(waiting) < 8 and chance.random() < 0.5):
                waiting.append(strategy.propose())
                seen.append(waiting[-1])
            else:
                late = waiting.pop(chance.randrange(len(waiting)))
                strategy.feedback(late, reward(late))
        return seen

    straight = run(None)
    assert run(61) == straight
    assert [proposal.number for proposal in straight] == list(range(len(straight)))


@pytest.mark.parametrize("name", NAMES)
def test_no_strategy_takes_a_nan_or_a_foreign_proposal(name):
    strategy = make(name)
    with pytest.raises(ValueError, match="`reward`"):
        strategy.feedback(strategy.propose(), float("nan"))
    with pytest.raises(ValueError, match="`decisions`"):
        strategy.feedback(Proposal(0, (0,) * 19, (0.0,) * 19), 0.5)
    assert strategy.feedbacks == 0


def test_random_search_is_uniform():
    space = SearchSpace(blocks=1)
    drawn = np.array([RandomSearch(space).propose(number).decisions for number in range(1300)])
    for place, decision in enumerate(space.decisions):
        counts = np.bincount(drawn[:, place], minlength=len(decision.choices))
        expected = 1300 / len(decision.choices)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected), decision.name


def test_evolution_starts_randomly_then_mutates_one_decision_of_the_best_of_a_sample():
    strategy = RegularizedEvolution(SPACE, EvolutionSettings(population=5, sample=200), seed=0)
    start = [strategy.propose() for _ in range(5)]
    assert [p.decisions for p in start] == [RandomSearch(SPACE, seed=0).propose(n).decisions for n in range(5)]
    for proposal, score in zip(start, [0.1, 0.9, 0.3, 0.2, 0.4], strict=True):
        strategy.feedback(proposal, score)
    # A sample of 200 draws all five: the parent is the best.
    changed = {"input": 0, "operation": 0, "combine": 0}
    for _ in range(1000):
        child = strategy.propose()
        places = [i for i in range(20) if child.decisions[i] != start[1].decisions[i]]
        assert len(places) == 1
        changed[SPACE.decisions[places[0]].kind] += 1
    assert abs(changed["input"] - 400) < 80
    assert abs(changed["operation"] - 400) < 80
    assert abs(changed["combine"] - 200) < 65


def test_evolution_forgets_the_oldest_however_good_and_never_breeds_failures():
    strategy = RegularizedEvolution(SPACE, EvolutionSettings(population=3, sample=100), seed=0)
    best = strategy.propose()
    strategy.feedback(best, 1.0)
    for score in (0.1, None, None, 0.2):
        strategy.feedback(strategy.propose(), score)
    near = strategy.propose()
    assert sum(a != b for a, b in zip(near.decisions, best.decisions, strict=True)) == 1
    young = strategy.propose()
    strategy.feedback(young, 0.3)  # now the best is the fourth youngest
    near = strategy.propose()
    assert sum(a != b for a, b in zip(near.decisions, young.decisions, strict=True)) == 1
    assert strategy.version == 4


def test_evolution_with_one_combination_changes_inputs_and_operations_only():
    space = SearchSpace(blocks=1, operations=("identity",), combinations=("add",))
    strategy = RegularizedEvolution(space, EvolutionSettings(population=1, sample=1))
    strategy.feedback(strategy.propose(), 0.5)
    for _ in range(20):
        space.decode(strategy.propose().decisions)


@pytest.mark.parametrize("name", ["population", "sample"])
@pytest.mark.parametrize("value", [0, 2.5, True])
def test_bad_evolution_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer"):
        EvolutionSettings(**{name: value})


def test_evolution_is_far_ahead_of_random_on_a_known_optimum():
    target = np.array(SPACE.random(np.random.default_rng(99)))
    last = {}
    for name, settings in (("evolution", EvolutionSettings(population=50, sample=15)), ("random", None)):
        strategy = make_strategy(name, SPACE, 0, settings)
        rewards = []
        for _ in range(600):
            proposal = strategy.propose()
            rewards.append(float(np.mean(np.array(proposal.decisions) == target)))
            strategy.feedback(proposal, rewards[-1])
        last[name] = np.mean(rewards[-40:])
    assert last["evolution"] > 0.7 > 2 * last["random"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_pending_counts_until_its_reward_is_told_however_it_became_known(name):
    """A search that was killed tells its strategy the rewards and what is open; it goes on as one that was not."""
    straight, told = make(name), []
    for number in range(20):
        told.append((straight.propose(), number / 20))
        straight.feedback(*told[-1])
    waiting = [straight.propose() for _ in range(3)]
    assert straight.pending == {proposal.number: proposal.decisions for proposal in waiting}
    again = make(name)
    for proposal, score in told:
        again.feedback(proposal, score)
    for proposal in waiting:
        again.expect(proposal)
    assert again.propose() == straight.propose()
    for proposal in waiting:
        again.feedback(proposal, None)
    assert list(again.pending) == [23]


def test_local_search_changes_one_decision_of_the_best_and_tries_no_cell_twice():
    strategy = make("local")
    start = [strategy.propose() for _ in range(4)]
    assert [p.decisions for p in start] == [RandomSearch(SPACE, seed=5).propose(n).decisions for n in range(4)]
    for proposal, score in zip(start, [0.1, 0.4, 0.3, 0.2], strict=True):
        strategy.feedback(proposal, score)
    best, seen = start[1].decisions, {proposal.decisions for proposal in start}
    for score in (None, 0.1, 0.4, 0.5, 0.2):
        child = strategy.propose()
        assert sum(a != b for a, b in zip(child.decisions, best, strict=True)) == 1
        assert child.decisions not in seen
        seen.add(child.decisions)
        strategy.feedback(child, score)
        best = child.decisions if score == 0.5 else best


def test_local_search_looks_elsewhere_when_all_neighbours_were_tried():
    space = SearchSpace(blocks=1, operations=("identity",), combinations=("add",))  # sixteen cells of four decisions
    strategy, score = LocalSearch(space, LocalSettings(beginning=1)), 1.0
    for _ in range(40):
        strategy.feedback(strategy.propose(), score)
        score = 0.0
    assert len(strategy._tried) > 5


def test_local_search_trains_the_best_of_another_search_first_and_climbs_by_its_own_rewards():
    rng = np.random.default_rng(1)
    cells = [SPACE.random(rng) for _ in range(12)]
    strategy = make("local")
    for number, cell in enumerate(cells, 1):
        strategy.feedback(strategy.adopt(-number, cell), 100.0 + (number == 7))
    first, second = strategy.propose(), strategy.propose()
    assert first.decisions == cells[6]
    assert sum(a != b for a, b in zip(second.decisions, cells[6], strict=True)) == 1  # while the first is in work
    strategy.feedback(first, 0.3)
    strategy.feedback(second, 0.4)
    third = strategy.propose()
    assert sum(a != b for a, b in zip(third.decisions, second.decisions, strict=True)) == 1


def test_local_search_knows_a_network_however_it_is_written():
    space, names = SearchSpace(blocks=1, operations=("identity", "conv_1x1"), combinations=("add",)), []
    strategy = LocalSearch(space, LocalSettings(beginning=3))
    for number in range(120):
        proposal = strategy.propose()
        names.append(canonical_name(space.decode(proposal.decisions)))
        strategy.feedback(proposal, None if number % 5 == 4 else number % 7)
    first = len(set(names)) * 9 // 10  # the last ones are rare among random draws
    assert len(set(names[:first])) == first < 108


def test_the_best_of_local_search_told_again_and_worse_is_no_longer_the_best():
    strategy = make("local")
    one, other = strategy.propose(), strategy.propose()
    strategy.feedback(one, 0.9)
    strategy.feedback(other, 0.8)
    assert strategy._best == one.decisions
    strategy.feedback(one, 0.1)
    assert strategy._best == other.decisions


@pytest.mark.parametrize("value", [0, 2.5, True])
def test_bad_local_settings(value):
    with pytest.raises(ValueError, match="`beginning` must be an integer"):
        LocalSettings(beginning=value)


def test_the_advice_names_what_was_measured_best_for_so_many_trials():
    assert "`--controller predictor`" in advice(60) and advice(60) == advice(300)
    assert "predictor" not in advice(301)
    text = gzip.decompress((Path(__file__).parents[3] / "benchmarks" / "staleness.jsonl.gz").read_bytes()).decode()
    alone = [row for row in map(json.loads, text.splitlines()) if (row["trials"], row["workers"]) == (2000, 1)]

    def ahead(settings):  # RL of evolution, landscape by landscape and seed by seed
        last = {
            (row["name"], row["landscape"], row["seed"]): row["last"] for row in alone if row["settings"] == settings
        }
        return np.array([last["rl", *which] - last[name, *which] for name, *which in last if name == "evolution"])

    tuned, usual = ahead("tuned"), ahead("command")
    assert "level with evolution with" in advice(2000) and len(tuned) >= 15 and abs(tuned.mean()) < 0.03
    assert "behind it with its defaults" in advice(2000) and len(usual) >= 5 and usual.mean() < -0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_says_how_many_rewards_come_before_it_learns(name):
    def proposed(sign):
        strategy, found = make(name), []
        for number in range(strategy.learns_after + 1):
            proposal = strategy.propose()
            found.append((proposal.decisions, proposal.log_probability))
            strategy.feedback(proposal, sign * float(number))
        return found

    (*before, first), (*same, other) = proposed(1), proposed(-1)
    assert before == same and (first == other) == (name == "random")


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_ends_before_anything_is_learnt_is_told(name):
    strategy = make(name)
    needed = strategy.learns_after
    told = [random_to_the_end(strategy, trials, trials) for trials in (needed, needed + 1)]
    assert told[1] is None and (told[0] is None) == (name == "random")
    if needed:
        words = f"until {needed} children have a reward: with `max_trials` {needed} this is a random search"
        assert told[0].startswith(name) and words in told[0]
        strategy.feedback(strategy.propose(), None)  # which teaches nothing
        assert random_to_the_end(strategy, needed, needed - 1)
        assert random_to_the_end(strategy, needed, needed) and not random_to_the_end(strategy, needed, 0)
        strategy.feedback(strategy.propose(), 0.5)  # of another search, as it were
        assert random_to_the_end(strategy, needed, needed) is None


def test_who_learns_from_fewer_is_named_where_there_are_enough():
    for trials, named in ((12, False), (13, True)):
        assert ("predictor" in random_to_the_end(make_strategy("rl"), trials, trials)) == named
    assert random_to_the_end(make_strategy("predictor"), 12, 12).count("predictor") == 1


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
@pytest.mark.parametrize("changed", [{}, {"clip": 0.3}, {"epochs": 2}])
def test_settings_of_ppo_are_refused_for_another_algorithm_where_a_search_begins(changed, algorithm):
    strategy = Controller(SPACE, ControllerSettings(hidden_units=8, algorithm=algorithm, **changed))
    if algorithm == "ppo" or not changed:
        return strategy.check_use()
    (name,) = changed
    with pytest.raises(ValueError, match=f"`{name}` needs `algorithm` ppo, and does nothing without. Received: "):
        strategy.check_use()
