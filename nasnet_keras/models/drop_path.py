"""Drop path: the layer, the count of training steps that its schedule follows, and the callback that ends it.

Zoph et al. 2018 (arXiv 1707.07012), appendix A.4: "ScheduledDropPath".
"""

import keras
from keras import ops

from nasnet_keras.checks import as_integer, check_integer, check_positive, is_number
from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.models.nesting import layers_within


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
        if not (is_number(rate) and 0 <= rate < 1):
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
    `total_steps` is 0 the result is 1, drop path at its full rate from the first step, and nothing is counted. The
    `ScheduledDropPath` callback sets `total_steps` before training. (Zoph et al. 2018,
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
        """The progress at this step; a training step counts one more where there is a schedule."""
        progress = ops.where(
            self.total_steps > 0, ops.minimum(1.0, self.step / ops.maximum(self.total_steps, 1.0)), 1.0
        )
        if training:
            self.step.assign(self.step + ops.sign(self.total_steps))
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


class ScheduledDropPath(keras.callbacks.Callback):
    """Lets drop path grow from nothing to its full rate over a number of steps.

    The network counts its own training steps (`DropPathSchedule`), saves them and
    goes on from them; this callback only tells it where the schedule ends. Steps before the first schedule, while a
    head learns on frozen cells, do not count. It finds networks that are parts of the model, at any depth; where none
    has drop path there is nothing to do. A network that a model calls twice a step counts two steps.

    Args:
        total_steps: steps after which the rate is full.

    Raises:
        ValueError: no number of steps above 0.

    Examples:
        >>> from nasnet_keras import ScheduledDropPath
        >>> schedule = ScheduledDropPath(total_steps=100 * 20)  # 20 epochs of 100 steps
        >>> schedule.total_steps  # `fit(…, callbacks=[schedule])`
        2000
    """

    step = None  # how many steps lie behind the network, None: as many as it has counted

    def __init__(self, total_steps):
        super().__init__()
        self.total_steps = as_integer(total_steps)
        check_positive("total_steps", self.total_steps, finite=True)

    @classmethod
    def going_on(cls, total_steps, step):
        """One that begins after so many steps, whatever the network has counted.

        It may have gone back to an earlier epoch's weights, or stood still while its head learnt.
        """
        schedule = cls(total_steps)
        schedule.step = as_integer(step)
        check_integer("step", schedule.step)
        return schedule

    def on_train_begin(self, logs=None):
        """Set the end of the schedule in the network's counter, and where it stands."""
        for layer in layers_within(self.model):
            if isinstance(layer, DropPathSchedule):
                first = self.step is None and not float(layer.total_steps)  # files of old have counted without one
                layer.total_steps.assign(float(self.total_steps))
                if first or self.step is not None:
                    layer.step.assign(float(self.step or 0))
