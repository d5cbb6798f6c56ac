"""Small layers without kernels: thinning, padding, clipping, and scheduled drop path."""

from math import ceil

import keras
from keras import ops

BOUND = 6.0


def halved(length, strides=2):
    """Height or width after a stride, rounded up; None stays None."""
    return None if length is None else ceil(length / strides)


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Subsample(keras.layers.Layer):
    """Every `strides`-th pixel in both directions, beginning with the first."""

    def __init__(self, strides, **kwargs):
        super().__init__(**kwargs)
        self.strides = strides

    def call(self, inputs):
        """Thin the image out."""
        return inputs[:, :: self.strides, :: self.strides, :]

    def compute_output_shape(self, input_shape):
        """[batch, ceil(height / strides), ceil(width / strides), channels]."""
        batch, height, width, channels = input_shape
        return (batch, halved(height, self.strides), halved(width, self.strides), channels)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class ZeroPadding(keras.layers.Layer):
    """The zeros that keras.applications puts around an image before a pool of stride 2."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def _amounts(self, shape):
        if None in shape[1:3]:
            raise ValueError("`pooling_compatibility='keras'` needs an `input_shape` with a known height and width")
        half = self.size // 2
        return [(half - (1 - length % 2), half) for length in shape[1:3]]

    def call(self, inputs):
        """Pad height and width."""
        return ops.pad(inputs, [(0, 0), *self._amounts(inputs.shape), (0, 0)])

    def compute_output_shape(self, input_shape):
        """The padded shape."""
        height, width = (
            length + sum(amount) for length, amount in zip(input_shape[1:3], self._amounts(input_shape), strict=True)
        )
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Clip(keras.layers.Layer):
    """Values limited to ±6."""

    def call(self, inputs):
        """Clip elementwise."""
        return ops.clip(inputs, -BOUND, BOUND)

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape


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


@keras.saving.register_keras_serializable(package="nasnet_keras")
class DropPath(keras.layers.Layer):
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

    def build(self, inputs_shape, progress_shape=None):
        """Nothing to make."""

    def call(self, inputs, progress=None, training=None):
        """Multiply by 0 or by 1 / keep, one draw for each image; `progress` scales the rate."""
        if not training or not self.rate:
            return inputs
        keep = 1.0 - self.rate * (1.0 if progress is None else ops.cast(progress, "float32"))
        draws = keras.random.uniform((ops.shape(inputs)[0], 1, 1, 1), dtype="float32", seed=self.seed_generator)
        return inputs * ops.cast(ops.floor(keep + draws) / keep, inputs.dtype)

    def compute_output_shape(self, inputs_shape, progress_shape=None):
        """Unchanged."""
        return inputs_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
