"""What a command leaves beside a trained model for people: a card, README.md, and its learning curves.

Neither takes the place of a file that is somebody else's: then it has another name, which is told.
"""

import math
import shlex
from dataclasses import asdict
from pathlib import Path

import keras

from nasnet_keras.commands.terminal import percent, tell
from nasnet_keras.data.left_out import shown
from nasnet_keras.files import write_atomically
from nasnet_keras.pictures.learning import learning_curves_svg
from nasnet_keras.training.figures import MEASURES, judged
from nasnet_keras.training.identity import HISTORY, best_of, histories

# By which names each may go, and what it has had in all versions: by this a file is known to be ours.
CARD, CARD_MARK = ("README.md", "MODEL.md"), "An image classifier, a NASNet trained by `nasnet-keras`."
CURVES, CURVES_MARK = ("curves.svg", "learning_curves.svg"), 'aria-label="Training of '
NAMED = 40  # classes that are named, of more


def write_card(options, model, data, recipe, figures, patience=None):
    """Write the card and the picture into the directory that a command has trained in.

    Args:
        options: the command's, with `directory`, `words`, `seed` and `dtype`.
        model: the trained `NASNet`.
        data: the `Data` that it was trained on.
        recipe: the `Recipe`.
        figures: those of the test split, as `fitting.evaluate` gives them.
        patience: that of the training.
    """
    directory, epochs, best = Path(options.directory), [], 0
    for phase, since in histories(options.directory):
        best = len(epochs) + best_of(phase, patience, since)
        epochs += phase
    name = directory.resolve().name
    picture = learning_curves_svg(epochs, f"Training of {name}", best if patience else None)
    curves = _write(directory, CURVES, CURVES_MARK, picture)
    card = _card(options, name, model, data, recipe, figures, curves, epochs, best)
    _write(directory, CARD, CARD_MARK, card)


def _write(directory, names, mark, text):
    """Write a text under the first name at which nothing of somebody else's lies; gives the name, None for none."""
    name = next((name for name in names if _is_ours(directory / name, mark)), None)
    if name != names[0]:
        what = f"{name} is written instead" if name else f"nor {names[1]}, so neither is written"
        tell(f"{directory / names[0]} was not left by a training and stays: {what}")
    if name:
        write_atomically(directory / name, text.encode("utf-8", "backslashreplace"))
    return name


def _is_ours(path, mark):
    """Whether a file may be replaced: it has the mark of ours, or there is none."""
    try:
        return mark.encode() in path.read_bytes()
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:  # a folder, say
        return False


def _card(options, name, model, data, recipe, figures, curves, epochs, best):
    architecture = model.architecture
    genotype, epoch = architecture.genotype, epochs[best - 1]
    accuracy = epoch.get("val_predictions_accuracy", epoch.get("val_accuracy"))
    rows = []
    if accuracy is not None:  # the loss of the history is what is minimised: smoothed, with L2 and the other head
        rows.append(("validation", len(data.validation), accuracy, None))
    measure, value = judged(figures)
    rows += [("test", figures["images"], value, figures["loss"])]
    network = {
        "genotype": f"{genotype.name or 'unnamed'}, digest {genotype.digest}",
        "normal cells": " + ".join(map(str, architecture.repeats)),
        "filters": architecture.filters,
        "stem": architecture.stem,
        "images": " × ".join("any" if side is None else str(side) for side in architecture.input_shape),
        "parameters": f"{model.count_params():,}",
    }
    sizes = {part: f"{len(getattr(data, part)):,}" for part in ("train", "validation", "test")}
    classes = [shown(label) for label in data.class_names]
    listed = ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")
    source = {
        "data": shown(Path(str(data.name)).name),
        "digest of the images": data.digest or "none: it is known by its name",
        "images": ", ".join(f"{count} {part}" for part, count in sizes.items()),
        f"{len(classes)} classes": listed,
    }
    learnt = {"epochs": f"{epoch['epoch']} of {epochs[-1]['epoch']}" if best < len(epochs) else epoch["epoch"]}
    learnt |= {"recipe": options.recipe, **asdict(recipe), "seed": options.seed, "dtype": options.dtype}
    parts = [
        f"# {_plain(name)}",
        f"{CARD_MARK} Files: `model.keras` is the network, `{curves or HISTORY}` its training, "
        "`data.json` which images were held out.",
        "## Figures",
        _table(("images", "number", MEASURES[measure], "loss"), [_row(*row) for row in rows]),
        "The validation images were watched while it was trained"
        + (", and decided which epoch's weights count" if best < len(epochs) else "")
        + "; the test images were not.",
        *([f"![loss and accuracy over the epochs]({curves})"] if curves else []),
        "## Use",
        _code(f"nasnet-keras predict --model {shlex.quote(name)} IMAGE..."),
        "## Network",
        _table(("", ""), network.items()),
        "## Data",
        _table(("", ""), source.items()),
        "## Recipe",
        _table(("", ""), learnt.items()),
        "## Command",
        _code(shlex.join(["nasnet-keras", *options.words])),
        f"Keras {keras.__version__} on {keras.backend.backend()}.",
    ]
    return "\n\n".join(parts) + "\n"


def _row(part, count, accuracy, loss):
    return part, f"{count:,}", percent(accuracy), "—" if loss is None or not math.isfinite(loss) else f"{loss:.4f}"


def _table(head, rows):
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(str(cell)) for cell in line) + " |" for line in lines)


def _code(text):
    return "\n".join("    " + line for line in text.splitlines())


def _plain(text):
    """A text that Markdown shows as it is, in one line."""
    text = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
    return " ".join(text.split())
