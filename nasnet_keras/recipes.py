"""How networks are trained: recipes, and what Keras needs to know of them: optimiser, schedule, losses."""

from dataclasses import dataclass, replace

import keras

from nasnet_keras.functions import on_accelerator


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything but the network and the data.

    Args:
        optimizer: `"sgd"` (with momentum) or `"rmsprop"` (decay 0.9, with momentum).
        learning_rate: peak learning rate.
        momentum: momentum of either optimiser.
        epsilon: RMSProp's epsilon.
        schedule: `"cosine"` to zero over all steps, or `"exponential"`: × 0.97 every 2.4 epochs.
        warmup_epochs: epochs over which the rate rises linearly from 0.
        clip_norm: limit on the global norm of the gradient, None for none.
        batch_size: images a step.
        label_smoothing: share of the target spread over all classes.
        auxiliary_weight: weight of the auxiliary head's loss, where the network has one.
        augmentation: a name from `augmentation.AUGMENTATIONS`.
        cutout: side of the square cut out of training images, 0 for none.
        moving_average: decay of the averaged weights used for evaluation, None for none.

    Raises:
        ValueError: naming the argument at fault.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.025
    momentum: float = 0.9
    epsilon: float = 1.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    clip_norm: float | None = 5.0
    batch_size: int = 32
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4
    augmentation: str = "none"
    cutout: int = 0
    moving_average: float | None = None

    def __post_init__(self):
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` must be above 0. Received: {self.learning_rate!r}")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError(f"`batch_size` must be an integer above 0. Received: {self.batch_size!r}")
        if type(self.cutout) is not int or self.cutout < 0:
            raise ValueError(f"`cutout` must be an integer from 0. Received: {self.cutout!r}")
        if self.moving_average is not None and not 0 < self.moving_average < 1:
            raise ValueError(f"`moving_average` must be above 0 and below 1. Received: {self.moving_average!r}")
        if self.optimizer not in ("sgd", "rmsprop") or self.schedule not in ("cosine", "exponential"):
            raise ValueError(
                "`optimizer` must be 'sgd' or 'rmsprop' and `schedule` 'cosine' or 'exponential'. "
                f"Received: {self.optimizer!r}, {self.schedule!r}"
            )


# `cifar` and `imagenet` are the paper's (appendix A.1, A.6 and the released code); `scans` suits small
# grey images such as the embedded digits, `photos` natural photographs when a network is fine-tuned; `micro` is for
# children that see a few dozen batches, `short` for small networks on CIFAR-10 and a few dozen epochs.
RECIPES = {
    "micro": Recipe(learning_rate=0.05),
    "scans": Recipe(learning_rate=0.05, augmentation="digits"),
    "photos": Recipe(learning_rate=0.05, label_smoothing=0.1, augmentation="photo"),
    "cifar": Recipe(augmentation="cifar", cutout=16),
    "short": Recipe(learning_rate=0.1, batch_size=128, augmentation="shifts"),
    "imagenet": Recipe(
        optimizer="rmsprop",
        learning_rate=0.04,
        schedule="exponential",
        clip_norm=10.0,
        label_smoothing=0.1,
        augmentation="photo",
        moving_average=0.9999,
    ),
}


def recipe(name, **changes):
    """A `Recipe` by name, with some of its fields changed; a change to None is no change.

    Raises:
        ValueError: an unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"`recipe` must be one of {', '.join(RECIPES)}. Received: {name!r}")
    return replace(RECIPES[name], **{key: value for key, value in changes.items() if value is not None})


def compile_model(model, recipe, steps, epochs, class_weights=None, rates=None):
    """Compile for a recipe: optimiser, schedule over `steps` × `epochs`, losses, accuracy.

    XLA pays on accelerators and costs several times the speed on a CPU, so Keras' `auto` is not used there.

    Args:
        model: a Keras model.
        recipe: a `Recipe`.
        steps: batches in an epoch.
        epochs: epochs of the schedule.
        class_weights: a factor for each class's loss, or None.
        rates: a factor on the learning rate for each of `model.trainable_variables`, or None.
    """
    rate = _schedule(recipe, steps, epochs)
    shared = {"global_clipnorm": recipe.clip_norm}
    if recipe.moving_average:
        shared.update(use_ema=True, ema_momentum=recipe.moving_average)
    if recipe.optimizer == "rmsprop":
        kind, own = keras.optimizers.RMSprop, {"rho": 0.9, "epsilon": recipe.epsilon}
    else:
        kind, own = keras.optimizers.SGD, {}
    kind = kind if rates is None else _with_rates(kind, rates)
    optimizer = kind(rate, momentum=recipe.momentum, **own, **shared)
    if any(layer.dtype_policy.name == "mixed_float16" for layer in model.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = SmoothedCrossentropy(recipe.label_smoothing, class_weights)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if isinstance(model.output, dict):
        losses = {"predictions": loss, "auxiliary": SmoothedCrossentropy(recipe.label_smoothing, class_weights)}
        weights = {"predictions": 1.0, "auxiliary": recipe.auxiliary_weight}
        arguments = {"loss": losses, "loss_weights": weights, "metrics": {"predictions": [accuracy]}}
    else:
        arguments = {"loss": loss, "metrics": [accuracy]}
    model.compile(optimizer, jit_compile=on_accelerator(), **arguments)
    # If the first step had to make variables, for moments or metrics, TensorFlow would trace it twice.
    optimizer.build(model.trainable_variables)


@keras.saving.register_keras_serializable(package="nasnet_keras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels against probabilities, with label smoothing and weights of classes.

    Args:
        smoothing: share of the target spread evenly over all classes.
        class_weights: a factor for the loss of each class's images, or None for none.
    """

    def __init__(self, smoothing=0.0, class_weights=None, name="crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing
        self.class_weights = class_weights

    def call(self, y_true, y_pred):
        """Labels [batch] and probabilities [batch, classes] to losses [batch]."""
        loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        if self.smoothing:
            log = keras.ops.log(keras.ops.clip(y_pred, keras.config.epsilon(), 1.0))
            loss = (1.0 - self.smoothing) * loss - self.smoothing * keras.ops.mean(log, axis=-1)
        if self.class_weights is None:
            return loss
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), keras.ops.shape(loss))
        return loss * keras.ops.take(keras.ops.cast(self.class_weights, loss.dtype), labels)

    def get_config(self):
        """The constructor's arguments."""
        arguments = {"smoothing": self.smoothing, "class_weights": self.class_weights}
        return {**arguments, "name": self.name, "reduction": self.reduction}


def _with_rates(kind, rates):
    """An optimiser whose learning rate is another one for each variable: rates[i] times as much for the i-th."""

    class WithRates(kind):
        def update_step(self, gradient, variable, learning_rate):
            rate = rates[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * rate)

    return WithRates


def _schedule(recipe, steps, epochs):
    warmup = round(recipe.warmup_epochs * steps)
    if recipe.schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(recipe.learning_rate, 2.4 * steps, 0.97, staircase=True)
    total = max(1, steps * epochs - warmup)
    if warmup:
        return keras.optimizers.schedules.CosineDecay(
            0.0, total, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total)
