"""Exported models as folders: their versions, which format goes where, and what each format takes."""

import os
from importlib.util import find_spec
from pathlib import Path

from nasnet_keras.checks import check_integer, check_one_of
from nasnet_keras.files import check_folder, expanded

# The packages that each format needs, which its extra brings.
TARGETS = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",), "openvino": ("openvino",)}
IMAGE_DTYPES = ("float32", "uint8")
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


def check_target(path, target, batch=None, is_calibrated=False, label="path"):
    """Check the arguments of `targets.export_target`; `label` is what `path` was given as.

    Raises:
        ValueError: naming the argument at fault.
    """
    check_one_of("target", target, TARGETS)
    if is_calibrated and target != "litert":
        raise ValueError(f"`calibration` must be None for {target}: only LiteRT quantises here")
    check_integer("batch", batch, least=1, most=MAX_BATCH, optional=True)
    if os.path.lexists(expanded(path)):
        raise ValueError(f"`{label}` must not exist yet. Received: {path}")
    check_folder(label, Path(expanded(path)).absolute().parent)


def check_installed(target):
    """Raise `ValueError` for the first package that a format lacks, with the line that installs it."""
    for package in TARGETS[target]:
        if find_spec(package) is None:
            raise ValueError(f"`{package}` is not installed: pip install nasnet_keras[{target}]")


def _numbered(path):
    """(number, entry) of what is named by a number in a folder; nothing if it cannot be read."""
    try:
        names = [child for child in Path(expanded(path)).iterdir() if child.name.isascii() and child.name.isdigit()]
    except OSError:
        return []
    return [(int(child.name), child) for child in names]
