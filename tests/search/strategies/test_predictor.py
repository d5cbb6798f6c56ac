"""The predictor: features that do not depend on the writing, regressors as scikit-learn's, and what it proposes."""

from itertools import product

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from threadpoolctl import threadpool_info

from nasnet_keras.genotype import Block, CellGenotype, Genotype, canonical_name
from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies import ensemble, predictor
from nasnet_keras.search.strategies.features import CellFeatures
from nasnet_keras.search.strategies.predictor import Predictor, PredictorSettings
from nasnet_keras.search.strategies.random_search import RandomSearch
from nasnet_keras.search.strategies.strategy import Proposal

SPACE = SearchSpace(blocks=3)
SMALL = SearchSpace(blocks=1, operations=("identity", "conv_1x1"), combinations=("add",))


def rewritten(decisions, rng, space=SPACE):
    """The same network with the halves of its blocks exchanged and its blocks in another order."""
    cells = []
    for cell in (space.decode(decisions).normal, space.decode(decisions).reduction):
        blocks, order, place = dict(enumerate(cell.blocks, 2)), [], {0: 0, 1: 1}
        while blocks:
            ready = [state for state, block in blocks.items() if all(read in place for read in block.inputs)]
            state = int(rng.choice(ready))
            place[state] = len(place)
            order.append(blocks.pop(state))
        new = []
        for block in order:
            halves = [(place[read], operation) for read, operation in zip(block.inputs, block.operations, strict=True)]
            halves = halves[:: int(rng.choice([1, -1]))]
            new.append(Block(*(tuple(values) for values in zip(*halves, strict=True)), block.combine))
        read = {state for block in new for state in block.inputs}
        cells.append(CellGenotype(tuple(new), tuple(state for state in range(2, 2 + len(new)) if state not in read)))
    return space.encode(Genotype(*cells))


def told(strategy, count, reward, seed=1):
    """Random cells and their rewards, told."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        decisions = strategy.space.random(rng)
        strategy.feedback(Proposal(number, decisions), reward(decisions))
    return strategy


def share_of_pools(decisions):
    return sum("pool" in name for name in SPACE.to_values(decisions).values() if isinstance(name, str)) / 12


def test_features_do_not_depend_on_how_a_network_is_written():
    rng, features, moved = np.random.default_rng(0), CellFeatures(SPACE), 0
    for _ in range(50):
        decisions = SPACE.random(rng)
        other = rewritten(decisions, rng)
        assert canonical_name(SPACE.decode(decisions)) == canonical_name(SPACE.decode(other))
        moved += other != decisions
        assert (features([decisions]).toarray() == features([other]).toarray()).all()
    assert moved > 30


def test_features_tell_different_networks_apart():
    rng, features = np.random.default_rng(0), CellFeatures(SPACE)
    cells = [SPACE.random(rng) for _ in range(50)]
    cells += [SPACE.mutated(decisions, rng) for decisions in cells]
    names = [canonical_name(SPACE.decode(decisions)) for decisions in cells]
    rows = {row.tobytes() for row in features(cells).toarray()}
    assert len(set(names)) - len(rows) <= 1  # no more than an accident


def test_features_by_hand():
    """A cell of two blocks, the second of which reads the first and the older input."""
    space = SearchSpace(blocks=2, operations=("identity", "conv_1x1"), combinations=("add", "concat"))
    block = [0, 1, 0, 1, 0]  # identity of the older, conv of the newer, added
    found = CellFeatures(space)([(*block, 2, 0, 1, 1, 1) * 2]).toarray()[0]
    normal, reduction = np.split(found, 2)
    assert (normal == reduction).all()
    assert normal.tolist() == [
        *(1, 3),  # identity, conv
        *(1, 0, 0, 1, 1, 1),  # of older, newer, block
        *(1, 0, 1, 2),  # inside, leaving
        *(0, 0, 1, 0, 0, 1),  # identity with identity (add, concat), with conv, conv with conv
        *(0, 0.5, 0, 0.5),  # identity made what identity reads, …, what conv reads, …
        *(1, 1),  # one block at depth 1, one at 2
        1,
        *(1, 1),
    ]


def own(count):
    """None of so many rewards is another search's."""
    return np.zeros(count, dtype=bool)


def test_a_regressor_is_scikit_learns():
    rng, features = np.random.default_rng(0), CellFeatures(SPACE)
    x = features([SPACE.random(rng) for _ in range(30)]).toarray()
    new, targets = features([SPACE.random(rng) for _ in range(7)]).toarray(), rng.normal(size=30)
    kernel = RBF(7.0)
    mine = ensemble.Regressor(kernel(x), 0.4, targets, own(30))
    other = GaussianProcessRegressor(kernel, alpha=0.4, optimizer=None).fit(x, targets - mine._constant)
    mean, spread = other.predict(new, return_std=True)
    np.testing.assert_allclose(mine.mean(kernel(new, x)), mean + mine._constant, atol=1e-10)
    variance = mine.variance(kernel(new, x), 1.0)
    np.testing.assert_allclose(variance, mine._unit * spread**2, atol=1e-10)
    # The likelihood that is highest in the constant and in the unit.
    at_unit = GaussianProcessRegressor(kernel, alpha=0.4, optimizer=None).fit(x, targets / mine._unit**0.5)
    assert mine.evidence > at_unit.log_marginal_likelihood_value_ + 15 * np.log(2 * np.pi)


def test_what_is_known_grows_to_what_it_would_be_at_once():
    rng = np.random.default_rng(0)
    cells = [SPACE.random(rng) for _ in range(9)]
    nothing = ensemble.Known.nothing(CellFeatures(SPACE))
    at_once, grown = nothing.with_more(cells), nothing.with_more(cells[:4]).with_more(cells[4:5]).with_more(cells[5:])
    counts = CellFeatures(SPACE)(cells).toarray()
    for known in (at_once, grown):
        assert (known.counts == counts).all() and (known.products == counts @ counts.T).all()
        expected = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in cells] for one in cells]
        assert (known.alike == expected).all()


@pytest.mark.parametrize("writing", [0.0, 3.0])
def test_a_kernel_is_half_linear_and_half_of_likeness(writing):
    rng = np.random.default_rng(0)
    cells = np.array([SPACE.random(rng) for _ in range(6)])
    known = ensemble.Known.nothing(CellFeatures(SPACE)).with_more([tuple(cell) for cell in cells.tolist()])
    one_hot = np.concatenate([cells[:, [place]] == range(13) for place in range(30)], axis=1)
    x = np.concatenate([known.counts, writing**0.5 * one_hot], axis=1)
    distances = ((x[:, None] - x) ** 2).sum(axis=2)
    scale = distances[:4, :4].sum() / 12
    expected = x @ x.T / scale + 0.5 * np.exp(-distances / scale)
    kernel = ensemble.Kernel(writing, known, 4)
    np.testing.assert_allclose(kernel.known, expected)
    between, own = kernel(known.products, known.alike, known.products.diagonal())
    np.testing.assert_allclose(between, expected)
    np.testing.assert_allclose(own, expected.diagonal())


def test_who_sees_the_writing_is_asked_only_where_it_counts():
    weights = {}
    for name, reward in (("network", share_of_pools), ("writing", lambda cell: (cell[2] > 6) - (cell[13] > 6) + 0.0)):
        strategy = told(Predictor(SPACE, seed=0), 120, reward)
        known = strategy._known.with_more(strategy._cells)
        asked = ensemble.Ensemble(known, np.array(strategy._rewards))._asked
        weights[name] = sum(weight for weight, kernel, _ in asked if kernel.writing)
    assert weights["network"] < 0.1 and weights["writing"] > 0.9


def test_pending_cells_leave_the_mean_and_take_the_doubt():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3))
    kernel, targets = RBF(1.0), rng.normal(size=10)
    without = ensemble.Regressor(kernel(x[:10]), 0.1, targets, own(10))
    pending = ensemble.Regressor(kernel(x), 0.1, targets, own(10))
    np.testing.assert_allclose(pending.mean(kernel(x)), without.mean(kernel(x, x[:10])))
    before, after = without.variance(kernel(x, x[:10]), 1.0), pending.variance(kernel(x), 1.0)
    assert (after <= before + 1e-12).all() and after[11] < 0.5 * before[11]


def test_it_begins_at_random_and_then_proposes_what_was_good():
    strategy = Predictor(SPACE, seed=3)
    told(strategy, 11, share_of_pools)
    assert strategy.propose(50).decisions == RandomSearch(SPACE, seed=3).propose(50).decisions
    told(strategy, 30, share_of_pools, seed=2)
    assert np.mean([share_of_pools(strategy.propose().decisions) for _ in range(10)]) > 0.6  # at random 0.31


def test_proposals_are_a_function_of_seed_rewards_and_pending_trials():
    one, other = (told(Predictor(SPACE, seed=3), 30, share_of_pools) for _ in range(2))
    for number in range(5):  # asked in between, or not
        one.propose(100 + number)
        one.feedback(Proposal(100 + number, (0,) * 30), 0.1)
        other.feedback(Proposal(100 + number, (0,) * 30), 0.1)
    assert one.propose(200) == other.propose(200)
    assert one.propose(201).decisions != told(Predictor(SPACE, seed=3), 30, share_of_pools).propose(201).decisions
    one.pending.clear()
    other.pending.clear()
    other.expect(Proposal(300, one.propose(202).decisions))
    assert one.propose(202).decisions != other.propose(202).decisions


def test_what_was_tried_failed_or_is_pending_is_not_proposed_again_however_it_is_written():
    strategy, seen = Predictor(SPACE, PredictorSettings(beginning=2, candidates=60), seed=0), []
    for number in range(60):
        proposal = strategy.propose()
        seen.append(canonical_name(SPACE.decode(proposal.decisions)))
        if number % 3:
            strategy.feedback(proposal, None if number % 3 == 1 else share_of_pools(proposal.decisions))
    assert len(set(seen)) == 60


def test_it_is_ahead_of_random_by_far_within_sixty_trials():
    rng = np.random.default_rng(7)
    worth = [rng.normal(size=len(decision.choices)) for decision in SPACE.decisions]
    best = {}
    for strategy in (Predictor(SPACE, seed=1), RandomSearch(SPACE, seed=1)):
        values = []
        for _ in range(60):
            proposal = strategy.propose()
            values.append(sum(table[choice] for table, choice in zip(worth, proposal.decisions, strict=True)))
            strategy.feedback(proposal, values[-1])
        best[strategy.name] = max(values)
    assert best["predictor"] > best["random"] + 3


REWARDS = {
    "all equal": lambda number: 0.5,
    "zero": lambda number: 0.0,
    "huge": lambda number: 1e300 * (-1) ** number,
    "tiny": lambda number: 1e-310 * number,
    "one far below": lambda number: -1e9 if number == 3 else number / 30,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", REWARDS)
def test_rewards_of_any_size_are_answered_sanely(kind):
    strategy = Predictor(SPACE, PredictorSettings(beginning=5, candidates=40), seed=0)
    proposals = []
    for number in range(20):
        proposals.append(strategy.propose())
        strategy.feedback(proposals[-1], REWARDS[kind](number))
    assert len({proposal.decisions for proposal in proposals}) == 20


def test_an_outlier_below_does_not_hide_what_the_others_say():
    rewards = np.linspace(0, 1, 21)
    order = np.argsort(ensemble.targets(np.array([*rewards, -100.0]), own(22)))
    assert order[0] == 21 and list(order[1:]) == list(range(21))
    targets = ensemble.targets(np.array([*rewards, -100.0]), own(22))
    assert targets[20] - targets[0] > 1.5


@pytest.mark.parametrize("fails", [False, True])
def test_an_exhausted_space_goes_on_after_each_network_was_tried_once(fails):
    strategy = Predictor(SMALL, PredictorSettings(beginning=2, candidates=10), seed=0)
    names = []
    for number in range(120):  # 144 strings, of fewer networks
        proposal = strategy.propose()
        names.append(canonical_name(SMALL.decode(proposal.decisions)))
        strategy.feedback(proposal, None if fails else number % 7)
    first = len(set(names)) * 9 // 10  # the last ones are rare among random draws
    assert len(set(names[:first])) == first < 108


def test_the_trials_of_another_search_teach_which_cells_are_alike_and_not_how_high_rewards_are():
    rng, proposed = np.random.default_rng(5), []
    cells = [SPACE.random(rng) for _ in range(40)]
    for offset in (0.0, 1.0, -1000.0):
        strategy = Predictor(SPACE, seed=1)
        for number, cell in enumerate(cells, 1):
            strategy.feedback(strategy.adopt(-number, cell), share_of_pools(cell) + offset)
        proposed.append([])
        for _ in range(20):
            proposal = strategy.propose()
            proposed[-1].append(share_of_pools(proposal.decisions))
            strategy.feedback(proposal, proposed[-1][-1])
    assert [np.mean(values[-10:]) for values in proposed] > [0.6] * 3  # at random 0.31


def test_the_best_cell_of_another_search_is_trained_here_even_if_that_has_seen_all():
    worth = np.random.default_rng(3).normal(size=(len(SMALL.decisions), 2))
    cells = list(product(*(range(len(decision.choices)) for decision in SMALL.decisions)))
    strategy = Predictor(SMALL, PredictorSettings(candidates=40), seed=0)
    for number, cell in enumerate(cells, 1):
        strategy.feedback(strategy.adopt(-number, cell), value(cell, worth) + 5.0)
    proposals = [strategy.propose() for _ in range(8)]
    best = max(cells, key=lambda cell: value(cell, worth))
    assert canonical_name(SMALL.decode(best)) in [canonical_name(SMALL.decode(one.decisions)) for one in proposals]


def value(cell, worth):
    return sum(float(table[choice % 2]) for table, choice in zip(worth, cell, strict=True))


def test_the_constant_of_another_searchs_rewards_is_its_own():
    rng = np.random.default_rng(0)
    x, foreign = rng.normal(size=(30, 3)), np.arange(30) < 12
    kernel, targets = RBF(1.0), rng.normal(size=30)
    one = ensemble.Regressor(kernel(x), 0.1, targets, foreign)
    other = ensemble.Regressor(kernel(x), 0.1, targets + 7.0 * foreign, foreign)
    np.testing.assert_allclose(one.mean(kernel(x)), other.mean(kernel(x)), atol=1e-9)
    assert one.evidence == pytest.approx(other.evidence)
    shifted = ensemble.Regressor(kernel(x), 0.1, targets + 7.0 * ~foreign, foreign)
    np.testing.assert_allclose(one.mean(kernel(x)) + 7.0, shifted.mean(kernel(x)), atol=1e-9)


def test_a_proposal_does_its_algebra_on_one_thread(monkeypatch):
    seen, inner = [], ensemble.Ensemble.expected_gains

    def gains(self, cells):
        seen.append({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"})
        return inner(self, cells)

    monkeypatch.setattr(ensemble.Ensemble, "expected_gains", gains)
    told(Predictor(SPACE, seed=1), 20, share_of_pools).propose()
    assert seen == [{1}, {1}]


def test_long_searches_forget_all_but_the_best_and_the_latest(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "MOST", 40)
    monkeypatch.setattr(predictor, "KEPT", 20)
    strategy = told(Predictor(SPACE, seed=1), 41, share_of_pools)
    assert len(strategy._cells) == 20 and len(strategy._tried) > 35
    every = sorted(
        (share_of_pools(SPACE.random(rng)) for rng in [np.random.default_rng(1)] for _ in range(41)), reverse=True
    )
    assert sorted(strategy._rewards, reverse=True)[:10] == every[:10]
    strategy.propose(60)
    strategy.save(tmp_path / "state.npz")
    again = Predictor(SPACE, seed=1)
    again.restore(tmp_path / "state.npz")
    assert again.propose(61) == strategy.propose(61)


@pytest.mark.parametrize(
    ("name", "value"), [("beginning", 1), ("candidates", 1), ("parents", 0), ("random", 2), ("random", None)]
)
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        PredictorSettings(**{name: value})
