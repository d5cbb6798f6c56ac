"""The tensors in files that Keras writes, by the names of layers, read without running code or making a model.

Three layouts: legacy HDF5 (`.h5`, the weights alone or a whole model), Keras 3's `.weights.h5`, and `.keras`, a ZIP
archive with such a file inside. A model inside a model is looked into.
"""

import io
import re
import zipfile
import zlib
from contextlib import contextmanager

import h5py

from nasnet_keras.files import expanded

MAX_BYTES = 1 << 31  # of the weights in an archive
OWN_LAYERS = re.compile(r"(stem|stem_cell_\d+|cell_\d+|reduction_cell_\d+|logits|auxiliary)$")  # of a `NASNet`
DEPTH = 8  # of models inside models
# What reading a part of an archive raises where its bytes are not those that were written.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
# The weights of a keras.applications layer in the order of the file; only the classifier has a bias.
WEIGHTS = {
    1: ("kernel",),
    2: ("depthwise_kernel", "pointwise_kernel"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


@contextmanager
def keras_tensors(path):
    """A context that gives `{layer/weight: HDF5 dataset}`; nothing is read yet but names and shapes.

    Args:
        path: a `.h5`, `.weights.h5` or `.keras` file.

    Raises:
        ValueError, OSError, KeyError, RuntimeError, TypeError: a file that cannot be read.
    """
    with h5py.File(_content(expanded(path)), "r") as file:
        root = member(file, "model_weights", h5py.Group) if "model_weights" in file else file
        layers = _strings(root, "layer_names")
        if layers is None and "layers" not in file:
            raise ValueError("not a file of weights as Keras writes them")
        yield _native(file) if layers is None else _legacy(root, layers)


def layers_in(path):
    """The names of the layers in a file of Keras; empty for one that cannot be read."""
    try:
        with keras_tensors(path) as tensors:
            return {name.partition("/")[0] for name in tensors}
    except (OSError, KeyError, RuntimeError, TypeError, ValueError):
        return set()


def is_nested(path):
    """Whether the layers in a `.weights.h5` are of a model with another model inside; False if it cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            return any("layers" in member(file, f"layers/{name}", h5py.Group) for name in file["layers"])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError):
        return False


def check_archive(path):
    """Raise `ValueError` where a part of a `.keras` file is damaged; any other file passes.

    Keras reads on where a checksum is wrong: with Python 3.12 and later it would load the damaged numbers.
    """
    path = expanded(path)
    if zipfile.is_zipfile(path):
        with _undamaged(f"cannot load {path}: "), zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                with archive.open(part) as file:
                    while file.read(1 << 20):
                        pass


@contextmanager
def _undamaged(where=""):
    try:
        yield
    except DAMAGED:
        raise ValueError(f"{where}it is damaged") from None


def _content(path):
    """What h5py opens: the path, or the part of an archive."""
    if not zipfile.is_zipfile(path):
        return path
    with _undamaged(), zipfile.ZipFile(path) as archive:
        part = archive.getinfo("model.weights.h5")
        if part.file_size > MAX_BYTES:
            raise ValueError(f"its weights have more than {MAX_BYTES:,} bytes")
        return io.BytesIO(archive.read(part))


def _legacy(root, layers):
    if "top_level_model_weights" in root:
        layers.append("top_level_model_weights")
    tensors = {}
    for layer in layers:
        group = member(root, layer, h5py.Group)
        stored = _strings(group, "weight_names") or []
        inside = {}
        for path in stored:
            inside.setdefault(path.rpartition("/")[0].rpartition("/")[2], []).append(path)
        # A model inside has weights that are called by its layers.
        nested = len(inside) > 1 and not all(path.startswith(f"{layer}/") for path in stored)
        for name, paths in (inside if nested else {layer: stored}).items():
            _name(tensors, name, [member(group, path, h5py.Dataset) for path in paths], paths)
    return tensors


def _native(file):
    tensors = {}

    def walk(group, depth):
        if depth > DEPTH:
            raise ValueError(f"models more than {DEPTH} deep in models")
        for key in group:
            layer = member(group, key, h5py.Group)
            held = member(layer, "vars", h5py.Group) if "vars" in layer else {}
            if len(held):
                name = held.attrs.get("name")
                if not isinstance(name, str):
                    raise ValueError("an older Keras wrote it, without names of layers: save the model anew, as .h5")
                keys = sorted(held, key=lambda number: (len(number), number))
                _name(tensors, name, [member(held, key, h5py.Dataset) for key in keys], keys)
            if "layers" in layer:
                walk(member(layer, "layers", h5py.Group), depth + 1)

    walk(member(file, "layers", h5py.Group), 0)
    return tensors


def _name(tensors, layer, datasets, otherwise):
    """Put a layer's datasets under their names; `otherwise` names those of no layer of keras.applications."""
    known = ("kernel", "bias") if layer == "predictions" else WEIGHTS.get(len(datasets), ())
    for name, dataset in zip(known if len(known) == len(datasets) else otherwise, datasets, strict=True):
        if f"{layer}/{name}" in tensors:
            raise ValueError(f"{layer}: there are two layers of that name")
        tensors[f"{layer}/{name}"] = dataset


def _strings(group, name):
    """A list of names stored as an attribute, which Keras splits where it is long; None where it is absent."""
    values = list(group.attrs.get(name, ()))
    parts = 0
    while f"{name}{parts}" in group.attrs:
        values += list(group.attrs[f"{name}{parts}"])
        parts += 1
    if name not in group.attrs and not parts:
        return None
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def member(group, path, kind):
    """What stands at `path` in the file itself: a link or a dataset could name any other file.

    Raises:
        ValueError: it is not there, or of another kind.
    """
    for name in filter(None, path.split("/")):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: not in the file")
        group = group[name]
    if not isinstance(group, kind):
        raise ValueError(f"{path}: not a {kind.__name__.lower()}")
    if kind is h5py.Dataset and (group.external or group.is_virtual or group.dtype.kind not in "fiu"):
        raise ValueError(f"{path}: must hold numbers in the file itself")
    return group
