"""What Keras needs to know of a recipe: optimiser, schedule, losses."""

import keras

from nasnet_keras.models.nesting import layers_within


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

    Raises:
        ValueError: variables of one path have different `rates`.
    """
    rate = _schedule(recipe, steps, epochs)
    shared = {"global_clipnorm": recipe.clip_norm}
    if recipe.moving_average:
        shared.update(use_ema=True, ema_momentum=recipe.moving_average)
    if recipe.optimizer == "rmsprop":
        kinds, own = (keras.optimizers.RMSprop, RMSpropWithRates), {"rho": 0.9, "epsilon": recipe.epsilon}
    else:
        kinds, own = (keras.optimizers.SGD, SGDWithRates), {}
    if rates is not None:
        own["rates"] = _by_path(model.trainable_variables, rates)
    optimizer = kinds[rates is not None](rate, momentum=recipe.momentum, **own, **shared)
    if any(layer.dtype_policy.name == "mixed_float16" for layer in layers_within(model)):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = SmoothedCrossentropy(recipe.label_smoothing, class_weights)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if heads(model):
        losses = {"predictions": loss, "auxiliary": SmoothedCrossentropy(recipe.label_smoothing, class_weights)}
        weights = {"predictions": 1.0, "auxiliary": recipe.auxiliary_weight}
        arguments = {"loss": losses, "loss_weights": weights, "weighted_metrics": {"predictions": [accuracy]}}
    else:
        arguments = {"loss": loss, "weighted_metrics": [accuracy]}  # images of weight 0 do not count
    from nasnet_keras.models.functions import on_accelerator

    model.compile(optimizer, jit_compile=on_accelerator(), **arguments)
    # If the first step had to make variables, for moments or metrics, TensorFlow would trace it twice.
    optimizer.build(model.trainable_variables)


def heads(model):
    """The names of a model's outputs, or none for a model with a single one; a Sequential may not know its output."""
    output = getattr(model, "output", None)
    return tuple(output) if isinstance(output, dict) else ()


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


class _WithRates:
    """What makes of an optimiser one whose learning rate is another one for each variable.

    Args:
        rates: {path of a variable: factor on its learning rate}; 1 for those that are not named.
    """

    def __init__(self, *args, rates, **kwargs):
        super().__init__(*args, **kwargs)
        self.rates = dict(rates)

    def build(self, variables):
        """Find each variable's rate by its path; they may be others, or in another order, than `rates` has."""
        if not self.built:
            self._factors = [self.rates.get(variable.path, 1.0) for variable in variables]
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """The optimiser's own step, at this variable's rate."""
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rates": dict(self.rates)}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class SGDWithRates(_WithRates, keras.optimizers.SGD):
    """Keras' SGD with a learning rate for each variable, see `_WithRates`."""


@keras.saving.register_keras_serializable(package="nasnet_keras")
class RMSpropWithRates(_WithRates, keras.optimizers.RMSprop):
    """Keras' RMSprop with a learning rate for each variable, see `_WithRates`."""


def _by_path(variables, rates):
    """{path: rate} of variables and a rate for each."""
    named = {}
    for variable, rate in zip(variables, rates, strict=True):
        if named.setdefault(variable.path, float(rate)) != rate:
            raise ValueError(
                f"`rates` must be the same for variables of the same path, {variable.path}. "
                f"Received: {named[variable.path]} and {rate}"
            )
    return named


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
