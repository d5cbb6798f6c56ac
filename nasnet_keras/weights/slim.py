"""Other projects' weights, brought to the names of the released TF-slim code.

TF-slim's variable names are the common language: `slim_variables` names every weight of a network
in it, and a file of another project is first renamed to it. A mapping is `{name: numpy array}`. Every
tensor must be used and every weight filled, or a `ValueError` names the first ten that do not fit.
"""

import logging
import re
import zipfile
import zlib

import numpy as np

from nasnet_keras.files import expanded

logger = logging.getLogger(__name__)

AVERAGE = "/ExponentialMovingAverage"
IMAGENET = 1000  # classes, before which the released checkpoints have one for the background
# What a training checkpoint holds besides the network.
BOOKKEEPING = re.compile(r"(^|/)(global_step|RMSProp(_\d+)?|Momentum|Adam(_\d+)?|beta\d_power)$")


def slim_variables(model):
    """`{TF-slim name: variable}` for every weight of a `NASNet`, in the order of its layers.

    States keep TF-slim's numbering inside names (0 is the newer input, 1 the older). A network whose
    two cells are the same (PNASNet) counts strided cells along with the others, as its code does.

    Raises:
        ValueError: another kind of model.
    """
    if not hasattr(model, "architecture"):
        raise ValueError(f"`model` must be a NASNet. Received: {model!r}")
    genotype, weights = model.architecture.genotype, model.named_weights()
    same_cell = genotype.normal == genotype.reduction
    names, scopes = {}, {}
    for name in (layer.name for layer in model.layers):
        if re.fullmatch(r"(stem_cell|cell|reduction_cell)_\d+", name):
            in_stem = name.startswith("stem_cell")
            count = sum(not scope.startswith("cell_stem") for scope in scopes.values())
            scopes[name] = f"cell_{count}" if same_cell and not in_stem else name.replace("stem_cell", "cell_stem")
    for place, variable in weights.items():
        layer, _, inside = place.partition("/")
        if layer == "stem":
            inside = STEM_NAMES[model.architecture.stem][inside.partition("/")[0]] + _leaf(inside)
        elif layer in scopes:
            cell = genotype.normal if layer.startswith("cell") else genotype.reduction
            reduced = f"{layer}/{inside.partition('/')[0]}/reduce/path_2/kernel" in weights
            inside = f"{scopes[layer]}/{_in_cell(inside, cell, reduced)}"
        elif layer == "logits":
            inside = "final_layer/FC" + _leaf(inside)
        elif layer == "auxiliary":
            inside = f"aux/aux_logits/{AUXILIARY_NAMES[inside.partition('/')[0]]}{_leaf(inside)}"
        else:
            continue
        names[inside] = variable
    return names


STEM_NAMES = {
    "cifar": {"conv": "l1_stem_3x3", "batch_norm": "l1_stem_bn"},
    "imagenet": {"conv": "conv0", "batch_norm": "conv0_bn"},
}
AUXILIARY_NAMES = {
    "project": "proj",
    "batch_norm_1": "aux_bn0",
    "conv": "Conv",
    "batch_norm_2": "aux_bn1",
    "logits": "FC",
}
ADJUSTMENT_NAMES = {"current": ("1x1", "beginning_bn"), "previous": ("prev_1x1", "prev_bn")}


def _leaf(place):
    """`/weights` for the last name of a place, and so on."""
    name = place.rpartition("/")[2]
    return "/" + {"kernel": "weights", "bias": "biases"}.get(name, name)


def _in_cell(place, cell, reduced):
    """The name of a weight inside a cell; `reduced` says whether its state is brought to half the size."""
    first, _, rest = place.partition("/")
    leaf = _leaf(place)
    path = re.match(r"reduce/path_(\d)", rest)
    if first.startswith("block_"):
        return f"comb_iter_{first.removeprefix('block_')}/{_in_block(rest, cell, int(first[6:]))}"
    if first.startswith("output_"):
        state, conv, norm = first.removeprefix("output_"), "path_conv", "path_bn"
        scope = f"cell_output/reduction_{_older_last(state, cell)}/"
    else:
        scope, (conv, norm) = "", ADJUSTMENT_NAMES.get(first, (first, f"{first}_bn"))
    if path:
        return f"{scope}path{path[1]}_conv{leaf}"
    if rest.startswith("batch_norm"):
        return f"{scope}{'final_path_bn' if reduced else norm}{leaf}"
    return f"{scope}{conv}{leaf}"


def _older_last(state, cell):
    """TF-slim counts from the newer input to the older."""
    return {"0": "1", "1": "0"}.get(state, state) if cell.inputs == 2 else state


def _in_block(place, genotype, index):
    """TF-slim has names for separable convolutions, and for the 1×1 of pools and identities."""
    side, _, inside = place.partition("/")
    if side == "combine":
        return place
    part, _, weight = inside.partition("/")
    kind = genotype.blocks[index].operations[side == "right"]
    if kind.startswith("sep_conv"):
        kernel, number = kind.removeprefix("sep_conv_"), part[-1]
        if part.startswith("separable"):
            return f"{side}/separable_{kernel}_{number}/{weight.replace('kernel', 'weights')}"
        return f"{side}/bn_sep_{kernel}_{number}/{weight}"
    if kind == "identity" or "pool" in kind:
        return f"{side}/1x1/weights" if part == "conv" else f"{side}/bn_1/{weight}"
    return place


def load_slim_weights(model, mapping_or_checkpoint, moving_average=True):
    """Fill a `NASNet` from a TF-slim checkpoint.

    Tensors of heads that the model lacks (auxiliary, classifier) are left out, and so are a
    training checkpoint's optimiser slots. A classifier with one class more than the model's loses its first, the
    background, which is told where it is not that of ImageNet's 1,000 classes. A checkpoint does not say how its
    network was wired: `skip_reduction`, `batch_norm_epsilon` and the like must be those that it was trained with.

    Args:
        model: a `NASNet`.
        mapping_or_checkpoint: `{variable name: array}`, the path of a `.npz` file with such names, or a
            checkpoint's path (needs TensorFlow).
        moving_average: whether to take the moving-average copy of a variable where there is one.

    Raises:
        ValueError: a file that cannot be read, a tensor without a weight, a weight without a tensor, or
            another shape. The network is left as it was.

    Examples:
        >>> from nasnet_keras import NASNetMobile, load_slim_weights
        >>> model = NASNetMobile(weights=None)
        >>> load_slim_weights(model, "nasnet-a_mobile_04_10_2017/model.ckpt")  # doctest: +SKIP
    """
    tensors = mapping_or_checkpoint
    if not hasattr(tensors, "items"):
        read = read_npz if str(mapping_or_checkpoint).endswith(".npz") else _read_checkpoint
        tensors = read(mapping_or_checkpoint)
    plain = {name: value for name, value in tensors.items() if not name.endswith(AVERAGE)}
    averages = {name.removesuffix(AVERAGE): value for name, value in tensors.items() if name.endswith(AVERAGE)}
    if moving_average:
        plain.update(averages)
    plain = {re.sub(r"^aux_\d+/", "aux/", name): value for name, value in plain.items() if not BOOKKEEPING.search(name)}
    fill(model, plain)


def read_npz(path):
    """`{name: array}` of a `.npz` file. Raises `ValueError` that names the file."""
    try:
        with np.load(expanded(path), allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError(f"cannot read {path}: not a .npz file of plain arrays, or damaged") from None


def _read_checkpoint(path):
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(expanded(path)))
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"cannot read the checkpoint {path}: {str(error).splitlines()[0]}") from None
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def fill(model, tensors, background=True):
    """Set every weight of a `NASNet`, or raise `ValueError` and set none.

    Args:
        model: a `NASNet`.
        tensors: `{TF-slim name: array}`; shapes are looked at before numbers, so that an array may still
            lie on a disk. Tensors of a head that the model lacks are left out.
        background: whether a classifier with one class more than the model's loses its first.

    Raises:
        ValueError: naming the first ten that do not fit.
    """
    variables = slim_variables(model)
    heads = {"final_layer/": "logits", "aux/": "auxiliary"}
    present = {layer.name for layer in model.layers}
    absent = tuple(scope for scope, layer in heads.items() if layer not in present)
    tensors = {name: value for name, value in tensors.items() if not (absent and name.startswith(absent))}
    if "logits" in present and not any(name.startswith("final_layer/") for name in tensors):
        raise ValueError("the weights have no classifier: build the network with `include_top=False` to load them")
    odd = None
    for name, variable in variables.items() if background else ():
        stored = np.shape(tensors.get(name, ()))
        if "/FC/" in name and stored == (*variable.shape[:-1], variable.shape[-1] + 1):
            tensors[name] = np.asarray(tensors[name])[..., 1:]
            odd = stored[-1] if stored[-1] != IMAGENET + 1 else None
    faults = [f"{name}: no such weight in the network" for name in tensors if name not in variables]
    faults += [f"{name}: not in the file" for name in variables if name not in tensors]
    faults += [
        f"{name}: shape {np.shape(tensors[name])}, not {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in tensors and np.shape(tensors[name]) != tuple(variable.shape)
    ]
    if faults:
        more = f" … and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise ValueError(f"the weights do not fit the network: {'; '.join(faults[:10])}{more}")
    values = [np.asarray(tensors[name]) for name in variables]
    for variable, value in zip(variables.values(), values, strict=True):
        variable.assign(value)
    if odd:
        logger.warning("class 0 of %d is taken for TF-slim's background, and is not in the network", odd)
