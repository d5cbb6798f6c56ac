"""Exported models as folders: their versions, which format goes where, and what each format takes."""

import os
from importlib.util import find_spec
from pathlib import Path

from nasnet_keras.checks import check_integer, check_one_of
from nasnet_keras.files import check_folder, expanded

# The packages that each format needs, which its extra brings.
TARGETS = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",), "openvino": ("openvino",)}
IMAGE_DTYPES = ("float32", "uint8")
# What weights and activations are: `dynamic` has weights in int8 and activations in float32; `int8` has both.
PRECISIONS = {
    "onnx": ("float32", "int8"),
    "litert": ("float32", "float16", "dynamic", "int8"),
    "openvino": ("float32", "int8"),
}
QUANTIZERS = {"openvino": "nncf"}  # packages, and extras of their own, that int8 needs besides
IO = ("float32", "int8", "uint8")
LAYOUTS = ("nhwc", "nchw")
MAX_BATCH = 128  # a whole batch is run and compared


def versions(path):
    """(version, folder) of each SavedModel in a model's folder, the newest first; empty if it cannot be read."""
    found = [(version, folder) for version, folder in _numbered(path) if (folder / "saved_model.pb").is_file()]
    return sorted(found, reverse=True)


def check_versions(path):
    """Raise `ValueError` unless there is a version to serve."""
    path = Path(expanded(path))
    if versions(path):
        return
    where = "no such folder" if not path.is_dir() else "there is none in it"
    if (path / "saved_model.pb").is_file():
        where = "this is a version itself, so give the folder above"
    raise ValueError(
        "`model` must be a folder that `nasnet-keras export` wrote, with versions such as 1/saved_model.pb. "
        f"Received: {path}: {where}"
    )


def check_saved_model(path, version=None, top=5, image_dtype="float32", label="path"):
    """Check the arguments of `export.export_saved_model`; `label` is what `path` was given as.

    Returns:
        The version, or the next free one where it is None.

    Raises:
        ValueError: naming the argument at fault.
    """
    check_one_of("image_dtype", image_dtype, IMAGE_DTYPES)
    check_integer("top", top, least=1)
    check_integer("version", version, least=1, optional=True)
    check_folder(label, path)
    taken = [number for number, _ in _numbered(path)]
    if version in taken:
        raise ValueError(f"`version` {version} of {path} exists already. Leave it out to get the next free one")
    return max(taken, default=0) + 1 if version is None else version


def check_target(
    path, target, batch=None, is_calibrated=False, label="path", *, precision=None, io="float32", layout="nhwc"
):
    """Check the arguments of `targets.export_target`; `label` is what `path` was given as.

    Returns:
        The precision: int8 where it is None and there are calibration images, else float32.

    Raises:
        ValueError: naming the argument at fault.
    """
    check_one_of("target", target, TARGETS)
    precision = precision or ("int8" if is_calibrated else "float32")
    if precision not in PRECISIONS[target]:
        allowed = ", ".join(PRECISIONS[target])
        raise ValueError(f"`precision` must be one of {allowed} for {target}. Received: {precision!r}")
    if (precision == "int8") != is_calibrated:
        rule = "typical images for int8, on which it is measured" if precision == "int8" else "left out but for int8"
        raise ValueError(f"`calibration` must be {rule}. Received: {'some' if is_calibrated else 'none'}")
    check_one_of("io", io, IO)
    if io != "float32" and (target != "litert" or precision != "int8"):
        raise ValueError(f"`io` must be float32 but for litert in int8. Received: {io!r} for {target} in {precision}")
    check_one_of("layout", layout, LAYOUTS)
    if layout != "nhwc" and target != "onnx":
        raise ValueError(f"`layout` must be nhwc but for onnx. Received: {layout!r} for {target}")
    check_integer("batch", batch, least=1, most=MAX_BATCH, optional=True)
    if os.path.lexists(expanded(path)):
        raise ValueError(f"`{label}` must not exist yet. Received: {path}")
    check_folder(label, Path(expanded(path)).absolute().parent)
    return precision


def check_backend(target):
    """Raise `ValueError` where Keras is not on TensorFlow, by which every format is made; loads Keras."""
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        rule = "tensorflow, on which a model that another backend trained loads as well"
        raise ValueError(f"`KERAS_BACKEND` must be {rule}, for the format {target}. Received: {backend!r}")


def check_installed(target, precision="float32"):
    """Raise `ValueError` for the first package that a format lacks, with the line that installs it."""
    needed = [(package, target) for package in TARGETS[target]]
    if precision == "int8" and target in QUANTIZERS:
        needed.append((QUANTIZERS[target], QUANTIZERS[target]))
    for package, extra in needed:
        if find_spec(package) is None:
            raise ValueError(f"`{package}` is not installed: pip install nasnet_keras[{extra}]")


def _numbered(path):
    """(number, entry) of what is named by a number in a folder; nothing if it cannot be read."""
    try:
        names = [child for child in Path(expanded(path)).iterdir() if child.name.isascii() and child.name.isdigit()]
    except OSError:
        return []
    return [(int(child.name), child) for child in names]
