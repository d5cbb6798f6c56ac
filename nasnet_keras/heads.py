"""What stands on top of the cells: the classifier and the auxiliary head."""

import keras

from nasnet_keras.parts import Composite, layer_multiply_adds


@keras.saving.register_keras_serializable(package="nasnet_keras")
class AuxiliaryHead(Composite):
    """The second classifier, for training only; its loss is added with weight 0.4.

    ReLU, average pool 5×5 with stride 3, 1×1 convolution to 128 channels, a convolution over all that is
    left to 768 channels, dense; batch norm and ReLU after each convolution (the released code's
    `_build_aux_head`). [batch, height, width, channels] to [batch, classes] in float32.

    Args:
        classes: number of classes.
        activation: `"softmax"`, None for logits, or another activation.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an input whose size is unknown or below 5×5.
    """

    def __init__(self, classes, activation="softmax", **kwargs):
        super().__init__(**kwargs)
        self.classes = classes
        self.activation = activation

    def build(self, input_shape):
        """Make the chain for maps of this size."""
        if None in input_shape[1:3] or min(input_shape[1:3]) < 5:
            raise ValueError(
                "`auxiliary_head=True` needs an `input_shape` of known size, large enough for a 5x5 pool. "
                f"Received: {tuple(input_shape[1:3])} at the auxiliary head"
            )
        maker = self.maker()
        rest = tuple((length - 5) // 3 + 1 for length in input_shape[1:3])
        self.parts = [
            maker.relu("relu_1"),
            keras.layers.AveragePooling2D(5, 3, padding="valid", name="pool", dtype=self.dtype_policy),
            maker.conv(128, 1, name="project"),
            maker.norm("batch_norm_1"),
            maker.relu("relu_2"),
            maker.conv(768, rest, padding="valid", name="conv"),
            maker.norm("batch_norm_2"),
            maker.relu("relu_3"),
            keras.layers.Flatten(name="flatten", dtype=self.dtype_policy),
            maker.dense(self.classes, "logits"),
            keras.layers.Activation(self.activation, name="predictions", dtype="float32"),
        ]
        for part in self.parts:
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def call(self, inputs):
        """Run the chain."""
        for part in self.parts:
            inputs = part(inputs)
        return inputs

    def compute_output_spec(self, inputs):
        """[batch, classes] in float32."""
        return keras.KerasTensor((inputs.shape[0], self.classes), dtype="float32")

    def multiply_adds(self, input_shape):
        """Multiply-adds of the convolutions and the dense layer, for one image."""
        total = 0
        for part in self.parts:
            total += layer_multiply_adds(part, input_shape)
            input_shape = part.compute_output_shape(input_shape)
        return total

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "classes": self.classes, "activation": self.activation}


def classifier(features, maker, classes, activation, dropout):
    """ReLU'd features [batch, height, width, channels] to [batch, classes] in float32, as layers of the model.

    Global average pool (`global_pool`), dropout, dense (`logits`), activation (`predictions`).
    """
    pooled = keras.layers.GlobalAveragePooling2D(name="global_pool", dtype="float32")(features)
    if dropout:
        pooled = keras.layers.Dropout(dropout, name="dropout", dtype="float32")(pooled)
    logits = maker.dense(classes, "logits")(pooled)
    return keras.layers.Activation(activation, name="predictions", dtype="float32")(logits)
