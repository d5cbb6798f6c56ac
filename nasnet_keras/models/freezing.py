"""Which parts of a network learn: `freeze`, and how that is kept in a file.

A cell is one layer. Recipes that freeze every `BatchNormalization` find none, and those that freeze all layers but
the last twenty freeze nothing; `freeze` does what they mean.
"""

import keras

from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.models.nesting import layers_within

HEADS = ("logits", "predictions", "auxiliary")


def freeze(model, up_to=None, statistics=True, *, norms=False):
    """Let the lower part of a network stand still, and the batch norms of all of it if that is wanted.

    What is set is the whole state of stem and cells: those above `up_to` learn, whatever was said before. Heads keep
    theirs, unless all of the model stood still. As after every change of `trainable`, compile anew.

    | recipe for keras.applications | here |
    |---|---|
    | `base.trainable = False` | the same, or `freeze(base, "all")` |
    | `for layer in base.layers[:-20]: layer.trainable = False` | `freeze(base, "cell_10", statistics=False)` |
    | `base(x, training=False)` | `freeze(base)`; in a functional model Keras 3.15 lets the `training` of `fit` win |
    | each `BatchNormalization`: `layer.trainable = False` | `freeze(base, norms=True)` |

    Args:
        model: a `NASNet`, or any Keras model with one inside, at any depth.
        up_to: the highest layer that stands still, with all below it: `"stem"`, `"stem_cell_0"`, `"cell_3"`,
            `"reduction_cell_1"`, …, or `"all"` for the stem and every cell. None: none.
        statistics: whether batch norms, also in cells that learn, go by the statistics that they have and keep them.
        norms: whether scales and offsets of batch norms stand still as well.

    Returns:
        The model.

    Raises:
        ValueError: there is no NASNet in the model, or none with such a layer.

    Examples:
        >>> from nasnet_keras import NASNetMobile, freeze
        >>> base = NASNetMobile(weights=None, include_top=False, pooling="avg", repeats=1, filters=8)
        >>> len(freeze(base, up_to="cell_1").trainable_weights) < len(freeze(base).trainable_weights)
        True
    """
    networks = [layer for layer in layers_within(model) if isinstance(layer, keras.Model) and _cells(layer)]
    if not networks:
        raise ValueError(f"`model` must be or hold a NASNet. Received: {getattr(model, 'name', model)!r}")
    names = list(dict.fromkeys(cell.name for network in networks for cell in _cells(network)))
    if up_to not in (None, "all", *names):
        raise ValueError(f"`up_to` must be None, all, or one of {', '.join(names)}. Received: {up_to!r}")
    for part in layers_within(model):
        holds = isinstance(part, keras.Model) and any(one in networks for one in layers_within(part))
        if holds and not part.trainable:
            part.trainable = True  # else nothing inside it would learn, whatever it says
    for network in networks:
        cells = _cells(network)
        inside = [cell.name for cell in cells]
        count = len(cells) if up_to == "all" else inside.index(up_to) + 1 if up_to in inside else 0
        for place, cell in enumerate(cells):
            cell.trainable = place >= count
            cell.frozen_statistics = bool(statistics)
            for scale in cell.scales() if norms else ():
                scale.trainable = False
    return model


def _cells(model):
    """Stem and cells of a network among the layers of a model, upwards."""
    layers = getattr(model, "layers", ())
    return [layer for layer in layers if isinstance(layer, ProgramLayer) and layer.name not in HEADS]


def frozen_parts(model):
    """What of a network stands still, JSON-able: {name of a layer: some of `weights`, `statistics`, `norms`}."""
    found = {}
    for layer in model.layers:
        marks = ["weights"] if layer.weights and not layer.trainable else []
        if isinstance(layer, ProgramLayer):
            marks += ["statistics"] if layer.frozen_statistics else []
            marks += ["norms"] if layer.has_frozen_norms() else []
        if marks:
            found[layer.name] = marks
    return found


def freeze_parts(model, parts):
    """Let stand still what `frozen_parts` found in a network of the same kind."""
    for name, marks in parts.items():
        layer = model.get_layer(name)
        layer.trainable = "weights" not in marks
        if isinstance(layer, ProgramLayer):
            layer.frozen_statistics = "statistics" in marks
            for scale in layer.scales() if "norms" in marks else ():
                scale.trainable = False
