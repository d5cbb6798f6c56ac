"""A trained network's cells under a new classifier."""

from pathlib import Path

import keras

from nasnet_keras.models.applications import FACTORIES, load_model
from nasnet_keras.models.network import NASNet
from nasnet_keras.weights import index as weight_index
from nasnet_keras.weights import loading as weight_files
from nasnet_keras.weights.zoo import starting_weights

HEADS = ("logits", "auxiliary")


def load_source(model_or_name, weights="auto", **architecture):
    """A network whose cells are to be used again.

    Args:
        model_or_name, weights: as for `fine_tune`.
        **architecture: `repeats`, `filters` and the like, for a factory.

    Returns:
        (a `NASNet`, whether its weights are trained ones).

    Raises:
        ValueError: naming the argument at fault.
    """
    weights = starting_weights(model_or_name, weights, architecture)
    file = None if isinstance(weights, str) and not weight_index.is_file(weights) else weights
    if str(model_or_name) in FACTORIES:
        name = None if file is not None or weights == "none" else weights
        source = FACTORIES[str(model_or_name)](weights=name, include_top=False, **architecture)
    else:
        source = model_or_name if isinstance(model_or_name, keras.Model) else load_model(model_or_name)
        if not isinstance(source, NASNet) or "genotype" not in source.get_config():
            raise ValueError(f"`model_or_name` must be a NASNet on an input of its own. Received: {source.name!r}")
        if weights != "auto":
            source = NASNet.from_config({**source.get_config(), "include_top": False, "auxiliary_head": False})
    if file is not None:
        _fill(source, file)
    return source, weights != "none"


def with_new_head(source, data, *, batch_norm=0.9, **options):
    """A network with the cells of another one, weights included, and a new classifier.

    Args:
        source: a `NASNet`.
        data: a `Data`; it says which classes there are, and how large images are.
        batch_norm: momentum of batch norms, or `"frozen"` for the old one's.
        **options: other arguments of `NASNet` that change.

    Raises:
        ValueError: naming the argument at fault.
    """
    if batch_norm != "frozen":
        options["batch_norm_momentum"] = batch_norm
    config = {
        **source.get_config(),
        "input_shape": data.image_shape,
        "include_top": True,
        "pooling": None,
        "feature_pyramid": False,
        "auxiliary_head": False,
        "include_preprocessing": False,
        "classifier_activation": "softmax",
        "classes": len(data.class_names),
        "class_names": data.class_names,
    }
    if unknown := sorted(set(options) - set(config)):
        raise ValueError(f"`{unknown[0]}` is no argument of NASNet. Received: {options[unknown[0]]!r}")
    model = NASNet.from_config({**config, **options})
    copy_cells(source, model)
    return model


def copy_cells(source, model):
    """Give a network the weights of another one's stem and cells.

    Raises:
        ValueError: naming the first that does not fit.
    """
    for layer in parts(model):
        if layer.name in HEADS:
            continue
        try:
            layer.set_weights(source.get_layer(layer.name).get_weights())
        except ValueError:
            raise ValueError(
                f"`weights` do not fit the network: {layer.name} has other weights or is not there. "
                "`repeats`, `filters`, `stem` and the genotype must be those that it was trained with"
            ) from None


def parts(model):
    """The layers of a `NASNet` that have weights, from the stem upwards."""
    order = [layer for layer in model.layers if layer.weights]
    return sorted(order, key=lambda layer: layer.name in HEADS)


def _fill(source, file):
    path = Path(file)
    if path.is_dir() or path.suffix == ".keras":
        copy_cells(load_model(path), source)
    else:
        weight_files.load(source, path)
