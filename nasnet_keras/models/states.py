"""What of a network no argument says, as what it has become since it was built: kept beside those in its config."""

import re

import keras

from nasnet_keras.models.freezing import freeze_parts, frozen_parts
from nasnet_keras.models.heads import penalty
from nasnet_keras.models.inference import low_ranks, state_of

STATES = ("frozen", "quantized", "auxiliary_activation", "lora", "decay", "input")
COUNTED = re.compile(r"keras_tensor(_\d+)?$")  # Keras' name for what has none


def states_of(model):
    """The states of a `NASNet`, a JSON-able dict with some of `STATES`; files of most networks have none of them."""
    layers = {layer.name: layer for layer in model.layers}
    found = {"frozen": frozen_parts(model)}
    found["quantized"] = {name: _quantization(layer) for name, layer in layers.items() if layer.quantization_mode}
    found["input"] = _own_input(model.input)
    found["lora"] = {layer.name: [layer.lora_rank, layer.lora_alpha] for layer in low_ranks(model)}
    now = _decay(layers["logits"].kernel_regularizer) if "logits" in layers else None
    if "logits" in layers and now != _decay(penalty(model.architecture)):
        found["decay"] = {"logits": now}
    if "auxiliary" in layers:
        first, second = (activation_name(layers[name]) for name in ("predictions", "auxiliary"))
        found |= {"auxiliary_activation": second} if second != first else {}
    return {name: value for name, value in found.items() if value or name == "auxiliary_activation"}


def _own_input(image):
    """What a network's `Input` has that is not usual, a dict: its name, type, number of images."""
    usual = {"name": "image", "dtype": keras.config.floatx(), "batch_size": None}
    own = {"name": image.name, "dtype": keras.backend.standardize_dtype(image.dtype), "batch_size": image.shape[0]}
    if COUNTED.match(image.name):
        del own["name"]
    return {name: value for name, value in own.items() if value != usual[name]}


def input_of(config):
    """The `Input` of which a config says what is not usual; None of the usual one."""
    own = config.get("input")
    return keras.Input(tuple(config["input_shape"]), **{"name": "image", **own}) if own else None


def give_states(model, states):
    """Bring a network that was just built into the states that `states_of` gave; other keys are left."""
    for name, settings in (states.get("decay") or {}).items():  # before its kernel is another
        layer = model.get_layer(name)
        layer.kernel_regularizer = layer.kernel.regularizer = keras.regularizers.get(settings)
    for name, (mode, settings) in (states.get("quantized") or {}).items():
        model.get_layer(name).quantize(mode, config=keras.saving.deserialize_keras_object(settings))
    for name, (rank, alpha) in (states.get("lora") or {}).items():
        model.get_layer(name).enable_lora(rank, lora_alpha=alpha)
    freeze_parts(model, states.get("frozen") or {})
    if (activation := states.get("auxiliary_activation")) is not None:
        model.get_layer("auxiliary").activation = activation
        model._as_built = state_of(model)


def check_channels_last(shape):
    """Raise `ValueError` where a shape, meant as (height, width, channels), is one with the channels first."""
    height, width, channels = shape
    if channels > 4 and (height in (3, 4) or (height == 1 and width == channels)):
        rule = f"(height, width, channels), whatever Keras' global format is, as ({width}, {channels}, {height}) is"
        raise ValueError(f"`input_shape` must be {rule}. Received: {shape}")


def check_activation(activation):
    """Raise `ValueError` where Keras knows no such activation."""
    try:
        keras.activations.get(activation)
    except Exception:  # Keras raises many kinds
        rule = "None for logits, the name of one of Keras' activations, or a function"
        raise ValueError(f"`classifier_activation` must be {rule}. Received: {activation!r}") from None


def _decay(regularizer):
    """Keras' description of how a kernel is regularised, or None."""
    return None if regularizer is None else keras.regularizers.serialize(regularizer)


def _quantization(layer):
    """How a layer was quantised, JSON-able: the mode, and Keras' description of the settings or None."""
    return layer.quantization_mode, keras.saving.serialize_keras_object(getattr(layer, "quantization_config", None))


def activation_name(layer):
    """What a file can say of a head's activation: its name in Keras; a function of one's own is a `ValueError`."""
    activation = keras.activations.get(layer.activation)
    name = named_activation(activation)
    if not isinstance(name, str):
        rule, received = "one of Keras' own to be kept in a file", getattr(activation, "__name__", "") or activation
        raise ValueError(f"`{layer.name}.activation` must be {rule}. Received: {received!r}")
    return name


def named_activation(activation):
    """The name of a function of Keras, which JSON can hold; anything else, a function of one's own too, as it is."""
    name = getattr(activation, "__name__", "")
    return name if name and getattr(keras.activations, name, None) is activation else activation
