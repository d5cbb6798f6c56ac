"""What cells compute beside their shapes, told from a graph: some files and models have no arguments that say it."""

import hashlib
import json
import math

import keras

from nasnet_keras.weights.keras_files import OWN_LAYERS

# Of the arguments of a stem or cell those of a place in a network, and of the options that all share.
PLACE = ("kind", "genotype", "strides", "adjust")
SHARED = ("batch_norm_epsilon", "bounded_activations", "pooling_compatibility")


def layers_of(model):
    """Keras' descriptions of the layers of a model that is a graph, dicts; of one in code of its own none."""
    if not getattr(model, "inputs", None) or isinstance(model, keras.Sequential):
        return []
    return keras.Model(model.input, model.output).get_config()["layers"]


def check_layers(model, trained):
    """Raise `ValueError` where a stem or cells that were trained are wired or made otherwise than a network's.

    Args:
        model: a `NASNet`.
        trained: descriptions of layers, as `layers_of` gives them or `zoo.saved_layers`; those of the same names count.
    """
    known = _by_name(trained)
    asked = _by_name(layers_of(model)) if known else {}
    for name in sorted(known.keys() & asked):
        for part, value in asked[name].items():
            other = known[name].get(part, value)
            if not _alike(value, other):
                raise ValueError(
                    f"`weights` do not fit the network: `{part}` of {name} must be that which they were trained with, "
                    f"{_short(other)}. Received: {_short(value)}"
                )


def _by_name(layers):
    """{name of a stem or cell: what decides on what it computes, as far as it is said}."""
    found = {}
    for layer in layers:
        config = layer.get("config")
        if isinstance(config, dict) and {"kind", "genotype"} & set(config) and OWN_LAYERS.match(str(layer.get("name"))):
            options = config.get("options")
            parts = {part: _plain(config.get(part)) for part in PLACE}
            parts["inputs"] = _inputs(layer.get("inbound_nodes"))
            found[layer["name"]] = {part: value for part, value in parts.items() if value is not None}
            if isinstance(options, dict):
                found[layer["name"]] |= {part: options[part] for part in SHARED if part in options}
    return found


def _inputs(nodes):
    """What a layer is called with, [name of a layer, which of its results] each; None where there are others' layers.

    The graph has whatever `skip_reduction` decides nowhere else.
    """
    found = []

    def walk(value):
        if isinstance(value, dict) and isinstance(value.get("keras_history"), list | tuple):
            name, _, index = value["keras_history"]
            found.append([name, index])
        elif isinstance(value, dict | list | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                walk(part)

    walk(nodes)
    found = [pair for pair in found if pair[0] != "drop_path"]
    return found if all(OWN_LAYERS.match(str(name)) for name, _ in found) else None


def _plain(value):
    """A value as JSON has it; Keras writes tuples into some files as dicts."""
    if isinstance(value, dict):
        return _plain(value["items"]) if "items" in value else {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _alike(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)  # one of NumPy's float32 is not quite what it was written as
    return one == other


def _short(value):
    """A value in a line; of a cell's genotype a digest."""
    text = "None" if value is None else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if isinstance(value, dict) else text
