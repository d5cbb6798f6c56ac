"""The reinforcement-learning controller: an LSTM that proposes cells and learns from their rewards.

Source: Zoph et al. 2018 (arXiv 1707.07012), section 3.2 and appendix A.1: a one-layer
LSTM trained with proximal policy optimisation (PPO). It samples and never takes the
most probable choice. Why NumPy: see `policy_gradient`.
"""

import math
from dataclasses import dataclass

import numpy as np

from nasnet_keras.checks import check_integer, check_one_of, check_positive, is_number, take_integers, take_numbers
from nasnet_keras.search.strategies import policy_gradient
from nasnet_keras.search.strategies.policy_network import PolicyNetwork
from nasnet_keras.search.strategies.strategy import Proposal, Strategy

CAP = 1.0  # the highest weight of a decision that an earlier policy has sampled


@dataclass(frozen=True)
class ControllerSettings:
    """How the controller is built and trained; the defaults are the paper's where it gives a value.

    Args:
        hidden_units: LSTM units (paper: 100).
        initial_range: all parameters start uniform in plus and minus this (paper: 0.1).
        learning_rate: (paper: 0.00035; later re-tuned to 0.0008 by Real et al. 2019).
        entropy_weight: weight of the summed entropies in the objective (paper: 0.00001).
        baseline_decay: weight of the old value in the moving average of rewards that is
            subtracted from each reward (paper: 0.95).
        batch_size: rewards per update (paper: 20).
        algorithm: `"ppo"` (paper) or `"reinforce"`.
        clip: PPO's clip range of the probability ratio; not in the paper, 0.2 as in
            Schulman et al. 2017.
        epochs: PPO's passes over a minibatch, each one step of the optimiser; not in the
            paper. 4, which needs fewer children than 2 on a reward with a known optimum, while
            the ratios stay within the clip range. REINFORCE always takes one step.
        embedding_size: length of the vector that a choice becomes; not in the paper, 100 as
            the hidden units.
        adam_beta_1, adam_beta_2, adam_epsilon: the optimiser, which the paper does not name,
            is Adam with the values of Kingma & Ba 2015.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import ControllerSettings
        >>> ControllerSettings(learning_rate=0.006, batch_size=4).hidden_units
        100
    """

    hidden_units: int = 100
    initial_range: float = 0.1
    learning_rate: float = 0.00035
    entropy_weight: float = 0.00001
    baseline_decay: float = 0.95
    batch_size: int = 20
    algorithm: str = "ppo"
    clip: float = 0.2
    epochs: int = 4
    embedding_size: int = 100
    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_epsilon: float = 1e-8

    def __post_init__(self):
        counts = ("hidden_units", "batch_size", "epochs", "embedding_size")
        take_integers(self, *counts)
        for label in counts:
            check_integer(label, getattr(self, label), least=1)
        for label, lower, upper in (
            ("initial_range", 0, math.inf), ("learning_rate", 0, math.inf), ("entropy_weight", 0, math.inf),
            ("clip", 0, math.inf),
            ("baseline_decay", 0, 1), ("adam_beta_1", 0, 1), ("adam_beta_2", 0, 1),
        ):  # fmt: skip
            take_numbers(self, label)
            value = getattr(self, label)
            if not is_number(value) or not lower <= value < upper:
                raise ValueError(f"`{label}` must be a number from {lower} to below {upper}. Received: {value!r}")
        take_numbers(self, "adam_epsilon")
        check_positive("adam_epsilon", self.adam_epsilon, finite=True)  # what has no gradient would become 0 / 0
        check_one_of("algorithm", self.algorithm, ("ppo", "reinforce"))


class Controller(Strategy):
    """The LSTM policy over a search space: `propose`, `feedback`, `save`, `restore`.

    When a minibatch of rewards is full, the policy is updated; until then the rewards wait,
    and are saved with the rest. Results of earlier versions of the policy are welcome: PPO's
    ratio is taken against the policy just before the update, and a decision of an earlier version
    weighs what `policy_gradient.importance_weights` says. REINFORCE takes it for its own, which is
    biased where many workers search.

    Args:
        space: the `SearchSpace`.
        settings: `ControllerSettings`.
        seed: integer from 0 to 2**32 - 1.

    Attributes:
        baseline: moving average of the rewards, or None before the first update.
        version: number of updates so far.
        diagnostics: about the last update: `version`, `loss`, `reward` (mean), `baseline`,
            `entropy` (nats, mean of a decision), `kl` (estimate per decision between the policies
            that sampled and the updated one), `clipped` (share of ratios to the policy before the update
            that are beyond the clip range after it), `staleness` and `max_staleness` (updates between
            sampling and learning), and, of the weights that stale decisions get, `weight` (mean) and
            `effective_sample_size` (rewards; see `policy_gradient.effective_sample_size`).

    Examples:
        >>> from nasnet_keras import Controller, SearchSpace
        >>> space = SearchSpace(blocks=1)
        >>> controller = Controller(space, seed=0)
        >>> proposal = controller.propose()
        >>> controller.feedback(proposal, 0.5)
        >>> controller.version  # a minibatch of rewards is one update
        0
    """

    name = "rl"
    Settings = ControllerSettings

    def __init__(self, space, settings=None, seed=0):
        super().__init__(space, settings, seed)
        self.baseline = None
        self._network = PolicyNetwork(space.decisions, self.settings.hidden_units, self.settings.embedding_size)
        # Not [seed, n], which belongs to proposal n, and not [seed], which is the same as [seed, 0].
        rng = np.random.default_rng([seed, 0, 1])
        self._parameters = self._network.initial_parameters(rng, self.settings.initial_range)
        self._moments = np.zeros((2, self._network.size))  # Adam's
        self._steps = 0
        self._waiting = []  # (Proposal, reward)

    def check_use(self):
        """Refuses settings of PPO for REINFORCE."""
        for name in ("clip", "epochs"):
            value = getattr(self.settings, name)
            if self.settings.algorithm != "ppo" and value != getattr(ControllerSettings, name):
                raise ValueError(f"`{name}` needs `algorithm` ppo, and does nothing without. Received: {value!r}")

    @property
    def learns_after(self):
        """As `Strategy.learns_after`."""
        return self.settings.batch_size

    def _sample(self, rng):
        return self._network.sample(self._parameters, rng)

    def _log_probability(self, decisions):
        return tuple(self._log_probabilities(np.array([decisions]))[0].tolist())

    def _learn(self, proposal, reward):
        if len(proposal.log_probability) != len(proposal.decisions):
            raise ValueError(
                "`proposal` must carry the log-probability of each decision. "
                f"Received: {len(proposal.log_probability)} for {len(proposal.decisions)} decisions"
            )
        self._waiting.append((proposal, reward))
        if len(self._waiting) == self.settings.batch_size:
            self._update()
            self._waiting = []

    def _update(self):
        settings = self.settings
        proposals = [proposal for proposal, _ in self._waiting]
        rewards = np.array([reward for _, reward in self._waiting])
        actions = np.array([proposal.decisions for proposal in proposals])
        sampled = np.array([proposal.log_probability for proposal in proposals])
        staleness = [self.version - proposal.version for proposal in proposals]
        if self.baseline is None:
            self.baseline = float(rewards.mean())
        advantages = rewards - self.baseline
        before, weights = self._before(actions, sampled, np.array(staleness) > 0)
        for _ in range(settings.epochs if settings.algorithm == "ppo" else 1):
            loss, entropies, gradient = self._objective(actions, before, advantages, weights)
            self._descend(gradient)
        after = self._log_probabilities(actions)
        drift = after - sampled
        self.baseline = policy_gradient.moving_average(self.baseline, rewards, settings.baseline_decay)
        self.version += 1
        self.diagnostics = {
            "version": self.version,
            "loss": loss,
            "reward": float(rewards.mean()),
            "baseline": self.baseline,
            "entropy": float(entropies.mean()),
            "kl": float(np.mean(np.expm1(drift) - drift)),  # r - 1 - log r: unbiased, never negative
            "clipped": float(np.mean(np.abs(np.expm1(after - before)) > settings.clip)),
            "staleness": float(np.mean(staleness)),
            "max_staleness": max(staleness),
            "weight": float(weights.mean()),
            "effective_sample_size": policy_gradient.effective_sample_size(weights) / len(self._network.mask),
        }

    def _before(self, actions, sampled, is_stale):
        """Log-probabilities under the policy before the update, and the decisions' weights, both [N, T].

        What this very policy has sampled keeps the numbers of that moment: without staleness the loss is PPO's own,
        to the last bit.
        """
        if self.settings.algorithm != "ppo" or not is_stale.any():
            return sampled, np.ones_like(sampled)
        before = np.where(is_stale[:, None], self._log_probabilities(actions), sampled)
        return before, policy_gradient.importance_weights(before, sampled, CAP)

    def _log_probabilities(self, actions):
        logits, _ = self._network.forward(self._parameters, actions)
        return policy_gradient.log_probability(logits, actions, self._network.mask)[0]

    def _objective(self, actions, before, advantages, weights=1.0):
        """The loss, the entropies [N, T] and the loss's gradient with respect to the parameters."""
        settings, mask = self.settings, self._network.mask
        logits, kept = self._network.forward(self._parameters, actions)
        logs, logs_gradient = policy_gradient.log_probability(logits, actions, mask)
        if settings.algorithm == "ppo":
            loss, slopes = policy_gradient.ppo_loss(logs, before, advantages, settings.clip, weights)
        else:
            loss, slopes = policy_gradient.reinforce_loss(logs, advantages)
        entropies, entropies_gradient = policy_gradient.entropy(logits, mask)
        entropy_weight = settings.entropy_weight / len(actions)
        loss -= entropy_weight * float(entropies.sum())
        gradient = slopes[..., None] * logs_gradient - entropy_weight * entropies_gradient
        return loss, entropies, self._network.backward(self._parameters, kept, gradient)

    def _descend(self, gradient):
        """One step of Adam (Kingma & Ba 2015)."""
        settings = self.settings
        self._steps += 1
        for moment, beta, value in (
            (self._moments[0], settings.adam_beta_1, gradient),
            (self._moments[1], settings.adam_beta_2, gradient**2),
        ):
            moment *= beta
            moment += (1 - beta) * value
        mean = self._moments[0] / (1 - settings.adam_beta_1**self._steps)
        square = self._moments[1] / (1 - settings.adam_beta_2**self._steps)
        self._parameters -= settings.learning_rate * mean / (np.sqrt(square) + settings.adam_epsilon)

    def _state(self):
        state = {
            "baseline": self.baseline,
            "steps": self._steps,
            "waiting": [proposal.to_dict() for proposal, _ in self._waiting],
            "rewards": [reward for _, reward in self._waiting],
        }
        return state, {"parameters": self._parameters, "moments": self._moments}

    def _set_state(self, state, arrays):
        size = (self._network.size,)
        if arrays["parameters"].shape != size or arrays["moments"].shape != (2, *size):
            raise ValueError("the arrays do not fit the settings")
        waiting = [Proposal.from_dict(item) for item in state["waiting"]]
        self._waiting = list(zip(waiting, state["rewards"], strict=True))
        self._parameters, self._moments = arrays["parameters"], arrays["moments"]
        self._steps = state["steps"]
        self.baseline = state["baseline"]
