"""What stands on top of the cells: the classifier and the auxiliary head."""

import keras

from nasnet_keras.checks import check_integer
from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.models.policies import take_unscaled, with_scaled_loss

WEIGHTS = {"predictions": 1.0, "auxiliary": 0.4}  # of the losses of both heads, in their order


class TwoHeaded(keras.Model):
    """A model whose second head, `auxiliary`, is for training alone: labels, losses and metrics may be given once.

    Where a model has that head, plain labels are for both. One loss is for both as well, the auxiliary one with the
    released weight 0.4 unless `loss_weights` says otherwise; a plain list of metrics is for `predictions`. Of two
    losses, weights, lists of metrics or labels the first is for `predictions`, the second for `auxiliary`.

    Whatever its own data type policy is, the loss is scaled where its layers are of `mixed_float16`.
    """

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, weighted_metrics=None, **kwargs):
        """As Keras' `compile`."""
        if kwargs.get("auto_scale_loss", True):
            optimizer = with_scaled_loss(keras.optimizers.get(optimizer), self)
        if self._has_two_heads():
            loss, loss_weights = _by_name(loss), _by_name(loss_weights)
            if loss is not None and not isinstance(loss, dict | list | tuple):
                loss, loss_weights = dict.fromkeys(WEIGHTS, loss), loss_weights or dict(WEIGHTS)
            metrics, weighted_metrics = map(_of_predictions, (metrics, weighted_metrics))
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs)

    def compile_from_config(self, config):
        """As Keras' own, which takes no model with a `compile` of its own."""
        arguments = keras.saving.deserialize_keras_object(config)
        self.compile(**arguments)
        if self.built:
            self.optimizer.build(self.trainable_variables)
            is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
            if is_scaled and self.optimizer is not arguments.get("optimizer"):
                take_unscaled(self.optimizer)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As Keras' `compute_loss`."""
        y, sample_weight = self._for_heads(y), self._for_heads(sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """As Keras' `compute_metrics`."""
        y, sample_weight = self._for_heads(y), self._for_heads(sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _has_two_heads(self):
        return isinstance(self.output, dict) and "auxiliary" in self.output

    def _for_heads(self, y):
        if y is None or not self._has_two_heads():
            return y
        return _by_name(y) if isinstance(y, dict | list | tuple) else dict.fromkeys(self.output, y)


def _of_predictions(metrics):
    each = (list, tuple, dict, type(None))  # in a list of those of each head
    plain = isinstance(metrics, list | tuple) and not any(isinstance(one, each) for one in metrics)
    return {"predictions": list(metrics)} if plain else _by_name(metrics)


def _by_name(values):
    """Two values by the names of the heads: Keras would take them by the alphabet, `auxiliary` first."""
    two = isinstance(values, list | tuple) and len(values) == len(WEIGHTS)
    return dict(zip(WEIGHTS, values, strict=True)) if two else values


@keras.saving.register_keras_serializable(package="nasnet_keras")
class AuxiliaryHead(ProgramLayer):
    """The second classifier, for training only; its loss is added with weight 0.4.

    ReLU, average pool 5×5 with stride 3, 1×1 convolution to 128 channels, a convolution over all that is
    left to 768 channels, dense; batch norm and ReLU after each convolution (the released code's
    `_build_aux_head`). [batch, height, width, channels] to [batch, classes] in float32.

    Args:
        classes: number of classes.
        activation: `"softmax"`, None for logits, or another activation.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: no classes, or an input whose size is unknown or below 5×5.
    """

    def __init__(self, classes, activation="softmax", **kwargs):
        super().__init__(**kwargs)
        check_integer("classes", classes, least=1)
        self.classes = classes
        self.activation = activation

    def build(self, input_shape):
        """Check the size of the maps, then create the weights."""
        self.rest = self._rest(input_shape)
        super().build(input_shape)

    def _rest(self, input_shape):
        if None in input_shape[1:3] or min(input_shape[1:3]) < 5:
            raise ValueError(
                "`auxiliary_head=True` needs an `input_shape` of known size, large enough for a 5x5 pool. "
                f"Received: {tuple(input_shape[1:3])} at the auxiliary head"
            )
        return tuple((length - 5) // 3 + 1 for length in input_shape[1:3])

    def write(self, program, inputs):
        """Append the chain up to the logits."""
        value = program.pool(program.relu(*inputs), "avg", 5, 3, padding="VALID")
        value = program.norm(program.conv(value, 128, 1, name="project"), "batch_norm_1")
        value = program.conv(program.relu(value), 768, self.rest, name="conv", padding="VALID")
        value = program.relu(program.norm(value, "batch_norm_2"))
        return [program.dense(program.mean(value), self.classes, "logits")]

    def call(self, inputs, training=None):
        """Run the chain and the activation."""
        return keras.activations.get(self.activation)(super().call(inputs, training=training))

    def compute_output_shape(self, input_shape):
        """[batch, classes]."""
        return (input_shape[0], self.classes)

    def compute_output_spec(self, inputs, training=None):
        """[batch, classes] in float32."""
        return keras.KerasTensor((inputs.shape[0], self.classes), dtype="float32")

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "classes": self.classes, "activation": self.activation}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Dense(keras.layers.Dense):
    """Keras' `Dense`, whose LoRA goes on learning after it was read from a file.

    Keras merges both kernels of a LoRA into that of the layer, and reads them as zeros: then neither has a gradient,
    whatever model the layer is in. Files name a layer by its class, so this one is called as Keras' own.
    """

    def build(self, input_shape):
        """As Keras' own, which forgets the scale of a LoRA that a config has."""
        scale = self.lora_alpha
        super().build(input_shape)
        self.lora_alpha = scale

    def load_own_variables(self, store):
        """As Keras' own; the first kernel is drawn as where LoRA begins, and the second one stays zero."""
        super().load_own_variables(store)
        if self.lora_enabled:
            first = self.lora_kernel_a
            first.assign(keras.initializers.HeUniform(seed=0)(first.shape, first.dtype))

    def quantize(self, mode=None, type_check=True, config=None):
        """As Keras' own, which by default takes no subclass."""
        super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Predictions(keras.layers.Activation):
    """The activation that ends a classifier. It may be set later, to None for logits, as recipes for heat maps do."""

    @property
    def activation(self):
        """A function."""
        return self._activation

    @activation.setter
    def activation(self, value):
        """Take a function, a name, or None for logits."""
        self._activation = keras.activations.get(value)


def penalty(architecture):
    """How the kernel of a classifier is regularised; None without weight decay."""
    decay = architecture.weight_decay
    return keras.regularizers.L2(decay / 2) if decay else None


def classifier(features, architecture):
    """ReLU'd features [batch, height, width, channels] to [batch, classes] in float32, as layers of the model.

    Global average pool (`global_pool`), dropout, dense (`logits`), activation (`predictions`).

    Args:
        features: a Keras tensor.
        architecture: an `Architecture`.
    """
    pool = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="global_pool", dtype="float32")
    pooled = pool(features)
    if architecture.dropout:
        pooled = keras.layers.Dropout(architecture.dropout, name="dropout", dtype="float32")(pooled)
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
    kinds = {"kernel_initializer": initializer, "kernel_regularizer": penalty(architecture), "dtype": "float32"}
    logits = Dense(architecture.classes, name="logits", **kinds)(pooled)
    return Predictions(architecture.classifier_activation, name="predictions", dtype="float32")(logits)
