"""The released and the published networks: their names, what weights they have, their sizes beside the papers' figures.

The counts are those of `counting.multiply_adds` and of the trainable weights; a test builds every
network and compares. The papers' figures: Zoph et al. 2018 (arXiv 1707.07012), tables 1 to 3; Liu et
al. 2018 (arXiv 1712.00559), tables 5 and 6.
"""

import io
import logging
import os
import zipfile
import zlib
from pathlib import Path

import rich.table
from rich.console import Console

from nasnet_keras.checks import check_order
from nasnet_keras.files import expanded, parse_object
from nasnet_keras.weights.index import entries, find, is_file

logger = logging.getLogger(__name__)

KEPT = ("class_names", "grey_range", "thresholds")  # of a network beside its graph and weights
MAX_CONFIG = 1 << 26  # bytes
FORMATS = (".keras", ".h5", ".hdf5")  # of whole models
IMAGENET_CLASSES = Path(__file__).with_name("imagenet_classes.tsv")
# The factories of `applications`, and the weights that they take by default.
DEFAULT_WEIGHTS = {
    "NASNetMobile": "imagenet",
    "NASNetLarge": "imagenet",
    "NASNetCIFAR": "cifar10",
    "PNASNetLarge": None,
    "PNASNetMobile": None,
}
COLUMNS = ("model", "notation", "image", "parameters", "multiply_adds")
COLUMNS += ("paper_parameters", "paper_multiply_adds", "paper_accuracy", "note")
WIDTH = 400  # of the printed table: as wide as it wants
UNLIKE = "the released wiring does not give the paper's size"
ROWS = (
    ("NASNetMobile()", "4 @ 1056", 224, 5_289_978, 563_638_816, "5.3M", "564M", "ImageNet 74.0 / 91.6", ""),
    ("NASNetLarge()", "6 @ 4032", 331, 88_753_150, 23_783_414_658, "88.9M", "23.8B", "ImageNet 82.7 / 96.2", ""),
    ("NASNetCIFAR(weights=None)", "6 @ 768", 32, 3_346_538, 544_333_312, "3.3M", "", "CIFAR-10 97.35", ""),
    ("NASNetCIFAR(repeats=2, filters=16)", "2 @ 384", 32, 363_194, 65_761_024, "", "", "", "trained by this project"),
    ("PNASNetLarge()", "4 @ 4320", 331, 86_057_668, 24_937_395_792, "86.1M", "25.0B", "ImageNet 82.9 / 96.2", ""),
    ("PNASNetMobile()", "3 @ 1080", 224, 5_064_487, 587_293_200, "5.1M", "588M", "ImageNet 74.2 / 91.9", ""),
    (
        "NASNetCIFAR(weights=None, repeats=7, filters=96)",
        "7 @ 2304",
        32,
        32_590_954,
        5_151_250_944,
        "27.6M",
        "",
        "CIFAR-10 97.60",
        UNLIKE,
    ),
    (
        "NASNetLarge(weights=None, input_shape=(299, 299, 3), repeats=7, filters=80, skip_reduction=False)",
        "7 @ 1920",
        299,
        24_613_292,
        5_373_739_132,
        "22.6M",
        "4.93B",
        "ImageNet 80.8 / 95.3",
        UNLIKE,
    ),
    (
        "NASNetLarge(weights=None, input_shape=(299, 299, 3), repeats=5, filters=64, skip_reduction=False)",
        "5 @ 1538",
        299,
        12_263_416,
        2_686_417_584,
        "10.9M",
        "2.35B",
        "ImageNet 78.6 / 94.2",
        f"{UNLIKE}, and no F gives P = 1538: counted with 1536",
    ),
)


class Table(list):
    """A list of dicts that prints as a table, in a terminal and in a notebook."""

    def __str__(self):
        """Aligned columns."""
        table = rich.table.Table(*self[0], box=None, pad_edge=False)
        for row in self:
            table.add_row(*map(_text, row.values()))
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        console.print(table)
        return "\n".join(line.rstrip() for line in console.export_text(styles=False).splitlines())

    __repr__ = __str__

    def _repr_html_(self):
        rows = [list(self[0]), *([_text(value) for value in row.values()] for row in self)]
        return (
            "<table>" + "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in rows) + "</table>"
        )


def list_models():
    """The networks of the zoo as a `Table`: a list of dicts with sizes, known weights and the papers' figures.

    Keys: `model` (how to build it), `notation` (N @ P), `image` (side in pixels), `parameters` (trainable) and
    `multiply_adds` as counted here, `paper_parameters`, `paper_multiply_adds`, `paper_accuracy` (percent; for
    ImageNet top-1 / top-5), `note`, and `weights` (names that `weights=` takes).

    Examples:
        >>> from nasnet_keras import list_models
        >>> [row["notation"] for row in list_models()][:1]
        ['4 @ 1056']
    """
    known = {}
    for entry in entries():
        options = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
        known.setdefault(f"{entry.model}({options})", set()).add(entry.weights)
    table = Table()
    for row in ROWS:
        table.append({**dict(zip(COLUMNS, row, strict=True)), "weights": tuple(sorted(known.get(row[0], ())))})
    return table


def zoo_name(value):
    """The name of a factory that a value is, or None: a `Path` is the path of a model even where it is called so."""
    return value if isinstance(value, str) and value in DEFAULT_WEIGHTS else None


def tell_of_namesake(name):
    """Log that a model lies in a folder that is called as a factory is, and is not the one that is meant."""
    if where := _namesake(name):
        logger.warning("%s is taken for the zoo's network%s", name, where)


def _namesake(name):
    there = os.path.exists(Path(name) / "model.keras")
    return f"; the model in the folder of that name is .{os.sep}{name}" if there else ""


def model_file(name_or_path, label="model"):
    """The `.keras` or `.h5` file of a model that is given by a path, or None for a name of the zoo.

    Args:
        name_or_path: as for `applications.load_model`.
        label: the argument that it was given as.

    Raises:
        ValueError: neither a name nor a model.
    """
    if zoo_name(name_or_path):
        return None
    path = Path(expanded(name_or_path))
    is_export = path.is_dir() and any(next(path.glob(f"{one}saved_model.pb"), None) for one in ("", "[0-9]*/"))
    path = path / "model.keras" if path.is_dir() else path
    if path.suffix in FORMATS and path.is_file():
        _config(path)
        return path
    received = f"{str(name_or_path)!r}" + ", a path" * (str(name_or_path) in DEFAULT_WEIGHTS)
    if is_export:
        received += ", an export: `serve` answers with it, here the directory is wanted that its training left"
    raise ValueError(
        f"`{label}` must be a directory with a model.keras, a .keras or .h5 file of a model, or one of "
        f"{', '.join(DEFAULT_WEIGHTS)}. Received: {received}"
    )


def check_trained(name_or_path):
    """Raise `ValueError` for a name of the zoo without weights: such a network could only guess."""
    if (name := zoo_name(name_or_path)) and DEFAULT_WEIGHTS[name] is None:
        having = ", ".join(one for one, weights in DEFAULT_WEIGHTS.items() if weights)
        raise ValueError(
            "`model` must be a trained one, and the index has no weights of this: train it (finetune takes it with "
            f"`weights` none), or take {having}. Received: {name!r}{_namesake(name)}"
        )


def known_classes(name_or_path):
    """The names of a model's classes as far as they can be told without loading it, or None.

    Args:
        name_or_path: as for `applications.load_model`.

    Raises:
        ValueError: neither a name nor a model.
    """
    path = model_file(name_or_path)
    if path is None:
        weights = DEFAULT_WEIGHTS[name_or_path]
        return weights and find(weights, name_or_path).classes
    names = next(_arguments(path, "class_names", lambda layers: layers[-1:]), None)  # whose answer is passed on
    return _texts(names)  # what else is wrong is for those to say who load it


def imagenet_classes():
    """ImageNet's 1,000 classes in the order of the released weights: (WordNet id, name) pairs."""
    return [tuple(line.split("\t")) for line in IMAGENET_CLASSES.read_text(encoding="utf-8").splitlines()]


def check_names(entry, names):
    """Raise `ValueError` where names of classes are those of a file of the index in another order.

    Args:
        entry: an `Entry`; one of 1,000 classes without names is of ImageNet's, by WordNet ids or names.
        names: a name for each class, or None.
    """
    order = f"the order of the weights {entry.weights!r}"
    if entry.classes:
        check_order("class_names", names, entry.classes, order)
    elif entry.outputs == 1000:
        check_imagenet_order(names, order)


def check_imagenet_order(names, order):
    """Raise `ValueError` where names of classes are ImageNet's, or their WordNet ids, in another order.

    Args:
        names: a name for each class, or None.
        order: what the right one is called, as for `checks.check_order`.
    """
    for known in zip(*imagenet_classes(), strict=True):
        check_order("class_names", names, known, order)


def imagenet_names(name_or_path, classes):
    """ImageNet's classes as data call some of them, by WordNet ids or names, for a network of the zoo that tells these.

    Args:
        name_or_path: as for `applications.load_model`.
        classes: the names of the data's classes.

    Returns:
        1,000 different names, or None: another model, or other classes. A name that two classes have is neither's.
    """
    name = zoo_name(name_or_path)
    weights = name and DEFAULT_WEIGHTS[name]
    entry = weights and find(weights, name)
    if not entry or entry.classes is not None or entry.outputs != 1000:
        return None
    ids, words = zip(*imagenet_classes(), strict=True)
    words = tuple(word if words.count(word) == 1 else key for key, word in zip(ids, words, strict=True))
    return next((names for names in (ids, words) if set(classes) <= set(names)), None)


def known_grey_range(name_or_path):
    """The `grey_range` that a model keeps, as a tuple, without loading it, or None.

    Args:
        name_or_path: as for `applications.load_model`.

    Raises:
        ValueError: neither a name nor a model.
    """
    path = model_file(name_or_path)
    value = None if path is None else next(_arguments(path, "grey_range", lambda layers: layers), None)
    return tuple(value) if isinstance(value, list) else None  # likewise


def saved_network(path):
    """What a file of a whole `NASNet` says of its architecture, a dict; None for another model, or weights alone."""
    try:
        config = _config(path).get("config")
    except ValueError:
        return None
    return config if isinstance(config, dict) and isinstance(config.get("genotype"), dict) else None


def saved_layers(path):
    """Keras' descriptions of the layers in a file of a whole model, and of those in models in it, a list of dicts."""
    try:
        found = [layer for config in _configs(path) for layer in config.get("layers") or ()]
    except (ValueError, TypeError):
        return []
    return [layer for layer in found if isinstance(layer, dict)]


def holds_network(path):
    """Whether a file is of a whole model that is a `NASNet` or has one inside, at any depth."""
    try:
        return any(isinstance(found, dict) for found in _arguments(path, "genotype", lambda layers: layers))
    except ValueError:
        return False


def saved_activation(path):
    """The name of what the classifier in a file of a whole model ends in; None of logits, or where no file says it."""
    try:
        for config in _configs(path):
            if config.get("name") == "predictions" and "layers" not in config:  # in a graph, or keras.applications'
                return config.get("activation")
            if config.get("include_top") and not config.get("feature_pyramid"):
                return config.get("classifier_activation")
    except ValueError:
        pass
    return None


def saved_names(path):
    """What a file of a whole model keeps of its network's classes, a dict; empty where it names none.

    Its keys are `class_names`, and where the network has them `thresholds` and `grey_range`.
    """
    try:
        found = {name: next(_arguments(path, name, list), None) for name in KEPT}
    except ValueError:
        return {}
    found["class_names"] = _texts(found["class_names"])
    return {name: value for name, value in found.items() if value is not None} if found["class_names"] else {}


def saved_kinds(path):
    """How the cells in a file of a whole model, or in a directory's, are bounded and pool, where that is not usual.

    Arguments of a network, a dict.
    """
    path = Path(expanded(path))
    file = path / "model.keras" if path.is_dir() else path
    try:
        options = [one for config in _configs(file) for one in (config, config.get("options"))]
    except (ValueError, TypeError):
        return {}
    unusual = (("bounded_activations", True), ("pooling_compatibility", "keras"))
    options = [one for one in options if isinstance(one, dict)]
    return {name: value for name, value in unusual if any(one.get(name) == value for one in options)}


def _texts(names):
    """A list of names as texts, of which earlier versions kept numbers as they were; None of anything else."""
    fine = isinstance(names, list) and all(isinstance(name, str) or type(name) is int for name in names)
    return [str(name) for name in names] if fine else None


def _arguments(path, name, within):
    """What a saved model and the models in it were made with; `within` are those of a list of layers to look at."""
    for config in _configs(path, within):
        kept = config.get("kept")
        places = [config, kept if isinstance(kept, dict) else {}]
        yield from (place[name] for place in places if place.get(name) is not None)


def _configs(path, within=list):
    """The descriptions of a saved model and of the layers in it, the outer before the inner."""
    waiting = [_config(path)]
    while waiting:
        config = waiting.pop(0)
        config = config.get("config") if isinstance(config, dict) else None
        if isinstance(config, dict):
            yield config
            layers = config.get("layers")
            waiting += within(layers if isinstance(layers, list) else [])


def _config(path):
    """The description in a file as Keras writes them; raises `ValueError` for another file."""
    try:
        if path.suffix != ".keras":
            return _legacy_config(path)
        with zipfile.ZipFile(path) as archive:
            parts = {part.filename: part.file_size for part in archive.infolist()}
            if {"metadata.json", "model.weights.h5"} <= set(parts) and parts["config.json"] <= MAX_CONFIG:
                return parse_object(archive.read("config.json"), "its config.json")
            reason = "it is not a file that Keras has saved"
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
    raise ValueError(f"cannot load {path}: {reason}")


def _legacy_config(path):
    import h5py  # takes a moment, and few files need it

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        if text is None:
            raise ValueError("it holds weights and no model")
        return parse_object(text.encode() if isinstance(text, str) else bytes(text), "its model_config")


def paths_of(model, weights="auto"):
    """What of a model and the weights that a training starts from are paths, and no names or networks, a list."""
    named = isinstance(model, str | os.PathLike) and not zoo_name(model)
    return [model] * named + ([Path(expanded(weights))] if is_file(weights) else [])


def starting_weights(model, weights="auto", changes=None):
    """What a network that is to be used again begins with.

    Args:
        model: the name of a factory; anything else means a network that exists already.
        weights: as for `transfer.fine_tune`.
        changes: arguments of the factory.

    Returns:
        A name of the index, a file, `"auto"` (those that the network has) or `"none"`.

    Raises:
        ValueError: naming the argument at fault.
    """
    if not isinstance(weights, str | os.PathLike):
        raise ValueError(f"`weights` must be auto, none, a name or a file. Received: {weights!r}")
    is_name = str(weights) not in ("auto", "none") and not is_file(weights)
    if is_file(weights) and (Path(expanded(weights)).is_dir() or Path(weights).suffix == ".keras"):
        model_file(Path(expanded(weights)), "weights")
    if not zoo_name(model):
        for change in changes or ():
            raise ValueError(f"`{change}` means nothing for a network that exists already: leave it out")
        if is_name:
            raise ValueError(f"`weights` must be auto, none or a file here. Received: {weights!r}")
        return weights
    if weights == "auto":
        weights, is_name = DEFAULT_WEIGHTS[model], True
        if weights is None:
            raise ValueError(f"`weights` must be 'none' or a file: there are none of {model} in the index")
    if is_name:
        find(weights, model, include_top=False).check_options(changes or {})
    return weights


def _text(value):
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
