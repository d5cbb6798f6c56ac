"""What a child is, whatever computes it: a genotype's program with weights, and the ordinary network of both."""

import numpy as np

from nasnet_keras.children.optimizer import Optimizer
from nasnet_keras.models.network import NASNet
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training.figures import mean_average_precision


class BaseChild:
    """A small network that is trained for a few steps and judged.

    Who derives from it computes: `get_weights`, `set_weights`, `loss_and_gradient`, `train_step`, `logits`,
    `activations`.

    Args:
        architecture: an `Architecture`.
        seed: seed of the initial weights.
        optimizer: an `Optimizer`.

    Attributes:
        program: the `Program` that is computed.
        step: training steps so far.
    """

    def __init__(self, architecture, *, seed=0, optimizer=None):
        self.architecture = architecture
        self.optimizer = optimizer or Optimizer()
        self.program = architecture.program().without_repetitions()
        self.step = 0
        self._prepare()
        generator = np.random.default_rng(seed)
        self.set_weights([weight.initial_value(generator) for weight in self.program.weights])

    def loss_and_gradient(self, images, labels):
        """Mean cross-entropy of a batch, summed over sigmoids, and its gradient.

        The gradient is arrays in the order of the trained weights.

        Args:
            images: [batch, height, width, channels], float32, in [-1, 1].
            labels: [batch] integers; for a child that ends in sigmoid [batch, classes], 0 and 1.
        """
        raise NotImplementedError

    def train_step(self, images, labels):
        """One step of the optimiser on one batch, moving statistics included.

        Args:
            images: [batch, height, width, channels], float32, in [-1, 1].
            labels: [batch] integers; for a child that ends in sigmoid [batch, classes], 0 and 1.

        Returns:
            The mean loss before the step: reading its value waits for the step.
        """
        raise NotImplementedError

    def to_model(self, **further):
        """The ordinary network with the same weights, a `NASNet`.

        Args:
            **further: as for `NASNet.of`.
        """
        with drawn_from(0):  # the weights are replaced
            model = NASNet.of(self.architecture, **{"dtype": "float32", **further})
        for variable, value in zip(self.variables(model), self.get_weights(), strict=True):
            variable.assign(value)
        return model

    def variables(self, model):
        """The ordinary network's variables in the order of `program.weights`."""
        named = model.named_weights()
        return [named[weight.name] for weight in self.program.weights]

    @staticmethod
    def accuracy_of(logits, labels):
        """Accuracy in [0, 1]; of several labels an image their mean average precision, None where no image has any.

        Args:
            logits: [count, classes].
            labels: [count] integers, or bool [count, classes].
        """
        if labels.ndim == 2:
            return mean_average_precision(labels, logits)
        return float(np.mean(np.argmax(logits, axis=-1) == labels))

    def _check_weights(self, weights):
        expected = [weight.shape for weight in self.program.weights]
        if [np.shape(value) for value in weights] != expected:
            raise ValueError(f"`weights` must be {len(expected)} arrays in the order of the program's weights")
