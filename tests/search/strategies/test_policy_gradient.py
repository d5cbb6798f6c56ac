"""The losses, against numbers worked out by hand and against finite differences."""

import numpy as np
import pytest

from nasnet_keras.search.strategies import policy_gradient as pg

LOG2, LOG3 = np.log(2.0), np.log(3.0)


def slope(function, at, step=1e-6):
    """Gradient of a scalar function by central differences."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            gradient[index] += sign * function(moved) / (2 * step)
    return gradient


def test_masked_log_softmax_by_hand():
    logits = np.array([[0.0, LOG3, 500.0], [7.0, 7.0, 7.0]])
    mask = np.array([[True, True, False], [True, True, True]])
    logs = pg.masked_log_softmax(logits, mask)
    np.testing.assert_allclose(np.exp(logs), [[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert logs[0, 2] == -np.inf


def test_masked_log_softmax_of_huge_logits_is_finite():
    logs = pg.masked_log_softmax(np.array([1e5, 0.0, 1e308]), np.array([True, True, False]))
    np.testing.assert_array_equal(logs, [0.0, -1e5, -np.inf])


def test_log_probability_by_hand():
    logits = np.array([[0.0, LOG3, 9.0]])
    mask = np.array([True, True, False])
    value, gradient = pg.log_probability(logits, np.array([1]), mask)
    np.testing.assert_allclose(value, [np.log(0.75)])
    np.testing.assert_allclose(gradient, [[-0.25, 0.25, 0.0]])


def test_entropy_by_hand():
    mask = np.array([True, True, False])
    value, gradient = pg.entropy(np.zeros((1, 3)), mask)
    np.testing.assert_allclose(value, [LOG2])
    np.testing.assert_allclose(gradient, np.zeros((1, 3)), atol=1e-15)
    value, gradient = pg.entropy(np.array([[0.0, LOG3, 0.0]]), mask)
    by_hand = 2 * LOG2 - 0.75 * LOG3  # -(1/4 log 1/4 + 3/4 log 3/4)
    np.testing.assert_allclose(value, [by_hand])
    np.testing.assert_allclose(gradient[0, 0], -0.25 * (-2 * LOG2 + by_hand))
    assert gradient[0, 2] == 0


@pytest.mark.parametrize("function", ["log_probability", "entropy"])
def test_gradients_with_respect_to_logits(function, rng):
    logits = rng.normal(size=(2, 3, 4))
    mask = np.array([[True, True, False, False], [True, True, True, True], [True, False, False, False]])
    arguments = (np.array([[1, 3, 0], [0, 2, 0]]),) if function == "log_probability" else ()

    def total(at):
        return getattr(pg, function)(at, *arguments, mask)[0].sum()

    _, gradient = getattr(pg, function)(logits, *arguments, mask)
    np.testing.assert_allclose(gradient, slope(total, logits), atol=1e-8)


def test_reinforce_loss_by_hand():
    logs = np.array([[-1.0, -2.0], [-3.0, -4.0]])
    value, gradient = pg.reinforce_loss(logs, np.array([2.0, -1.0]))
    assert value == -(2 * -3 + -1 * -7) / 2
    np.testing.assert_array_equal(gradient, [[-1.0, -1.0], [0.5, 0.5]])


def test_ppo_loss_by_hand():
    # Ratios 1, 1.5, 0.5 for a good architecture, and the same for a bad one, clipped at 0.2.
    ratios = np.array([[1.0, 1.5, 0.5], [1.0, 1.5, 0.5]])
    sampled = np.full((2, 3), -1.0)
    value, gradient = pg.ppo_loss(sampled + np.log(ratios), sampled, np.array([2.0, -2.0]), 0.2)
    good = 2 * 1 + 2 * 1.2 + 2 * 0.5
    bad = -2 * 1 - 2 * 1.5 - 2 * 0.8
    assert value == pytest.approx(-(good + bad) / 2)
    # Nothing pushes a ratio that has already gone far enough in the wanted direction.
    np.testing.assert_allclose(gradient, [[-1.0, 0.0, -0.5], [1.0, 1.5, 0.0]])


def test_ppo_is_reinforce_where_the_policy_has_not_moved(rng):
    logs, advantages = rng.normal(size=(5, 7)) - 2, rng.normal(size=5)
    np.testing.assert_allclose(pg.ppo_loss(logs, logs, advantages, 0.2)[1], pg.reinforce_loss(logs, advantages)[1])


def test_loss_gradients_against_finite_differences(rng):
    logs, advantages = rng.normal(size=(4, 3)) - 2, rng.normal(size=4)
    sampled = logs + rng.normal(size=(4, 3)) * 0.3
    value, gradient = pg.reinforce_loss(logs, advantages)
    np.testing.assert_allclose(gradient, slope(lambda at: pg.reinforce_loss(at, advantages)[0], logs), atol=1e-8)
    value, gradient = pg.ppo_loss(logs, sampled, advantages, 0.2)
    assert isinstance(value, float)
    assert (gradient == 0).any()
    np.testing.assert_allclose(
        gradient, slope(lambda at: pg.ppo_loss(at, sampled, advantages, 0.2)[0], logs), atol=1e-8
    )


def test_moving_average_by_hand():
    assert pg.moving_average(1.0, [0.0, 2.0], 0.5) == 1.25
    assert pg.moving_average(0.6, [0.8], 0.95) == pytest.approx(0.61)
    assert pg.moving_average(0.6, [], 0.95) == 0.6


@pytest.mark.parametrize("shape", [(3, 1), (1,), (2, 3), ()])
def test_shapes_that_would_be_broadcast_are_refused(shape):
    logs = np.zeros((3, 2))
    for loss in (lambda a: pg.reinforce_loss(logs, a), lambda a: pg.ppo_loss(logs, logs, a, 0.2)):
        loss(np.zeros(3))
        with pytest.raises(ValueError, match=r"`log_probabilities` must be \[N, T\] and `advantages` \[N\]"):
            loss(np.zeros(shape))
    with pytest.raises(ValueError, match="Received"):
        pg.ppo_loss(logs, logs[:1], np.zeros(3), 0.2)


def test_importance_weights_by_hand():
    before, sampled = np.log([[0.5, 0.3, 0.09]]), np.log([[0.5, 0.1, 0.9]])
    weights = pg.importance_weights(before, sampled, 2.0)
    np.testing.assert_allclose(weights, [[1.0, 2.0, 0.1]])
    assert weights[0, 0] == 1.0
    assert pg.importance_weights(np.array([[0.0]]), np.array([[-1e4]]), 2.0) == 2.0  # without an overflow


def test_effective_sample_size_by_hand():
    assert pg.effective_sample_size(np.ones((4, 5))) == 20
    assert pg.effective_sample_size(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert pg.effective_sample_size(np.array([1.0, 1e-9])) == pytest.approx(1.0)


def test_decoupled_ppo_by_hand():
    # Ratios as above to the policy before the update; the second decision of each weighs twice, the third half.
    ratios, weights = np.array([[1.0, 1.5, 0.5], [1.0, 1.5, 0.5]]), np.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5]])
    before = np.full((2, 3), -1.0)
    value, gradient = pg.ppo_loss(before + np.log(ratios), before, np.array([2.0, -2.0]), 0.2, weights)
    good = 2 * 1 + 2 * 2 * 1.2 + 0.5 * 2 * 0.5
    bad = -2 * 1 - 2 * 2 * 1.5 - 0.5 * 2 * 0.8
    assert value == pytest.approx(-(good + bad) / 2)
    np.testing.assert_allclose(gradient, [[-1.0, 0.0, -0.25], [1.0, 3.0, 0.0]])


def test_weights_of_one_change_no_bit(rng):
    logs, advantages = rng.normal(size=(6, 5)) - 2, rng.normal(size=6)
    before = logs + rng.normal(size=(6, 5)) * 0.3
    plain, weighted = (pg.ppo_loss(logs, before, advantages, 0.2, *further) for further in ((), (np.ones_like(logs),)))
    assert plain[0] == weighted[0]
    np.testing.assert_array_equal(plain[1], weighted[1])


def test_the_decoupled_loss_s_gradient_against_finite_differences(rng):
    logs, advantages = rng.normal(size=(4, 3)) - 2, rng.normal(size=4)
    before, weights = logs + rng.normal(size=(4, 3)) * 0.3, rng.uniform(0.1, 2, size=(4, 3))
    _, gradient = pg.ppo_loss(logs, before, advantages, 0.2, weights)
    numeric = slope(lambda at: pg.ppo_loss(at, before, advantages, 0.2, weights)[0], logs)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)
