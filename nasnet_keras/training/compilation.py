"""What Keras needs to know of a recipe: optimiser, schedule, losses."""

from collections.abc import Mapping, Set

import keras
import numpy as np

from nasnet_keras.checks import as_integer, check_one_of, check_positive, check_rate
from nasnet_keras.data.splits import placed
from nasnet_keras.models.policies import with_scaled_loss
from nasnet_keras.training.recipes import OPTIMIZERS, OWN_SETTINGS


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
        head: SmoothedCrossentropy(
            recipe.label_smoothing, class_weights, output=output_kind(model, head), mixed=recipe.mixes and not several
        )
        for head in heads(model) or ("predictions",)
    }
    optimizer = _optimizer(recipe, _schedule(recipe, steps, epochs), model.trainable_variables, rates)
    optimizer = with_scaled_loss(optimizer, model)
    accuracy = _accuracy(losses["predictions"].output, units(model), several, recipe.mixes)
    if heads(model):
        weights = {head: 1.0 if head == "predictions" else recipe.auxiliary_weight for head in losses}
        arguments = {"loss": losses, "loss_weights": weights, "weighted_metrics": {"predictions": [accuracy]}}
    else:
        arguments = {"loss": losses["predictions"], "weighted_metrics": [accuracy]}  # images of weight 0 do not count
    model.compile(optimizer, jit_compile=on_accelerator(), **arguments)
    # If the first step had to make variables, for moments or metrics, TensorFlow would trace it twice.
    optimizer.build(model.trainable_variables)
    if recipe.optimizer == "rmsprop" and recipe.mean_square:
        for variable in optimizer.variables:
            if variable.name.endswith("_velocity"):  # Keras' name for the mean squares
                variable.assign(keras.ops.full_like(variable, recipe.mean_square))


def factors_of(class_weights, data):
    """The factors that a training's `class_weights` mean, a list of floats with one for each class, or None.

    Args:
        class_weights: None; a factor for each class, in an array or by its number or name in a mapping; or
            `"balanced"`, with a mean of 1 over the training images: of several labels an image a factor is for the loss
            where an image has the label, and balanced those count as all others do.
        data: a `data.Data`.

    Raises:
        ValueError: anything else, a class without a factor, or one without images where they are balanced.
    """
    names, value = data.class_names, class_weights
    if value is None:
        return None
    if isinstance(value, str) and value == "balanced":
        counts = data.train.counts(len(names))
        for index in np.flatnonzero(counts == 0)[:1]:
            raise ValueError(f"class {names[index]!r} has no training images, so `class_weights` has none")
        others = len(data.train) - counts
        balanced = np.where(others, others / counts, 1) if data.several else len(data.train) / (len(counts) * counts)
        return balanced.tolist()
    rule = f"None, 'balanced', or {len(names)} numbers from 0, in a list or for each class by its number or name"
    wrong = f"`class_weights` must be {rule}. Received: {' '.join(repr(value).split())}"
    if isinstance(value, Mapping):
        places = {index: index for index in range(len(names))}
        words = [key for key in value if isinstance(key, str)]
        places |= dict(zip(words, placed(words, names).tolist(), strict=True))
        given = {places.get(key, key): factor for key, factor in value.items()}
        if len(given) != len(value) or set(given) != set(range(len(names))):
            raise ValueError(wrong)
        value = [given[index] for index in range(len(names))]
    try:
        factors = np.asarray(value if isinstance(value, str | Set) else list(value))  # a set has no order
    except (ValueError, TypeError):
        raise ValueError(wrong) from None
    if factors.shape != (len(names),) or factors.dtype.kind not in "iuf":
        raise ValueError(wrong)
    if not (np.isfinite(factors) & (factors >= 0)).all():
        raise ValueError(wrong)
    return factors.astype(float).tolist()


def set_length(model, recipe, steps, epochs):
    """Give a compiled model's optimiser the schedule of another number of epochs.

    Args:
        model, recipe, steps, epochs: as for `compile_model`.
    """
    model.optimizer.learning_rate = _schedule(recipe, steps, epochs)
    model.train_function = None  # the schedule is a part of its graph


def _optimizer(recipe, schedule, variables, rates):
    """The optimiser of a recipe, not built yet."""
    own = {"global_clipnorm": recipe.clip_norm}
    if recipe.moving_average:
        # Keras averages after every step; with accumulated gradients only one in so many has changed the weights.
        own |= {"use_ema": True, "ema_momentum": recipe.moving_average ** (1 / recipe.gradient_accumulation)}
    if recipe.gradient_accumulation > 1:
        own["gradient_accumulation_steps"] = recipe.gradient_accumulation
    if recipe.decoupled_decay is not None:
        own["weight_decay"] = recipe.decoupled_decay
    if recipe.optimizer in OWN_SETTINGS:
        own["momentum"] = recipe.momentum
    if recipe.nesterov:
        own["nesterov"] = True
    if recipe.optimizer == "rmsprop":
        own |= {"rho": 0.9, "epsilon": recipe.epsilon}
    if rates is not None:
        own["rates"] = _by_path(variables, rates)
    name = recipe.optimizer
    kind = getattr(keras.optimizers, OPTIMIZERS[name]) if rates is None else WITH_RATES[name]
    optimizer = kind(schedule, **own)
    # Biases, and what scales and shifts norms, are not for decay.
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    return optimizer


def _accuracy(kind, count, several, mixed):
    """The metric `accuracy` for outputs of a kind; a single unit stands for the second of two classes."""
    if several:
        return keras.metrics.MeanMetricWrapper(are_right, name="label_accuracy")
    threshold = 0.0 if kind == "logits" else 0.5
    if mixed:
        return keras.metrics.MeanMetricWrapper(is_right, name="accuracy", threshold=threshold)
    if count == 1:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def is_mixed(labels):
    """Whether labels are shares of classes [batch, classes] and not integers [batch] or [batch, 1]."""
    return len(labels.shape) == 2 and labels.shape[-1] != 1


@keras.saving.register_keras_serializable(package="nasnet_keras")
def is_right(y_true, y_pred, threshold):
    """Whether outputs name the class of each label, of a mixture the one with the greatest share: float32 [batch]."""
    labels = keras.ops.argmax(y_true, -1) if is_mixed(y_true) else keras.ops.reshape(y_true, (-1,))
    guesses = y_pred[:, 0] > threshold if y_pred.shape[-1] == 1 else keras.ops.argmax(y_pred, -1)
    return keras.ops.cast(keras.ops.cast(labels, "int32") == keras.ops.cast(guesses, "int32"), "float32")


@keras.saving.register_keras_serializable(package="nasnet_keras")
def are_right(y_true, y_pred):
    """The share of each image's labels that outputs tell right, of a mixture the greater part: float32 [batch]."""
    right = keras.ops.equal(y_true > 0.5, y_pred > 0.5)
    return keras.ops.mean(keras.ops.cast(right, "float32"), axis=-1)


@keras.saving.register_keras_serializable(package="nasnet_keras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of labels against a model's outputs, with label smoothing and weights of classes.

    The loss of a mixture of labels is the mixture of their losses.

    Labels of 0 and 1 for each of several sigmoids are of images that may have several: the loss is the sum of each
    one's, so that a label is learnt as fast among many as among few.

    Args:
        smoothing: share of the target spread evenly over all classes.
        class_weights: a factor for the loss of each class's images, or None for none; of several labels an image, for
            the loss where it has the label.
        mixed: whether labels [batch, classes] are shares of classes that sum to one, as MixUp and CutMix give them of
            one label an image.
        output: what the outputs are, one of `models.answers.KINDS`. For `"sigmoid"` with several classes it is the mean
            over them of each one's own cross-entropy.

    Raises:
        ValueError: outputs of another kind, or a smoothing that is no share below 1.
    """

    def __init__(self, smoothing=0.0, class_weights=None, name="crossentropy", output="softmax", mixed=False, **kwargs):
        super().__init__(name=name, **kwargs)
        check_one_of("output", output, ("softmax", "sigmoid", "logits"))
        check_rate("smoothing", smoothing)
        self.smoothing = smoothing
        self.class_weights = class_weights
        self.output, self.mixed = output, mixed

    def call(self, y_true, y_pred):
        """Labels and outputs [batch, classes], or [batch, 1] for two classes, to losses [batch].

        Labels are integers [batch], or if `mixed` shares [batch, classes], of no more classes than the outputs; or 0
        and 1, or what is between them, for each of several sigmoids.
        """
        if self.mixed and is_mixed(y_true):
            return self._mixed(keras.ops.cast(y_true, y_pred.dtype), y_pred)
        if self.output == "sigmoid" and len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1] > 1:
            return self._of_labels(keras.ops.cast(y_true, y_pred.dtype), y_pred)
        if self.output == "softmax":
            loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
            if self.smoothing:
                log = keras.ops.log(keras.ops.clip(y_pred, keras.config.epsilon(), 1.0))
                loss = (1.0 - self.smoothing) * loss - self.smoothing * keras.ops.mean(log, axis=-1)
        elif y_pred.shape[-1] == 1 or self.output == "sigmoid":
            labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
            loss = self._binary(keras.ops.one_hot(labels, max(y_pred.shape[-1], 2), dtype=y_pred.dtype), y_pred)
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
        """The sum of the losses of the labels; of a mark between 0 and 1 the mixture of both losses."""
        present, absent = (
            keras.ops.binary_crossentropy(keras.ops.full_like(y_pred, target), y_pred)
            for target in (1.0 - self.smoothing / 2, self.smoothing / 2)
        )
        if self.class_weights is not None:
            present = present * keras.ops.cast(self.class_weights, present.dtype)
        return keras.ops.sum(marks * present + (1.0 - marks) * absent, axis=-1)

    def _mixed(self, shares, y_pred):
        """The sum of the losses of the classes, each with its share and its weight."""
        count, total = max(y_pred.shape[-1], 2), 1.0
        if self.class_weights is not None:  # shares of what they leave are a mixture again
            shares = shares * keras.ops.cast(self.class_weights, y_pred.dtype)
            total = keras.ops.sum(shares, axis=-1)
            shares = shares / keras.ops.maximum(total, keras.config.epsilon())[:, None]
        shares = keras.ops.pad(shares, ((0, 0), (0, count - shares.shape[-1])))
        if y_pred.shape[-1] == 1 or self.output == "sigmoid":
            return total * self._binary(shares, y_pred)
        options = {"from_logits": self.output == "logits", "label_smoothing": self.smoothing}
        return total * keras.losses.categorical_crossentropy(shares, y_pred, **options)

    def _binary(self, shares, y_pred):
        """The mean over units of each one's cross-entropy with its own target; a single unit has the second one."""
        count = y_pred.shape[-1]
        targets = (1.0 - self.smoothing) * shares[:, -count:] + self.smoothing / max(count, 2)
        return keras.losses.binary_crossentropy(targets, y_pred, from_logits=self.output == "logits")

    def get_config(self):
        """The constructor's arguments."""
        arguments = {name: getattr(self, name) for name in ("smoothing", "class_weights", "output", "mixed")}
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
            self._decay = self.weight_decay
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """The optimiser's own step, at this variable's rate."""
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

    def _apply_weight_decay(self, variables):
        """Decay at each variable's rate: Keras takes one rate for all.

        Copies on several devices come here in turns, so what is put in place does not follow from what they find.
        """
        for variable in variables if self._decay is not None else ():
            self.weight_decay = self._decay * self._factors[self._get_variable_index(variable)]
            super()._apply_weight_decay([variable])
        self.weight_decay = self._decay

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rates": dict(self.rates)}


def _with_rates(kind):
    """The class of an optimiser of Keras' with a learning rate for each variable, named `SGDWithRates` and so on."""
    about = {"__doc__": f"Keras' {kind.__name__} with a learning rate for each variable, see `_WithRates`."}
    return keras.saving.register_keras_serializable(package="nasnet_keras")(
        type(f"{kind.__name__}WithRates", (_WithRates, kind), about)
    )


WITH_RATES = {name: _with_rates(getattr(keras.optimizers, kind)) for name, kind in OPTIMIZERS.items()}
SGDWithRates, RMSpropWithRates = WITH_RATES["sgd"], WITH_RATES["rmsprop"]


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


@keras.saving.register_keras_serializable(package="nasnet_keras")
class WarmedUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose rate first rises linearly from 0.

    Args:
        schedule: what the rate follows.
        steps: steps of the rise, counted among the schedule's own.

    Raises:
        ValueError: no steps.
    """

    def __init__(self, schedule, steps):
        self.schedule, self.steps = schedule, as_integer(steps)
        check_positive("steps", self.steps, finite=True)

    def __call__(self, step):
        """The rate at a step, counted from 0."""
        share = keras.ops.minimum(1.0, keras.ops.cast(step, "float32") / self.steps)
        return share * self.schedule(step)

    def get_config(self):
        """The constructor's arguments."""
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        """From `get_config`."""
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]), config["steps"])


def _schedule(recipe, steps, epochs):
    warmup = round(recipe.warmup_epochs * steps)
    if recipe.schedule == "exponential":
        decaying = keras.optimizers.schedules.ExponentialDecay(recipe.learning_rate, 2.4 * steps, 0.97, staircase=True)
        return WarmedUp(decaying, warmup) if warmup else decaying
    total = max(1, steps * epochs - warmup)
    if warmup:
        return keras.optimizers.schedules.CosineDecay(
            0.0, total, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total)
