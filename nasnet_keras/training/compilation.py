"""What Keras needs to know of a recipe: optimiser, schedule, losses."""

import keras

from nasnet_keras.checks import check_one_of
from nasnet_keras.models.nesting import layers_within


def compile_model(model, recipe, steps, epochs, class_weights=None, rates=None, several=False):
    """Compile for a recipe: optimiser, schedule over `steps` × `epochs`, the loss of what the model answers, accuracy.

    XLA pays on accelerators and costs several times the speed on a CPU, so Keras' `auto` is not used there.

    Args:
        model: a Keras model.
        recipe: a `Recipe`.
        steps: batches in an epoch.
        epochs: epochs of the schedule.
        class_weights: a factor for each class's loss, or None.
        rates: a factor on the learning rate for each of `model.trainable_variables`, or None.
        several: whether an image may have several labels; the metric is then the share of all labels told right.

    Raises:
        ValueError: variables of one path have different `rates`, or nothing tells what the model answers with.
    """
    # Here and not above: Keras finds the classes of this module before those of the networks are there.
    from nasnet_keras.models.answers import heads, output_kind, units
    from nasnet_keras.models.functions import on_accelerator

    losses = {
        head: SmoothedCrossentropy(recipe.label_smoothing, class_weights, output=output_kind(model, head))
        for head in heads(model) or ("predictions",)
    }
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
    accuracy = _accuracy(losses["predictions"].output, units(model), several)
    if heads(model):
        weights = {head: 1.0 if head == "predictions" else recipe.auxiliary_weight for head in losses}
        arguments = {"loss": losses, "loss_weights": weights, "weighted_metrics": {"predictions": [accuracy]}}
    else:
        arguments = {"loss": losses["predictions"], "weighted_metrics": [accuracy]}  # images of weight 0 do not count
    model.compile(optimizer, jit_compile=on_accelerator(), **arguments)
    # If the first step had to make variables, for moments or metrics, TensorFlow would trace it twice.
    optimizer.build(model.trainable_variables)


def _accuracy(kind, count, several):
    """The metric `accuracy` for outputs of a kind; a single unit stands for the second of two classes."""
    if several:
        return keras.metrics.BinaryAccuracy(name="label_accuracy")
    if count == 1:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if kind == "logits" else 0.5)
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


@keras.saving.register_keras_serializable(package="nasnet_keras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels against a model's outputs, with label smoothing and weights of classes.

    Labels of 0 and 1 for each of several sigmoids are of images that may have several: the loss is the sum of each
    one's, so that a label is learnt as fast among many as among few.

    Args:
        smoothing: share of the target spread evenly over all classes.
        class_weights: a factor for the loss of each class's images, or None for none; of several labels an image, for
            the loss where it has the label.
        output: what the outputs are, one of `models.answers.KINDS`. For `"sigmoid"` with several classes it is the mean
            over them of each one's own cross-entropy.

    Raises:
        ValueError: outputs of another kind.
    """

    def __init__(self, smoothing=0.0, class_weights=None, name="crossentropy", output="softmax", **kwargs):
        super().__init__(name=name, **kwargs)
        check_one_of("output", output, ("softmax", "sigmoid", "logits"))
        self.smoothing = smoothing
        self.class_weights = class_weights
        self.output = output

    def call(self, y_true, y_pred):
        """Labels [batch] or [batch, classes] and outputs [batch, classes], or [batch, 1] for two, to losses [batch]."""
        if self.output == "sigmoid" and len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1] > 1:
            return self._of_labels(keras.ops.cast(y_true, y_pred.dtype), y_pred)
        if self.output == "softmax":
            loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
            if self.smoothing:
                log = keras.ops.log(keras.ops.clip(y_pred, keras.config.epsilon(), 1.0))
                loss = (1.0 - self.smoothing) * loss - self.smoothing * keras.ops.mean(log, axis=-1)
        elif y_pred.shape[-1] == 1 or self.output == "sigmoid":
            loss = self._binary(y_true, y_pred)
        else:
            loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
            if self.smoothing:
                log = keras.ops.log_softmax(y_pred, axis=-1)
                loss = (1.0 - self.smoothing) * loss - self.smoothing * keras.ops.mean(log, axis=-1)
        if self.class_weights is None:
            return loss
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), keras.ops.shape(loss))
        return loss * keras.ops.take(keras.ops.cast(self.class_weights, loss.dtype), labels)

    def _of_labels(self, marks, y_pred):
        targets = (1.0 - self.smoothing) * marks + self.smoothing / 2
        losses = keras.ops.binary_crossentropy(targets, y_pred)
        if self.class_weights is not None:
            losses = losses * (1.0 + marks * (keras.ops.cast(self.class_weights, losses.dtype) - 1.0))
        return keras.ops.sum(losses, axis=-1)

    def _binary(self, y_true, y_pred):
        """The mean over units of each one's cross-entropy with its own target."""
        count = y_pred.shape[-1]
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        targets = keras.ops.one_hot(labels, max(count, 2), dtype=y_pred.dtype)[:, -count:]
        targets = (1.0 - self.smoothing) * targets + self.smoothing / max(count, 2)
        return keras.losses.binary_crossentropy(targets, y_pred, from_logits=self.output == "logits")

    def get_config(self):
        """The constructor's arguments."""
        arguments = {"smoothing": self.smoothing, "class_weights": self.class_weights, "output": self.output}
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
