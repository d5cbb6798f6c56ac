"""Policy gradients as pure functions of NumPy arrays.

A loss returns its value and its gradient with respect to its first argument, so
each can be tested against numbers worked out by hand and `policy_network` only has
to carry the gradient on.

NumPy and not `keras.ops`, on purpose: the controller has to survive the
`clear_session` that KerasTuner calls before every child, to give the identical
search on every Keras backend, to cost milliseconds per trial, and never to start a
framework in the chief of a distributed search.

Shapes: N architectures in a minibatch, T decisions each, C choices at most.
"""

import numpy as np


def masked_log_softmax(logits, mask):
    """Logarithm of the softmax over the allowed choices.

    Args:
        logits: [..., C].
        mask: booleans that broadcast to [..., C], true where a choice is allowed; at least
            one choice of each row is.

    Returns:
        [..., C]; minus infinity where a choice is not allowed.
    """
    masked = np.where(mask, logits, -np.inf)
    shifted = masked - masked.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probability(logits, actions, mask):
    """Log-probability of the choices that were taken.

    Args:
        logits: [..., C].
        actions: integers [...], the choices taken.
        mask: as in `masked_log_softmax`.

    Returns:
        The log-probabilities [...] and the gradient of each with respect to its logits
        [..., C]: one at the action, minus the probabilities.
    """
    logs = masked_log_softmax(logits, mask)
    taken = np.asarray(actions)[..., None]
    gradient = -np.exp(logs)
    np.put_along_axis(gradient, taken, np.take_along_axis(gradient, taken, axis=-1) + 1.0, axis=-1)
    return np.take_along_axis(logs, taken, axis=-1)[..., 0], gradient


def entropy(logits, mask):
    """Entropy of each decision, in nats.

    Returns:
        The entropies [...] and the gradient of each with respect to its logits [..., C].
    """
    logs = masked_log_softmax(logits, mask)
    probabilities = np.exp(logs)
    finite = np.where(mask, logs, 0.0)  # 0 · log 0 = 0
    value = -(probabilities * finite).sum(axis=-1)
    return value, -probabilities * (finite + value[..., None])


def reinforce_loss(log_probabilities, advantages):
    """Loss whose gradient is REINFORCE (Williams 1992): -mean over n of A[n] · sum over t of log p[n, t].

    Args:
        log_probabilities: [N, T], of the decisions taken, under the policy being trained.
        advantages: [N], reward minus baseline.

    Returns:
        The loss and its gradient with respect to `log_probabilities` [N, T].

    Raises:
        ValueError: other shapes, which NumPy would broadcast to something else without a word.
    """
    _check_ranks(log_probabilities, log_probabilities, advantages)
    weights = np.broadcast_to(-advantages[:, None] / len(advantages), log_probabilities.shape)
    return float((weights * log_probabilities).sum()), weights


def importance_weights(before_log_probabilities, sampled_log_probabilities, cap):
    """How much each decision counts that another policy sampled: min(p_before / p_sampled, cap).

    Source: Hilton et al. 2022 (arXiv 2110.00641), section 2, where the policy just before the update is the proximal
    one; the cap keeps a rare decision from outweighing all others, as in Espeholt et al. 2018 (IMPALA, arXiv
    1802.01561), equation 1.

    Args:
        before_log_probabilities: [N, T], of the decisions taken, under the policy just before the update.
        sampled_log_probabilities: [N, T], kept from the moment of sampling.
        cap: the highest weight.

    Returns:
        [N, T]; exactly 1 where the two are equal.
    """
    return np.exp(np.minimum(before_log_probabilities - sampled_log_probabilities, np.log(cap)))


def effective_sample_size(weights):
    """How many equally weighted samples are worth as much as these (Kish 1965): (sum of w)² / sum of w².

    Args:
        weights: an array of numbers above 0.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def ppo_loss(log_probabilities, before_log_probabilities, advantages, clip, weights=1.0):
    """Clipped surrogate loss of PPO (Schulman et al. 2017, equation 7), every decision being one action.

    The ratio is taken against the policy just before the update. Where an earlier policy has sampled a decision the
    weights make up for that: decoupled PPO (Hilton et al. 2022, arXiv 2110.00641, section 2). Clipped around the
    policy that sampled, which may be many updates ago, most ratios would lie outside before the first step, and
    teach nothing.

    Args:
        log_probabilities: [N, T], of the decisions taken, under the policy being trained.
        before_log_probabilities: [N, T], under the policy just before the update.
        advantages: [N], reward minus baseline.
        clip: how far from 1 a ratio may go before it stops to pay.
        weights: [N, T] of `importance_weights`, or 1 for decisions that the policy before the update has sampled.

    Returns:
        The loss, -mean over n of the sum over t of w · min(ratio · A, clipped ratio · A), and its
        gradient with respect to `log_probabilities` [N, T].

    Raises:
        ValueError: as `reinforce_loss`.
    """
    _check_ranks(log_probabilities, before_log_probabilities, advantages)
    ratio = np.exp(log_probabilities - before_log_probabilities)
    advantage = advantages[:, None]
    plain = ratio * advantage
    clipped = np.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage
    value = -(weights * np.minimum(plain, clipped)).sum() / len(advantages)
    return float(value), np.where(plain <= clipped, -plain * weights / len(advantages), 0.0)


def _check_ranks(log_probabilities, sampled, advantages):
    shapes = np.shape(log_probabilities), np.shape(sampled), np.shape(advantages)
    if len(shapes[0]) != 2 or shapes[1] != shapes[0] or shapes[2] != shapes[0][:1]:
        raise ValueError(
            f"`log_probabilities` must be [N, T] and `advantages` [N]. Received: {shapes[0]}, {shapes[1:]}"
        )


def moving_average(average, values, decay):
    """Exponential moving average after some new values, taken in one by one.

    Args:
        average: the average so far.
        values: the new values, in the order of their arrival.
        decay: weight of the old average, 0 to 1 (the paper: 0.95).
    """
    for value in values:
        average = decay * average + (1.0 - decay) * float(value)
    return average
