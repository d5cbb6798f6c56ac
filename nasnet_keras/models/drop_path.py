"""Drop path: the layer, and the count of training steps that its schedule follows.

Zoph et al. 2018 (arXiv 1707.07012), appendix A.4: "ScheduledDropPath".
"""

import keras
from keras import ops

from nasnet_keras.models.layers import ProgramLayer


@keras.saving.register_keras_serializable(package="nasnet_keras")
class DropPath(ProgramLayer):
    """Drops a whole path for some images of a batch while training, and scales up the others.

    Args:
        rate: share of images that lose the path once the schedule has reached its end, in [0, 1).
        seed: seed of the mask.

    Raises:
        ValueError: a rate out of range.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: {rate!r}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def write(self, program, inputs):
        """Append the one step."""
        return [program.drop_path(*inputs, self.rate)]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class DropPathSchedule(keras.layers.Layer):
    """Counts a network's training steps and says how far its drop path has come, from 0 to 1.

    Every cell reads the one scalar that this layer returns, min(1, step / total_steps). While
    `total_steps` is 0 the result is 1: drop path at its full rate from the first step. The
    `training.ScheduledDropPath` callback sets `total_steps` before training. (Zoph et al. 2018,
    appendix A.4: "ScheduledDropPath".)

    Both numbers are saved and restored with the model, but they are state and no weights: `weights`,
    `count_params()` and `get_weights()` are the same with and without drop path.
    """

    def build(self, input_shape):
        """Create the two counters."""
        for name in ("step", "total_steps"):
            weight = self.add_weight(shape=(), initializer="zeros", trainable=False, name=name, dtype="float32")
            setattr(self, name, weight)

    def call(self, inputs, training=None):
        """The progress at this step; a training step counts one more."""
        progress = ops.where(
            self.total_steps > 0, ops.minimum(1.0, self.step / ops.maximum(self.total_steps, 1.0)), 1.0
        )
        if training:
            self.step.assign(self.step + 1.0)
        return progress

    def compute_output_spec(self, inputs, training=None):
        """A float32 scalar."""
        return keras.KerasTensor((), dtype="float32")

    @property
    def weights(self):
        """None: the counters are state."""
        return []

    def load_own_variables(self, store):
        """Restore the counters; a file of a network without drop path leaves them alone."""
        if len(store.keys()) > 0:
            super().load_own_variables(store)
