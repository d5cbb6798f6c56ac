"""The controller: its gradients, its sampling, its memory, and that it learns."""

import dataclasses
import json

import numpy as np
import pytest

from nasnet_keras.search.space import SearchSpace
from nasnet_keras.search.strategies.controller import CAP, Controller, ControllerSettings
from nasnet_keras.search.strategies.policy_gradient import log_probability
from nasnet_keras.search.strategies.policy_network import PolicyNetwork
from nasnet_keras.search.strategies.strategy import Proposal

SMALL = ControllerSettings(hidden_units=8, embedding_size=6, batch_size=4)
SPACE = SearchSpace(blocks=2)


def agreement(target):
    """A reward with a known optimum: the share of decisions that are the target's."""
    return lambda proposal: float(np.mean(np.array(proposal.decisions) == np.array(target)))


def play(strategy, reward, children):
    """The rewards of so many children, told as they come."""
    rewards = []
    for _ in range(children):
        proposal = strategy.propose()
        rewards.append(reward(proposal))
        strategy.feedback(proposal, rewards[-1])
    return rewards


def test_the_defaults_are_the_paper_s():
    settings = ControllerSettings()
    assert (settings.hidden_units, settings.initial_range, settings.learning_rate) == (100, 0.1, 0.00035)
    assert (settings.entropy_weight, settings.baseline_decay, settings.batch_size) == (1e-5, 0.95, 20)
    assert settings.algorithm == "ppo"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.clip = 1.0


def test_backpropagation_through_time_against_finite_differences(rng):
    space = SearchSpace(blocks=2, operations=("identity", "conv_3x3", "conv_1x1"))
    network = PolicyNetwork(space.decisions, hidden_units=3, embedding_size=2)
    vector = network.initial_parameters(rng, 0.8)
    actions = np.array([space.random(rng) for _ in range(4)])
    logits, kept = network.forward(vector, actions)
    assert logits.shape == (4, 20, 3)
    weights = rng.normal(size=logits.shape)
    gradient = network.backward(vector, kept, weights)
    numeric = np.empty_like(vector)
    for index in range(len(vector)):
        ends = []
        for step in (1e-6, -1e-6):
            moved = vector.copy()
            moved[index] += step
            ends.append((network.forward(moved, actions)[0] * weights).sum())
        numeric[index] = (ends[0] - ends[1]) / 2e-6
    for name, part in network.unpack(gradient).items():
        np.testing.assert_allclose(part, network.unpack(numeric)[name], atol=1e-7, err_msg=name)
        assert np.abs(part).max() > 1e-3, name


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_the_gradient_of_the_whole_objective(algorithm, rng):
    settings = dataclasses.replace(SMALL, algorithm=algorithm, entropy_weight=0.3, hidden_units=3, embedding_size=2)
    controller = Controller(SearchSpace(blocks=1), settings)
    proposals = [controller.propose() for _ in range(5)]
    actions = np.array([proposal.decisions for proposal in proposals])
    sampled = np.array([proposal.log_probability for proposal in proposals])
    sampled += rng.normal(size=sampled.shape) * 0.2
    advantages = rng.normal(size=5)
    _, _, gradient = controller._objective(actions, sampled, advantages)
    start = controller._parameters.copy()
    for index in rng.choice(len(start), 40, replace=False):
        ends = []
        for step in (1e-5, -1e-5):
            controller._parameters = start.copy()
            controller._parameters[index] += step
            ends.append(controller._objective(actions, sampled, advantages)[0])
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_the_log_probabilities_of_sampling_are_those_of_training():
    controller = Controller(SPACE, SMALL)
    proposals = [controller.propose() for _ in range(6)]
    actions = np.array([proposal.decisions for proposal in proposals])
    sampled = np.array([proposal.log_probability for proposal in proposals])
    logits, _ = controller._network.forward(controller._parameters, actions)
    trained = log_probability(logits, actions, controller._network.mask)[0]
    np.testing.assert_allclose(sampled, trained, rtol=1e-12)


def test_it_samples_in_proportion_and_never_takes_the_maximum():
    space = SearchSpace(blocks=1, operations=("identity", "conv_3x3", "conv_1x1"), combinations=("add",))
    controller = Controller(space, dataclasses.replace(SMALL, initial_range=1.5))
    first, count = [], 1000
    for _ in range(count):
        proposal = controller.propose()
        space.decode(proposal.decisions)
        first.append(proposal.decisions[0])
        probability = {proposal.decisions[0]: np.exp(proposal.log_probability[0])}
    share = np.mean(np.array(first) == next(iter(probability)))
    expected = next(iter(probability.values()))
    assert 0.05 < expected < 0.95
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / count)


def test_decisions_depend_on_the_decisions_before_them():
    network = PolicyNetwork(SPACE.decisions, 8, 6)
    vector = network.initial_parameters(np.random.default_rng(0), 1.0)
    actions = np.zeros((2, 20), dtype=int)
    actions[1, 3] = 5
    logits, _ = network.forward(vector, actions)
    np.testing.assert_array_equal(logits[0, :4], logits[1, :4])
    assert all(np.abs(logits[0, step] - logits[1, step]).max() > 0 for step in range(4, 20))


def test_a_proposal_depends_only_on_its_number_and_what_was_learnt():
    one, other = Controller(SPACE, SMALL, seed=3), Controller(SPACE, SMALL, seed=3)
    assert [one.propose() for _ in range(5)] == [other.propose(number) for number in (0, 1, 2, 3, 4)]
    assert one.propose(2) == other.propose(2)
    assert one.propose().number == 5
    assert len({one.propose(number).decisions for number in range(20)}) == 20
    assert Controller(SPACE, SMALL, seed=4).propose() != other.propose(0)
    assert Controller(SPACE, SMALL).propose() != Controller(SPACE, SMALL, seed=2**32 - 1).propose()


def test_a_proposal_survives_json():
    proposal = Controller(SPACE, SMALL).propose()
    assert Proposal.from_dict(json.loads(json.dumps(proposal.to_dict()))) == proposal
    assert proposal.version == 0 and len(proposal.log_probability) == 20
    for broken in ({}, None, {**proposal.to_dict(), "decisions": None}):
        with pytest.raises(ValueError, match="a proposal must be"):
            Proposal.from_dict(broken)


def test_an_update_comes_with_a_full_minibatch_and_is_described():
    controller = Controller(SPACE, SMALL)
    waiting = [controller.propose() for _ in range(9)]
    rewards = [0.1, 0.2, 0.3, 0.6, 0.5, 0.5, 0.5, 0.9, 0.4]
    for proposal, reward in zip(waiting[:3], rewards, strict=False):
        controller.feedback(proposal, reward)
        assert controller.version == 0 and controller.diagnostics == {}
    for proposal, reward in list(zip(waiting, rewards, strict=True))[:2:-1]:  # late and in any order
        controller.feedback(proposal, reward)
    assert controller.version == 2 and controller.feedbacks == 9
    about = controller.diagnostics
    json.dumps(about)
    assert about["version"] == 2
    assert about["staleness"] == about["max_staleness"] == 1
    assert about["reward"] == pytest.approx(np.mean([0.9, 0.5, 0.5, 0.5]))
    baseline = np.mean([0.1, 0.2, 0.3, 0.4])
    for reward in [0.1, 0.2, 0.3, 0.4, 0.9, 0.5, 0.5, 0.5]:
        baseline = 0.95 * baseline + 0.05 * reward
    assert controller.baseline == about["baseline"] == pytest.approx(baseline)
    assert 0 < about["entropy"] < np.log(13)
    assert about["kl"] > 0


def test_a_good_architecture_becomes_more_probable_and_a_bad_one_less():
    controller = Controller(SPACE, dataclasses.replace(SMALL, batch_size=2, epochs=1))
    good, bad = controller.propose(), controller.propose()
    actions = np.array([good.decisions, bad.decisions])
    controller.feedback(good, 1.0)
    controller.feedback(bad, 0.0)
    logits, _ = controller._network.forward(controller._parameters, actions)
    after = log_probability(logits, actions, controller._network.mask)[0].sum(axis=1)
    assert after[0] > sum(good.log_probability)
    assert after[1] < sum(bad.log_probability)


def test_equal_rewards_teach_nothing_but_entropy():
    controller = Controller(SPACE, dataclasses.replace(SMALL, entropy_weight=0.0))
    before = controller._parameters.copy()
    play(controller, lambda proposal: 0.7, 8)
    assert controller.version == 2
    np.testing.assert_allclose(controller._parameters, before, atol=1e-12)


def test_the_entropy_bonus_widens_the_policy():
    settings = dataclasses.replace(SMALL, initial_range=2.0, entropy_weight=1.0, learning_rate=0.05)
    controller = Controller(SPACE, settings)
    play(controller, lambda proposal: 0.5, 4)
    start = controller.diagnostics["entropy"]
    play(controller, lambda proposal: 0.5, 40)
    assert controller.diagnostics["entropy"] > start + 0.1


def test_a_failed_child_is_counted_and_teaches_nothing(tmp_path):
    controller = Controller(SPACE, SMALL)
    before = controller._parameters.copy()
    for _ in range(6):
        controller.feedback(controller.propose(), None)
    assert (controller.feedbacks, controller.failures, controller.version) == (6, 6, 0)
    np.testing.assert_array_equal(controller._parameters, before)
    controller.save(tmp_path / "state.npz")
    restored = Controller(SPACE, SMALL)
    restored.restore(tmp_path / "state.npz")
    assert (restored.feedbacks, restored.failures) == (6, 6)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf"), np.float32("nan")])
def test_a_reward_that_is_no_number_is_refused(reward):
    controller = Controller(SPACE, SMALL)
    with pytest.raises(ValueError, match="`reward` must be a finite number"):
        controller.feedback(controller.propose(), reward)
    assert controller.feedbacks == 0


def test_a_proposal_of_another_kind_is_refused():
    controller = Controller(SPACE, SMALL)
    proposal = controller.propose()
    with pytest.raises(ValueError, match="`decisions`"):
        controller.feedback(Controller(SearchSpace(), SMALL).propose(), 0.5)
    with pytest.raises(ValueError, match="log-probability"):
        controller.feedback(dataclasses.replace(proposal, log_probability=()), 0.5)
    assert controller.feedbacks == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_units", 0),
        ("hidden_units", 1.0),
        ("batch_size", True),
        ("epochs", -1),
        ("embedding_size", 0),
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("baseline_decay", 1.0),
        ("adam_beta_1", 1.5),
        ("clip", "0.2"),
        ("adam_epsilon", 0),
        ("adam_epsilon", float("inf")),
        ("algorithm", "a2c"),
    ],
)
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: "):
        ControllerSettings(**{name: value})


@pytest.mark.parametrize("seed", [-1, 2**32, 0.0, None, True])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="`seed`"):
        Controller(SPACE, SMALL, seed=seed)


def test_restore_refuses_what_is_not_its_own(tmp_path):
    path = tmp_path / "state.npz"
    Controller(SPACE, SMALL, seed=1).save(path)
    for other, message in (
        (Controller(SPACE, SMALL, seed=2), "`seed` must be that of this strategy, 2. Received: 1"),
        (Controller(SearchSpace(blocks=1), SMALL, seed=1), "`space`"),
        (Controller(SPACE, seed=1), "`settings`"),
    ):
        before = other.propose(7)
        with pytest.raises(ValueError, match=message):
            other.restore(path)
        assert other.propose(7) == before
    with pytest.raises(ValueError, match="nowhere"):
        Controller(SPACE, SMALL).restore(tmp_path / "nowhere.npz")


def test_restore_refuses_damaged_files_and_stays_as_it_was(tmp_path, rng):
    path = tmp_path / "state.npz"
    controller = Controller(SPACE, SMALL)
    play(controller, lambda proposal: 0.5, 6)
    controller.save(path)
    content = path.read_bytes()
    before = controller.propose(100)
    for length in [0, 1, 30, *rng.integers(len(content), size=30)]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"state\.npz: not a state"):
            controller.restore(path)
        assert controller.propose(100) == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_two_armed_bandit_is_learnt():
    space = SearchSpace(blocks=1, operations=("identity", "conv_3x3"), combinations=("add",))
    # Higher learning rates than the paper's: 400 children instead of thousands.
    for algorithm, rate in (("ppo", 0.0035), ("reinforce", 0.01)):
        settings = ControllerSettings(hidden_units=16, learning_rate=rate, algorithm=algorithm)
        noise = np.random.default_rng(0)
        controller = Controller(space, settings)
        play(controller, lambda proposal, noise=noise: 0.2 * proposal.decisions[2] + noise.normal() * 0.1, 400)
        arms = [controller.propose().decisions for _ in range(100)]
        assert np.mean([arm[2] for arm in arms]) > 0.85, algorithm


@pytest.mark.parametrize(
    "settings",
    [
        ControllerSettings(),  # the paper's, learning rate included
        ControllerSettings(
            algorithm="reinforce", learning_rate=0.002, batch_size=10
        ),  # it takes one step where PPO takes four
    ],
)
def test_a_known_optimum_is_approached_far_ahead_of_random(settings):
    space = SearchSpace(blocks=2)
    target = space.random(np.random.default_rng(99))
    rewards = play(Controller(space, settings), agreement(target), 600)
    by_chance = np.mean([1 / len(decision.choices) for decision in space.decisions])
    assert np.mean(rewards[:20]) < by_chance + 0.1
    assert np.mean(rewards[-40:]) > 0.65 > 2 * by_chance


class Coupled(Controller):
    """Clips around the policy that sampled, as the controller did before stale proposals had weights."""

    def _before(self, actions, sampled, is_stale):
        return sampled, np.ones_like(sampled)


def test_without_staleness_no_bit_changes():
    runs = []
    for kind in (Controller, Coupled):
        controller = kind(SPACE, SMALL, seed=5)
        rewards = play(controller, lambda proposal: sum(proposal.decisions) % 7 / 7, 40)
        assert controller.version == 10
        runs.append((rewards, controller._parameters.tobytes(), controller.diagnostics))
    assert runs[0] == runs[1]
    about = runs[0][2]
    assert about["staleness"] == 0 and about["weight"] == 1
    assert about["effective_sample_size"] == SMALL.batch_size


def test_a_stale_proposal_weighs_what_the_policy_has_made_of_it():
    controller = Controller(SPACE, dataclasses.replace(SMALL, learning_rate=0.05))
    stale = [controller.propose() for _ in range(4)]
    play(controller, lambda proposal: float(proposal.decisions[0]), 8)
    assert controller.version == 2
    actions = np.array([proposal.decisions for proposal in stale])
    sampled = np.array([proposal.log_probability for proposal in stale])
    logits, _ = controller._network.forward(controller._parameters, actions)
    now = log_probability(logits, actions, controller._network.mask)[0]
    by_hand = np.minimum(np.exp(now) / np.exp(sampled), CAP)
    assert by_hand.min() < 0.9 and (by_hand == CAP).any()
    for proposal in stale:
        controller.feedback(proposal, 0.5)
    about = controller.diagnostics
    assert about["max_staleness"] == 2
    assert about["weight"] == pytest.approx(by_hand.mean())
    assert about["effective_sample_size"] == pytest.approx(by_hand.sum() ** 2 / (by_hand**2).sum() / 20)


def test_fresh_proposals_of_a_mixed_batch_keep_their_numbers():
    controller = Controller(SPACE, SMALL)
    old = controller.propose()
    play(controller, lambda proposal: float(proposal.decisions[0]), 4)
    fresh = [controller.propose() for _ in range(3)]
    actions = np.array([proposal.decisions for proposal in (old, *fresh)])
    sampled = np.array([proposal.log_probability for proposal in (old, *fresh)])
    before, weights = controller._before(actions, sampled, np.array([True, False, False, False]))
    np.testing.assert_array_equal(before[1:], sampled[1:])
    np.testing.assert_array_equal(weights[1:], 1.0)
    assert (before[0] != sampled[0]).any() and (weights[0] != 1.0).any()


@pytest.mark.long
def test_many_workers_learn():
    """With rewards that are many updates old the clip around the sampler leaves nothing to learn."""
    space = SearchSpace(blocks=2)
    target = space.random(np.random.default_rng(99))
    reward, settings, means = agreement(target), ControllerSettings(learning_rate=0.006, hidden_units=24), {}
    for kind in (Controller, Coupled):
        controller, waiting, rewards = kind(space, settings), [], []
        while len(rewards) < 900:
            while len(waiting) < 120:
                waiting.append(controller.propose())
            proposal = waiting.pop(0)
            rewards.append(reward(proposal))
            controller.feedback(proposal, rewards[-1])
        assert controller.diagnostics["max_staleness"] >= 5
        means[kind] = np.mean(rewards[-100:])
    assert means[Controller] > 0.75 and means[Controller] > means[Coupled] + 0.1
