"""Weight files: verified, loaded, and the door for other projects' files."""

import hashlib
import io
import logging
import re
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import keras
import numpy as np
from keras.src.backend.config import keras_home  # where `get_file` puts things; there is no public name for it
from keras.src.saving.saving_lib import H5IOStore, _save_state  # what `save_weights` does; that takes no memory

from nasnet_keras.checks import check_order
from nasnet_keras.files import expanded
from nasnet_keras.weights import index as weight_index
from nasnet_keras.weights.foreign import load_keras_applications_weights, load_timm_weights
from nasnet_keras.weights.graphs import check_layers, layers_of
from nasnet_keras.weights.index import Entry, entries, is_file
from nasnet_keras.weights.keras_files import OWN_LAYERS, check_archive, is_nested, layers_in
from nasnet_keras.weights.slim import load_slim_weights
from nasnet_keras.weights.zoo import (
    check_names,
    holds_network,
    saved_activation,
    saved_layers,
    saved_names,
    saved_network,
)

logger = logging.getLogger(__name__)

HEADS = ("logits", "auxiliary")
CONNECT_SECONDS = 15


def fetch(entry):
    """The verified file on this machine, downloaded into Keras' cache if it lies elsewhere.

    Raises:
        ValueError: no connection (with the place where to put the file by hand), or a wrong hash; a wrong file in the
            cache is fetched anew first.
    """
    if entry.file:
        path = weight_index.folder() / entry.file
        _verify(path, entry.hash)
        return path
    name = entry.url.rsplit("/", 1)[1]
    place = Path(keras_home()) / "models" / name
    algorithm, digest = entry.hash.split(":")
    if not place.exists() or _digest(place, algorithm) != digest:
        _check_connection(entry.url, place)
    try:
        # It keeps a file of this digest, and fetches any other anew; it goes elsewhere where it must not write.
        home = {"cache_dir": str(place.parents[1]), "cache_subdir": "models"}
        return Path(keras.utils.get_file(name, entry.url, file_hash=digest, hash_algorithm=algorithm, **home))
    except Exception as error:  # Keras wraps what urllib raises in a plain Exception
        raise _not_fetched(entry.url, place, error) from None


def _check_connection(url, place):
    """Raise `ValueError` where nothing can be downloaded: Keras would try for minutes."""
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS):
            pass
    except Exception as error:
        raise _not_fetched(url, place, error) from None


def _not_fetched(url, place, error):
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it is an answer of the server's, too
    reason = getattr(error, "reason", None) or (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(
        f"cannot download {url} ({reason}). Put the file at {place}; `weights` may also be none, or a file"
    )


def load(model, weights, layout=None):
    """Fill a `NASNet`. Weights for images of three channels also fill one for another number, by `for_channels`.

    With its classifier, a network without names of its classes gets those that come with the weights, see `take_names`.

    Args:
        model: a `NASNet`.
        weights: an `Entry`; the unique name of one; or a path: this package's `.weights.h5`, `.keras` or `.h5`,
            keras.applications' in the same formats, with whatever head, timm's `.safetensors` or `.pth`, a `.npz` with
            TF-slim names, a TF-slim checkpoint.
        layout: whose layout a file has, as in the index; None to tell from its name.

    Raises:
        ValueError: an unknown name, no such file, a wrong hash, weights that do not fit, or a classifier that a file's
            whole model ends otherwise, or whose classes have the same names in another order.
    """
    if isinstance(weights, Entry):
        weights.check_network(model.architecture.arguments())
        if _classifier(model):
            check_names(weights, model.class_names)
        _load_any_channels(model, fetch(weights), weights.layout)
        _give_names(model, {"class_names": weights.classes})
    elif is_file(weights):
        path = Path(expanded(weights))
        refusal = _other_answer(model, path)
        kept = refusal and model.get_weights()  # what else does not fit is said first
        _load_any_channels(model, path, layout)
        if refusal:
            model.set_weights(kept)
            raise refusal
        take_names(model, path)
    else:
        named = [entry for entry in entries() if entry.name == weights]
        if not named:
            known = ", ".join(entry.name for entry in entries())
            raise ValueError(f"`weights` must be None, an existing file, or one of {known}. Received: {str(weights)!r}")
        load(model, named[0])


def check_file(model, path):
    """Raise `ValueError` where Keras would fill a network in silence from a file of other cells, or of another answer.

    Args:
        model: a `NASNet`.
        path: this package's `.weights.h5`, `.keras` or `.h5`; others are Keras' to refuse.
    """
    check_cells(model, Path(path))
    if refusal := _other_answer(model, Path(path)):
        raise refusal


def take_names(model, path):
    """Give a network without names of its classes those of the whole model in a file that has filled its classifier.

    With them come its thresholds, where both answer alike, and how it reads greys.
    """
    path = Path(path)
    kept = saved_names(path)
    if (last := _classifier(model)) and saved_activation(path) not in (_ends_in(last), None):
        kept.pop("thresholds", None)
    _give_names(model, kept)


def _give_names(model, kept):
    names = kept.get("class_names")
    told = max(model.architecture.classes, 2)  # of one unit there was a single name once
    if names and len(names) == told and _classifier(model) and model.class_names is None:
        for name, value in kept.items():
            if getattr(model, name) is None:
                setattr(model, name, tuple(value))


def _other_answer(model, path):
    """A `ValueError` where a network that gets the classifier of the whole model in a file would answer otherwise.

    By another activation, or by the same names in another order.
    """
    if not (layer := _classifier(model)):
        return None
    try:
        check_order("class_names", model.class_names, saved_names(path).get("class_names"), f"the order of {path}")
    except ValueError as refusal:
        return refusal
    own = _ends_in(layer)
    found = saved_activation(path) if own != "linear" else None
    if not isinstance(found, str) or found in ("linear", own):
        return None
    rule = f"{found!r} or None with the classifier of {path}, which ends so; `load_model` gives that model as it is"
    return ValueError(f"`classifier_activation` must be {rule}. Received: {own!r}")


def _classifier(model):
    """The last layer of a network's classifier, None where it has none."""
    return next((layer for layer in model.layers if layer.name == "predictions"), None)


def _ends_in(layer):
    return getattr(layer.activation, "__name__", "linear")


def for_channels(kernel, channels):
    """A first kernel [height, width, 3, filters] for images of another number of channels.

    For one channel the three are summed: a grey image gets what it got as three equal channels. For n they are
    repeated in their order, cut off after n and scaled by 3 / n, so that the response keeps its size.
    """
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return np.take(kernel, np.arange(channels) % 3, 2) * np.float32(3 / channels)


def fitting(values, layer):
    """The weights of a stem for three channels as its like for another number takes them."""
    return [
        for_channels(value, weight.shape[2])
        if value.ndim == 4 and value.shape[2] == 3 and weight.shape[2] != 3
        else value
        for value, weight in zip(values, layer.weights, strict=True)
    ]


def _load_any_channels(model, path, layout):
    """Fill a network; a file need not have what stands before its input, and may be of one for three channels."""
    try:
        if model.stands_alone:
            _load_file(model, path, layout)
        else:
            _load_around(model, path, layout)
    except ValueError as error:
        *sides, channels = model.architecture.input_shape
        if channels == 3 or _other_front(model, path):
            raise
        source = model.alike(input_shape=(*sides, 3))
        try:
            _load_file(source, path, layout)
        except ValueError:
            raise error from None
        _take(model, source)


def _load_around(model, path, layout):
    """As `_load_file` for a network with others' layers before its input, which a file may have or not."""
    kept = model.get_weights()
    try:
        _load_file(model, path, layout)
    except ValueError:
        model.set_weights(kept)  # some may have been filled
        if _other_front(model, path):
            raise
        source = model.alike()
        _load_file(source, path, layout)
        _take(model, source)


def _other_front(model, path):
    """What a file that does not fit has of others' layers, and this network too: cells learnt behind those of the file.

    A list of names, without the numbers that Keras gives: it counts layers of one kind anew in each process.
    """
    own, others = (
        {re.sub(r"_\d+$", "", name) for name in _foreign(names)} for names in (_names(model), layers_in(path))
    )
    return sorted(own & others)


def _names(model):
    """The names of a model's layers with weights, a set."""
    return {layer.name for layer in model.layers if layer.weights}


def _foreign(names):
    """Those names of layers that no network of this package has, a sorted list."""
    return sorted(name for name in names if name != "drop_path" and not OWN_LAYERS.match(name))


def _take(model, source):
    """Give a network the weights of one of its architecture, but for the channels; others' layers stay as they are."""
    own = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in (layer for layer in model.layers if layer.name in own):
        values = own[layer.name].get_weights()
        layer.set_weights(fitting(values, layer) if layer.name == "stem" else values)


def _load_file(model, path, layout=None):
    if path.suffix == ".keras":
        check_archive(path)
    if layout is None:
        if path.suffix in (".keras", ".h5", ".hdf5"):
            layers = layers_in(path)
            own = "stem" in layers or (not layers and path.name.endswith(".weights.h5")) or holds_network(path)
            layout = "keras" if own else "keras_applications"
        else:
            layout = "timm" if path.suffix in (".safetensors", ".pth", ".pt", ".bin") else "slim"
    if layout == "keras":
        check_cells(model, path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Keras only warns about layers that it leaves unfilled
                keras.Model.load_weights(model, path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reason = str(error).strip().splitlines()[0]
            if front := _other_front(model, path):
                reason = f"before its input is another {', '.join(front[:10])}"
            if front or not _load_part(model, path):
                raise ValueError(f"{path} does not fit the network: {reason}") from None
        else:
            here, there = (set(_foreign(names)) for names in (_names(model), layers_in(path)))
            # Keras says nothing of what it leaves in a file. As many are all taken, by their order, whatever they are
            # called.
            tell_of_others(path, sorted(there - here) if len(there) > len(here) else ())
    elif layout == "keras_applications":
        load_keras_applications_weights(model, path)
    elif layout == "timm":
        load_timm_weights(model, path)
    else:
        load_slim_weights(model, path)


def check_cells(model, path):
    """Raise `ValueError` where a file has cells that a network has not, or its own wired otherwise.

    Keras counts layers of a class and compares shapes: it leaves the first out silently, and takes the second. Weights
    alone do not say how they are wired.
    """
    if saved := saved_network(path):
        model.architecture.check_weights_of(saved)
        return
    check_layers(model, saved_layers(path))
    if not is_nested(path):  # then it is refused anyway, with advice
        _check_left(model, layers_in(path), path)


def _check_left(model, names, received):
    """Raise `ValueError` where cells of these names are none of a network's."""
    cells = {name for name in names if OWN_LAYERS.match(name) and name not in HEADS}
    if left := sorted(cells - {layer.name for layer in model.layers}):
        named = f"{', '.join(left[:10])} {'is' if len(left) == 1 else 'are'} not in it"
        raise ValueError(f"`weights` do not fit the network: {named}. Received: {received}")


def _load_part(model, path):
    """Fill a network from a file whose layers are not just its own, of a whole model; False where there is no such."""
    if path.name.endswith(".weights.h5"):
        if is_nested(path):
            rule = "the whole model, saved as .keras or .h5: weights alone do not tell which network is inside"
            raise ValueError(f"`weights` must be {rule}. Received: {path}")
        return False
    try:
        whole = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        if holds_network(path):
            raise ValueError(f"cannot load {path}: {str(error).strip().splitlines()[0]}") from None
        return False
    network, others = network_in(whole)
    own = {layer.name: layer for layer in network.layers if layer.weights}
    if "stem" not in own:
        return False
    heads = [layer for layer in parts(model) if layer.name in HEADS]
    for layer in heads:
        if layer.name not in own or [w.shape for w in own[layer.name].weights] != [w.shape for w in layer.weights]:
            named = f"another head, {', '.join(others[:10])}" if others else f"no such {layer.name}"
            advice = "build the network with `include_top=False` to take the cells"
            raise ValueError(f"{path} does not fit the network: it has {named}: {advice}")
    copy_cells(network, model)
    for layer in heads:
        layer.set_weights(own[layer.name].get_weights())
    tell_of_others(path, others)
    return True


def network_in(model):
    """The network of this package that a model is or has inside, and what else has weights there.

    Args:
        model: a Keras model.

    Returns:
        (the network; the model itself where there is none, the names of other layers with weights, a sorted list: of a
        model on a network's own graph those that no network has).

    Raises:
        ValueError: there are several networks inside.
    """
    found = {id(one): one for one in _inside(model) if getattr(one, "architecture", None) is not None}
    if len(found) > 1:
        raise ValueError(f"`weights` must be of a model with one NASNet inside. Received: {len(found)} of them")
    network = next(iter(found.values()), model)
    return network, sorted(set(_others(model, network)))


def _inside(layer):
    """A layer or model and what Keras shows inside it, at any depth."""
    yield layer
    for part in (*getattr(layer, "layers", ()), *filter(None, [getattr(layer, "layer", None)])):
        yield from _inside(part)


def _others(model, network):
    """The names of layers with weights in a model that are no part of a network's stem, cells and heads."""
    for layer in model.layers if model is not network or not hasattr(network, "architecture") else ():
        if isinstance(layer, keras.Model):
            yield from () if layer is network else _others(layer, network)
        elif layer.weights and not (model is network and OWN_LAYERS.match(layer.name)):
            yield layer.name


def tell_of_others(path, others):
    """Log which layers beside a network's were left in a file."""
    if others:
        named = f"{', '.join(others[:10])}{' …' * (len(others) > 10)}"
        logger.warning("%s: its cells are taken, and what is not NASNet's is left: %s", path, named)


def copy_cells(source, model, free=()):
    """Give a network the weights of another one's stem and cells; for other channels than its, see `for_channels`.

    Args:
        source, model: the networks.
        free: arguments of which the model may have others than the network that was trained.

    Raises:
        ValueError: naming the first that does not fit.
    """
    trained = getattr(source, "architecture", None)  # which a model of somebody else's has not
    if trained is not None:
        own = model.architecture
        own.check_weights_of(trained.changed(**{name: getattr(own, name) for name in free}))
    else:  # a graph says as much of its cells
        check_layers(model, layers_of(source))
        _check_left(model, _names(source), source.name)
    for layer in parts(model):
        if layer.name in HEADS or not OWN_LAYERS.match(layer.name):
            continue
        try:
            values = source.get_layer(layer.name).get_weights()
            layer.set_weights(fitting(values, layer) if layer.name == "stem" else values)
        except ValueError:
            raise ValueError(
                f"`weights` do not fit the network: {layer.name} has other weights or is not there. "
                "`repeats`, `filters`, `stem` and the genotype must be those that it was trained with"
            ) from None


def parts(model):
    """The layers of a `NASNet` that have weights, from the stem upwards."""
    order = [layer for layer in model.layers if layer.weights]
    return sorted(order, key=lambda layer: layer.name in HEADS)


def _verify(path, expected):
    algorithm, digest = expected.split(":")
    if not path.is_file():
        raise ValueError(f"the weight file {path} is missing")
    if (found := _digest(path, algorithm)) != digest:
        raise ValueError(f"{path} is not the file it should be: its {algorithm} is {found}, not {digest}")


def _digest(path, algorithm):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def weights_file(model):
    """The content of the file that `model.save_weights` writes, optimiser included, as a buffer of bytes."""
    content = io.BytesIO()
    store = H5IOStore(content, mode="w")
    _save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    store.close()
    return content.getbuffer()
