"""The index of all weight files that are known.

`weights/index.json` lists every file, here or elsewhere, with hash, source, licence, metric and
command; its README explains the keys.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nasnet_keras.files import expanded
from nasnet_keras.genotype import load_genotype

FORMAT = "nasnet-weights/1"
NO_FILES = ("auto", "none")  # what else weights may be
# The networks of the factories in `applications`, as far as they are not as usual; `size` is that of their images.
RELEASED = {
    "NASNetMobile": {"repeats": 4, "filters": 44},
    "NASNetLarge": {"repeats": 6, "filters": 168, "stem_filters": 96, "skip_reduction": True, "size": 331},
    "NASNetCIFAR": {"repeats": 6, "filters": 32, "stem": "cifar", "size": 32},
    "PNASNetLarge": {
        "genotype": "pnasnet_5",
        "repeats": (4, 3, 3),
        "filters": 216,
        "stem_filters": 96,
        "size": 331,
    },
    "PNASNetMobile": {"genotype": "pnasnet_5", "repeats": (3, 2, 2), "filters": 54},
}
# What decides what weights compute, see `program.architecture.WIRING`, and what it is where nothing is said.
USUAL = {"genotype": "nasnet_a", "repeats": None, "stem": "imagenet", "skip_reduction": False}
USUAL |= {"batch_norm_epsilon": None, "bounded_activations": False}


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

    def check_network(self, arguments):
        """Raise `ValueError` unless the weights compute in a network what they do in their own: shapes do not tell.

        Args:
            arguments: those of the network, as `program.architecture.Architecture.arguments` gives them.
        """
        wanted = {**USUAL, **RELEASED.get(self.model, {}), "genotype": self.genotype, **self.options}
        given = {**arguments, "genotype": arguments["genotype"].digest}
        for option, value in ((name, wanted[name]) for name in USUAL):
            if given[option] != (load_genotype(value).digest if option == "genotype" else value):
                raise ValueError(
                    f"`{option}` must be {value!r} with the weights {self.weights!r}; with none it may be any. "
                    f"Received: {given[option]!r}"
                )

    def check_options(self, options):
        """Raise `ValueError` if the weights are of a network with another one of these arguments."""

        def differs(value, given):  # one number stands for each of three stacks
            return given != value and not (isinstance(given, list | tuple) and list(given) == [value] * 3)

        for option in sorted(name for name, value in self.options.items() if differs(value, options.get(name, value))):
            raise ValueError(
                f"`{option}` must be {self.options[option]} with the weights {self.weights!r}; with none it may be "
                f"any. Received: {options[option]!r}"
            )


def folder():
    """The folder with the index: in a checkout `weights/`, installed `nasnet_keras/weights_files/`."""
    here = Path(__file__).parents[1]
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
    raise ValueError(
        f"`weights` of {model} must be None (`none` in fine-tuning), a file, or one of: {known}. Received: {weights!r}"
    )


def is_file(weights):
    """Whether `weights` means a file (or a checkpoint's prefix) and not a name of the index, even beside such a one."""
    names = {"", *NO_FILES, *(name for entry in entries() for name in (entry.name, entry.weights))}
    if not isinstance(weights, str | os.PathLike) or weights in names:
        return False
    path = Path(expanded(weights))
    return path.exists() or Path(f"{path}.index").exists()
