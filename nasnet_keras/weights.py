"""Weight files: the index of all that are known, verified loading, and the door for other projects' files.

`weights/index.json` lists every file, here or elsewhere, with hash, source, licence, metric and
command; its README explains the keys.
"""

import hashlib
import json
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
from keras.src.backend.config import keras_home  # where `get_file` puts things; there is no public name for it

from nasnet_keras.converters import load_slim_weights
from nasnet_keras.foreign import load_keras_applications_weights, load_timm_weights

FORMAT = "nasnet-weights/1"
CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Entry:
    """One weight file of the index; the keys are those of `weights/README.md`."""

    name: str
    weights: str
    model: str
    include_top: bool
    genotype: str
    options: dict
    layout: str
    hash: str
    size: int | None
    metric: dict | None
    preprocessing: str
    classes: list | None
    source: str
    licence: str
    command: str | None
    curve: list | None
    outputs: int
    file: str | None = None
    url: str | None = None

    def path(self):
        """The verified file on this machine, downloaded into Keras' cache if it lies elsewhere.

        Raises:
            ValueError: no connection (with the place where to put the file by hand), or a wrong hash.
        """
        if self.file:
            path = folder() / self.file
            _verify(path, self.hash)
            return path
        name = self.url.rsplit("/", 1)[1]
        place = Path(keras_home()) / "models" / name
        if place.exists():
            _verify(place, self.hash)
            return place
        try:
            with urllib.request.urlopen(self.url, timeout=CONNECT_SECONDS):
                pass
            keras.utils.get_file(name, self.url, cache_subdir="models")
        except Exception as error:  # Keras wraps what urllib raises in a plain Exception
            reason = getattr(error, "reason", None) or str(error).strip().splitlines()[0]
            raise ValueError(
                f"cannot download {self.url} ({reason}). Put the file at {place}, or pass `weights=None` or a file"
            ) from None
        _verify(place, self.hash)
        return place


def folder():
    """The folder with the index: in a checkout `weights/`, installed `nasnet_keras/weights_files/`."""
    here = Path(__file__).parent
    installed = here / "weights_files"
    return installed if installed.is_dir() else here.parent / "weights"


def entries():
    """All `Entry`s of the index."""
    path = folder() / "index.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format") != FORMAT:
        raise ValueError(f"{path}: `format` must be {FORMAT!r}. Received: {data.get('format')!r}")
    return [Entry(**entry) for entry in data["weights"]]


def find(weights, model, include_top=True):
    """The `Entry` for `weights` of a model, for instance `("imagenet", "NASNetMobile")`.

    A network without a classifier takes the file without one, or else the file with one.

    Raises:
        ValueError: naming what there is.
    """
    fitting = [entry for entry in entries() if entry.model == model]
    named = [entry for entry in fitting if entry.weights == weights or entry.name == weights]
    for top in (include_top, True):
        for entry in named:
            if entry.include_top == top:
                return entry
    known = ", ".join(sorted({repr(entry.weights) for entry in fitting})) or "none yet"
    raise ValueError(f"`weights` of {model} must be None, a file, or one of: {known}. Received: {weights!r}")


def is_file(weights):
    """Whether `weights` means a file (or a checkpoint's prefix) and not a name of the index."""
    return Path(weights).exists() or Path(f"{weights}.index").exists()


def load(model, weights, layout=None):
    """Fill a `NASNet`.

    Args:
        model: a `NASNet`.
        weights: an `Entry`; the unique name of one; or a path: this package's `.weights.h5`, keras.applications'
            `.h5`, timm's `.safetensors` or `.pth`, a `.npz` with TF-slim names, a TF-slim checkpoint.
        layout: whose layout a file has, as in the index; None to tell from its name.

    Raises:
        ValueError: an unknown name, no such file, a wrong hash, or weights that do not fit.
    """
    if isinstance(weights, Entry):
        _load_file(model, weights.path(), weights.layout)
    elif is_file(weights):
        _load_file(model, Path(weights), layout)
    else:
        named = [entry for entry in entries() if entry.name == str(weights)]
        if not named:
            known = ", ".join(entry.name for entry in entries())
            raise ValueError(f"`weights` must be None, an existing file, or one of {known}. Received: {str(weights)!r}")
        load(model, named[0])


def _load_file(model, path, layout=None):
    if layout is None:
        layout = "keras" if path.name.endswith(".weights.h5") else None
        layout = layout or {".h5": "keras_applications", ".safetensors": "timm", ".pth": "timm"}.get(
            path.suffix, "slim"
        )
    if layout == "keras":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Keras only warns about layers that it leaves unfilled
                model.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise ValueError(f"{path} does not fit the network: {str(error).strip().splitlines()[0]}") from None
    elif layout == "keras_applications":
        load_keras_applications_weights(model, path)
    elif layout == "timm":
        load_timm_weights(model, path)
    else:
        load_slim_weights(model, path)


def _verify(path, expected):
    algorithm, digest = expected.split(":")
    if not path.is_file():
        raise ValueError(f"the weight file {path} is missing")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != digest:
        raise ValueError(f"{path} is not the file it should be: its {algorithm} is {found}, not {digest}")
