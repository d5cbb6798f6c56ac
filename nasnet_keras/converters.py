"""Other projects' weights, brought to the names of the released TF-slim code.

TF-slim's variable names are the common language: `slim_variables` names every weight of a network
in it, and a file of another project is first renamed to it. A mapping is `{name: numpy array}`. Every
tensor must be used and every weight filled, or a `ValueError` names the first ten that do not fit.
"""

import re
import zipfile
import zlib

import numpy as np

AVERAGE = "/ExponentialMovingAverage"
# What a training checkpoint holds besides the network.
BOOKKEEPING = re.compile(r"(^|/)(global_step|RMSProp(_\d+)?|Momentum|Adam(_\d+)?|beta\d_power)$")


def slim_variables(model):
    """`{TF-slim name: variable}` for every weight of a `NASNet`, in the order of its layers.

    States keep TF-slim's numbering inside names (0 is the newer input, 1 the older). A network whose
    two cells are the same (PNASNet) counts strided cells along with the others, as its code does.

    Raises:
        ValueError: another kind of model.
    """
    if not hasattr(model, "genotype"):
        raise ValueError(f"`model` must be a NASNet. Received: {model!r}")
    names = {}
    same_cell = model.genotype.normal == model.genotype.reduction
    count = 0
    for layer in model.layers:
        if layer.name == "stem":
            kinds = {"stem_cifar": ("l1_stem_3x3", "l1_stem_bn"), "stem_imagenet": ("conv0", "conv0_bn")}
            names.update(_convolution(layer, *kinds[layer.kind]))
        elif re.fullmatch(r"(stem_cell|cell|reduction_cell)_\d+", layer.name):
            in_stem = layer.name.startswith("stem_cell")
            scope = layer.name.replace("stem_cell", "cell_stem")
            if same_cell and not in_stem:
                scope = f"cell_{count}"
            count += 0 if in_stem else 1
            names.update({f"{scope}/{name}": variable for name, variable in _cell(layer).items()})
        elif layer.name == "logits":
            names.update(_dense(layer, "final_layer/FC"))
        elif layer.name == "auxiliary":
            names.update(_auxiliary(layer))
    return names


def _norm(layer, name):
    return {f"{name}/{weight.name}": weight for weight in layer.weights}


def _dense(layer, name):
    return {f"{name}/weights": layer.kernel, f"{name}/biases": layer.bias}


def _convolution(operation, conv_name, norm_name):
    """A chain with one convolution and one batch norm."""
    parts = {part.name: part for part in operation.parts}
    return {f"{conv_name}/weights": parts["conv"].kernel, **_norm(parts["batch_norm"], norm_name)}


def _reduction(operation):
    parts = {part.name: part for part in operation.parts}
    paths = {f"path{path.name[-1]}_conv/weights": path.kernel for path in parts["reduce"].parts}
    return {**paths, **_norm(parts["batch_norm"], "final_path_bn")}


def _cell(cell):
    names = {}
    for layer in cell.adjustments.values():
        if layer.kind == "factorized_reduction":
            names.update(_reduction(layer))
        else:
            scope = {"current": ("1x1", "beginning_bn"), "previous": ("prev_1x1", "prev_bn")}
            names.update(_convolution(layer, *scope.get(layer.name, (layer.name, f"{layer.name}_bn"))))
    for block in cell.blocks.values():
        index = block.name.removeprefix("block_")
        for side in (block.left, block.right):
            scope = f"comb_iter_{index}/{side.name}"
            names.update({f"{scope}/{name}": variable for name, variable in _operation(side).items()})
        for part in block.combine.parts:
            scope = f"comb_iter_{index}/combine"
            names.update({f"{scope}/{variable.path.split('/combine/')[1]}": variable for variable in part.weights})
    for state, layer in cell.outputs.items():
        index = {"0": "1", "1": "0"}.get(state, state) if cell.genotype.inputs == 2 else state
        scope = f"cell_output/reduction_{index}"
        part = _reduction(layer) if layer.kind == "output_reduction" else _convolution(layer, "path_conv", "path_bn")
        names.update({f"{scope}/{name}": variable for name, variable in part.items()})
    return names


def _operation(operation):
    """TF-slim has names for separable convolutions, and for the 1×1 of pools and identities."""
    names = {}
    kernel = operation.kind.removeprefix("sep_conv_")
    for part in operation.parts:
        number = part.name[-1]
        if part.name.startswith("separable"):
            scope = f"separable_{kernel}_{number}"
            names[f"{scope}/depthwise_weights"] = part.depthwise_kernel
            names[f"{scope}/pointwise_weights"] = part.pointwise_kernel
        elif operation.kind.startswith("sep_conv") and part.weights:
            names.update(_norm(part, f"bn_sep_{kernel}_{number}"))
        elif operation.kind == "identity" or "pool" in operation.kind:
            names.update(_norm(part, "bn_1") if part.name == "batch_norm" else {})
            names.update({"1x1/weights": part.kernel} if part.name == "conv" else {})
        else:
            names.update({f"{part.name}/{weight.name}": weight for weight in part.weights})
    return names


def _auxiliary(layer):
    parts = {part.name: part for part in layer.parts}
    scope = "aux/aux_logits"
    return {
        f"{scope}/proj/weights": parts["project"].kernel,
        **_norm(parts["batch_norm_1"], f"{scope}/aux_bn0"),
        f"{scope}/Conv/weights": parts["conv"].kernel,
        **_norm(parts["batch_norm_2"], f"{scope}/aux_bn1"),
        **_dense(parts["logits"], f"{scope}/FC"),
    }


def load_slim_weights(model, mapping_or_checkpoint, moving_average=True):
    """Fill a `NASNet` from a TF-slim checkpoint.

    Tensors of heads that the model lacks (auxiliary, classifier) are left out, and so are a
    training checkpoint's optimiser slots. A classifier with one class more than the model's loses its first, the
    background.

    Args:
        model: a `NASNet`.
        mapping_or_checkpoint: `{variable name: array}`, the path of a `.npz` file with such names, or a
            checkpoint's path (needs TensorFlow).
        moving_average: whether to take the moving-average copy of a variable where there is one.

    Raises:
        ValueError: a file that cannot be read, a tensor without a weight, a weight without a tensor, or
            another shape. The network is left as it was.
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
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError(f"cannot read {path}: not a .npz file of plain arrays, or damaged") from None


def _read_checkpoint(path):
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(path))
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
    for name, variable in variables.items() if background else ():
        stored = np.shape(tensors.get(name, ()))
        if "/FC/" in name and stored == (*variable.shape[:-1], variable.shape[-1] + 1):
            tensors[name] = np.asarray(tensors[name])[..., 1:]
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
