"""Weight files of keras.applications and of timm, read without running code and renamed to TF-slim's names.

The names are computed from the network's own: each weight's TF-slim name has one counterpart in the
other project, so what is left over on either side is an error, and nothing is matched by order or by shape.
"""

import json
import logging
import math
import re
import reprlib
from pathlib import Path

import numpy as np

from nasnet_keras.files import expanded
from nasnet_keras.genotype import load_genotype
from nasnet_keras.weights.index import RELEASED, USUAL
from nasnet_keras.weights.keras_files import keras_tensors
from nasnet_keras.weights.slim import fill, read_npz, slim_variables

logger = logging.getLogger(__name__)

# TF-slim's name of a weight in a classifier, whether or not the network has one.
CLASSIFIER = ("final_layer/FC/weights", "final_layer/FC/biases")
# The released ImageNet checkpoints' number of classes: class 0 is the background.
WITH_BACKGROUND = 1001
# What keras.applications' layers with weights are called; others in a file are of a head of somebody's own.
KERAS_LAYERS = re.compile(r"(stem|separable|normal|reduction|adjust)_|predictions$")
# TF-slim's names to timm's, one substitution after another.
TIMM_NAMES = (
    (r"^final_layer/FC/weights$", "last_linear.weight"),
    (r"^final_layer/FC/biases$", "last_linear.bias"),
    (r"^conv0/", "conv0.conv/"),
    (r"^conv0_bn/", "conv0.bn/"),
    (r"/(comb_iter_\d+)/(left|right)/", r".\1_\2/"),
    (r"/separable_\dx\d_(\d)/(depthwise|pointwise)_weights$", r".separable_\1.\2_conv2d/weights"),
    (r"/bn_sep_\dx\d_(\d)/", r".bn_sep_\1/"),
    (r"(_left|_right)/1x1/", r"\1.conv/"),
    (r"(_left|_right)/bn_1/", r"\1.bn/"),
    (r"/1x1/", ".conv_1x1.conv/"),
    (r"/beginning_bn/", ".conv_1x1.bn/"),
    (r"/prev_1x1/", ".conv_prev_1x1.conv/"),
    (r"/prev_bn/", ".conv_prev_1x1.bn/"),
    (r"/path(\d)_conv/", r".path_\1.conv/"),
    (r"/final_path_bn/", ".final_path_bn/"),
    (r"/(weights|gamma)$", ".weight"),
    (r"/beta$", ".bias"),
    (r"/moving_mean$", ".running_mean"),
    (r"/moving_variance$", ".running_var"),
)
# timm's PNASNet has names of its own for two parts.
TIMM_PNASNET_NAMES = ((r"^conv0\.", "conv_0."), (r"\.(path_\d\.|final_path_bn\.)", r".conv_prev_1x1.\1"))
SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}


def load_keras_applications_weights(model, path):
    """Fill a NASNet-A network from a file of keras.applications' `NASNetMobile`, `NASNetLarge` or `NASNet`.

    The file is legacy HDF5, the format of the released files, with or without the classifier, a `.weights.h5` or a
    `.keras` of Keras 3; a whole model in these formats will do as well, also where the network is a part of it. A
    network without a top takes all kinds; of a fine-tuned one it takes the cells, and leaves the head that stands on
    them, which is logged by name. The image size is free. The file does not say how its network was wired: that is
    known of networks of `NASNetMobile`'s and `NASNetLarge`'s sizes, and of others `skip_reduction` must be given as it
    was there. Nor does it say how it pools: build the network with `pooling_compatibility="keras"` to get
    keras.applications' outputs, borders included.

    Args:
        model: a `NASNet` with the ImageNet stem, three stacks of one length, and no auxiliary head.
        path: the file.

    Raises:
        ValueError: a file that cannot be read or is of another format, a tensor without a weight, a weight
            without a tensor, another shape, or a network that computes something else with the same shapes. The
            network is left as it was.

    Examples:
        >>> from nasnet_keras import NASNetMobile, load_keras_applications_weights
        >>> model = NASNetMobile(weights=None, pooling_compatibility="keras")
        >>> load_keras_applications_weights(model, "NASNet-mobile.h5")  # doctest: +SKIP
    """
    weights, repeats = (*slim_variables(model), *CLASSIFIER), _repeats(model)
    names = {_keras_name(name, repeats): name for name in weights}
    try:
        with keras_tensors(path) as tensors:
            tensors = _without_head(model, tensors, path)
            _check_wiring(model, "nasnet_a", _skips_in_keras(model.architecture))
            _fill(model, tensors, names)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {_line(error)}") from None


def _without_head(model, tensors, path):
    """The tensors without those of a head that is not keras.applications' own."""
    foreign = sorted({layer for name in tensors if not KERAS_LAYERS.match(layer := name.partition("/")[0])})
    if "stem_conv1/kernel" not in tensors and "stem" in foreign:
        raise ValueError("not a file of keras.applications, but of this package's own networks: `weights=` takes it")
    if not foreign or "stem_conv1/kernel" not in tensors:
        return tensors
    named = f"{', '.join(foreign[:10])}{' …' * (len(foreign) > 10)}"
    if "logits" in {layer.name for layer in model.layers}:
        if "predictions/kernel" in tensors:
            return tensors  # what is left over in it is told as such
        raise ValueError(f"it has another head, {named}: build the network with `include_top=False` to take the cells")
    logger.warning("%s: its cells are taken, and what is not NASNet's is left: %s", path, named)
    return {name: value for name, value in tensors.items() if name.partition("/")[0] not in foreign}


def _repeats(model):
    """Normal cells in each stack, from which keras.applications numbers its cells."""
    names = [layer.name for layer in model.layers]
    cells = sum(bool(re.fullmatch(r"cell_\d+", name)) for name in names)
    stacks = 1 + sum(bool(re.fullmatch(r"reduction_cell_\d+", name)) for name in names)
    if stacks != 3 or cells % 3 or "stem_cell_1" not in names:
        raise ValueError(
            "`model` must have the ImageNet stem and three stacks of one length, as keras.applications has. "
            f"Received: {cells} normal cells in {stacks} stacks"
        )
    return cells // 3


def _keras_name(name, repeats):
    """`layer/weight` in keras.applications for a TF-slim name; the name itself where there is no such layer."""
    fixed = {"conv0": "stem_conv1", "conv0_bn": "stem_bn1", "final_layer/FC": "predictions"}
    place, _, weight = name.rpartition("/")
    weight = re.sub("weights$", "kernel", weight).replace("biases", "bias")
    if place in fixed:
        return f"{fixed[place]}/{weight}"
    cell = re.match(r"(cell_stem|cell|reduction_cell)_(\d+)/", name)
    if not cell:
        return name
    kind = "normal" if cell[1] == "cell" else "reduction"
    number = int(cell[2])
    # The first reduction cell takes a number of its own, N; the second does not.
    identity = {
        "cell_stem": f"stem_{number + 1}",
        "cell": str(number if number < repeats else number + 1),
        "reduction_cell": f"reduce_{repeats * (number + 1)}",
    }[cell[1]]
    place = place.removeprefix(cell[0])
    layers = {
        "1x1": f"{kind}_conv_1",
        "beginning_bn": f"{kind}_bn_1",
        "prev_1x1": "adjust_conv_projection",
        "prev_bn": "adjust_bn",
        "path1_conv": "adjust_conv_1",
        "path2_conv": "adjust_conv_2",
        "final_path_bn": "adjust_bn",
    }
    if place in layers:
        return f"{layers[place]}_{identity}/{weight}"
    part = re.fullmatch(r"comb_iter_(\d+)/(left|right)/(separable|bn_sep)_\dx\d_(\d)", place)
    if not part:
        return name
    block, side, norm, turn = int(part[1]) + 1, part[2], "_bn" if part[3] == "bn_sep" else "", part[4]
    if (kind, block, side) == ("reduction", 5, "left"):
        block = 4  # so it is called there
    return f"separable_conv_{turn}{norm}_{kind}_{side}{block}_{identity}/{weight}"


def load_timm_weights(model, mapping_or_path):
    """Fill a network from the state dict of timm's `nasnetalarge` or `pnasnet5large`.

    timm's `pnasnet5large` gives the same outputs as this package's network everywhere. Its `nasnetalarge` does but for
    one thing: it pads before an average pool of stride 2 and counts the zeros, so in each reduction
    cell the outermost pixels of that pool come out too small, 2/3 of the right value at an edge and 4/9 in a
    corner (at an even size only at the bottom and right). The released weights were trained without that
    fault. Outputs are equal inside, but later cells carry the difference further inwards.

    Args:
        model: a `NASNet` wired as timm's: of the genotype `nasnet_a` with `skip_reduction=True`, or of `pnasnet_5`
            without, with the ImageNet stem, of any size, without an auxiliary head.
        mapping_or_path: `{name: array or tensor}`, or a file: `.safetensors`, `.npz`, or `.pth`
            (`.pt`, `.bin`; needs PyTorch, and only tensors are taken).

    Raises:
        ValueError: a file that cannot be read or is of another format, a tensor without a weight, a weight
            without a tensor, another shape, or a network that computes something else with the same shapes. The
            network is left as it was.

    Examples:
        >>> from nasnet_keras import NASNetLarge, load_timm_weights
        >>> load_timm_weights(NASNetLarge(weights=None), "model.safetensors")  # doctest: +SKIP
    """
    weights = (*slim_variables(model), *CLASSIFIER)
    pnasnet = model.genotype.normal == model.genotype.reduction
    names = {_timm_name(name, pnasnet): name for name in weights}
    _check_wiring(model, "pnasnet_5" if pnasnet else "nasnet_a", skip_reduction=not pnasnet)
    mapping_or_path = expanded(mapping_or_path)
    if str(mapping_or_path).endswith(".npz"):
        mapping_or_path = read_npz(mapping_or_path)
    if hasattr(mapping_or_path, "items"):
        _fill(model, _timm_tensors(mapping_or_path), names)
        return
    try:
        _fill(model, _timm_tensors(_read_state_dict(mapping_or_path)), names)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, EOFError) as error:
        raise ValueError(f"{mapping_or_path}: {_line(error)}") from None


def _timm_name(name, pnasnet):
    for pattern, replacement in (*TIMM_NAMES, *(TIMM_PNASNET_NAMES if pnasnet else ())):
        name = re.sub(pattern, replacement, name)
    return name


def _timm_tensors(tensors):
    """The tensors in Keras' layout: height, width, in, out."""
    prefix = "module." if tensors and all(name.startswith("module.") for name in tensors) else ""
    result = {}
    for name, value in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        value = np.asarray(value.detach().float().cpu() if hasattr(value, "detach") else value)
        if value.ndim == 4:
            value = value.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
        result[name.removeprefix(prefix)] = value.T if value.ndim == 2 else value
    return result


def _check_wiring(model, genotype, skip_reduction):
    """Raise `ValueError` unless a network is wired as another project's: names and shapes do not tell."""
    architecture = model.architecture
    trained = {**USUAL, "genotype": load_genotype(genotype).to_dict(), "skip_reduction": skip_reduction}
    architecture.check_weights_of({**trained, "repeats": architecture.repeats, "filters": 4})  # of any size


def _skips_in_keras(architecture):
    """Whether keras.applications' network of an architecture's size skips; as the architecture where it has none."""
    size = architecture.repeats, architecture.filters, architecture.stem_filters
    for options in (RELEASED["NASNetMobile"], RELEASED["NASNetLarge"]):
        if size == ((options["repeats"],) * 3, options["filters"], options.get("stem_filters", 32)):
            return options.get("skip_reduction", False)
    return architecture.skip_reduction


def _fill(model, tensors, names):
    """Rename and fill; 1001 classes are the 1000 of ImageNet behind a background class."""
    renamed = {names.get(name, name): value for name, value in tensors.items()}
    fill(model, renamed, background=np.shape(renamed.get(CLASSIFIER[1])) == (WITH_BACKGROUND,))


def _read_state_dict(path):
    kind = Path(path).suffix
    if kind == ".safetensors":
        return _read_safetensors(path)
    if kind not in (".pth", ".pt", ".bin"):
        raise ValueError("a state dict must be a mapping, or a .safetensors, .npz, .pth, .pt or .bin file")
    try:
        import torch
    except ImportError:
        raise ValueError(f"{kind} needs PyTorch; without it, save the state dict as .safetensors or .npz") from None
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return dict(tensors.get("state_dict", tensors))
    except OSError:
        raise
    except Exception:  # many kinds; what PyTorch says would advise to read the file unsafely
        raise ValueError("not a state dict of tensors alone, or damaged") from None


def _read_safetensors(path):
    """`{name: array}`, read from the disk when used. The file: a length, JSON with each tensor's place, numbers."""
    content = np.memmap(path, np.uint8, mode="r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < start:
        raise ValueError("not a .safetensors file, or cut short")
    try:
        header = json.loads(content[8:start].tobytes())
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError("not a .safetensors file, or damaged: its header is no JSON object")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        entry = entry if isinstance(entry, dict) else {}
        kind, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2:
            raise ValueError(f"{name[:100]!r} has no shape and place, so the file is damaged")
        if not isinstance(kind, str) or kind not in SAFETENSORS:
            known = ", ".join(SAFETENSORS)
            raise ValueError(f"{name[:100]!r}: dtype must be one of {known}. Received: {reprlib.repr(kind)}")
        dtype, (begin, end) = np.dtype(SAFETENSORS[kind]), place
        if not 0 <= begin <= end <= len(content) - start or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name[:100]!r}: not in the file, which is damaged or cut short")
        tensor = np.frombuffer(content[start + begin : start + end].data, dtype).reshape(shape)
        # bfloat16 is the upper half of a float32.
        tensors[name] = (tensor.astype("<u4") << 16).view("<f4") if kind == "BF16" else tensor
    return tensors


def _are_sizes(values):
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _line(error):
    """An exception in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
