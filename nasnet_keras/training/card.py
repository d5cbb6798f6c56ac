"""What lies beside a trained model for people: a card, README.md, and its learning curves.

Neither takes the place of a file that is somebody else's: then it has another name, which is told.
"""

import logging
import math
import shlex
from dataclasses import asdict
from pathlib import Path

import keras

from nasnet_keras.data.left_out import shown
from nasnet_keras.data.records import FILE
from nasnet_keras.files import write_atomically
from nasnet_keras.pictures.learning import learning_curves_svg
from nasnet_keras.training.figures import MEASURES, judged
from nasnet_keras.training.identity import HISTORY, MODEL, best_of, histories

logger = logging.getLogger(__name__)

# By which names each may go, and what it has had in all versions: by this a file is known to be ours.
CARD, CARD_MARK = ("README.md", "MODEL.md"), "An image classifier, a NASNet trained by `nasnet-keras`."
CURVES, CURVES_MARK = ("curves.svg", "learning_curves.svg"), 'aria-label="Training of '
WATCHED = "were watched while it was trained"
NAMED = 40  # classes that are named, of more


def write_card(
    directory, model, data, recipe, settings, *, figures=None, patience=None, words=None, history=None, watched=WATCHED
):
    """Write the card into the directory of a trained model, and the picture, as far as there are epochs.

    Args:
        directory: a path.
        model: the trained `NASNet`.
        data: the `Data` that it was trained on.
        recipe: the `Recipe`.
        settings: what else the training had, a dict, such as its `seed`.
        figures: what was measured, `{"test": …}`, and of `"validation"`, as `fitting.evaluate` gives them.
        patience: that of the training.
        words: of the command, if it was one: only such data have a name.
        history: the folder with the epochs, if that is another one.
        watched: what was done with the validation images, in words.
    """
    directory, epochs, best = Path(directory), [], 0
    for phase, since in histories(history or directory):
        best = len(epochs) + best_of(phase, patience, since)
        epochs += phase
    if not (epochs or figures):
        return
    name, curves = directory.resolve().name, None
    if epochs:
        picture = learning_curves_svg(epochs, f"Training of {name}", best if patience else None)
        curves = _write(directory, CURVES, CURVES_MARK, picture)
    files = {MODEL: "is the network", curves or HISTORY: "its training", FILE: "which images were held out"}
    files = [f"`{file}` {what}" for file, what in files.items() if file == MODEL or (directory / file).exists()]
    head = [f"# {_plain(name)}", f"{CARD_MARK} Files: {', '.join(files)}."]
    picture = [f"![loss and accuracy over the epochs]({curves})"] if curves else []
    use = ["## Use", _code(f"nasnet-keras predict --model {shlex.quote(name)} IMAGE...")]
    command = ["## Command", _code(shlex.join(["nasnet-keras", *words]))] if words else []
    parts = [
        *head,
        *_figures(data, figures or {}, epochs, best, watched),
        *picture,
        *use,
        "## Network",
        _network(model),
    ]
    parts += ["## Data", _data(data, bool(words)), "## Recipe", _recipe(recipe, settings, epochs, best), *command]
    parts.append(f"Keras {keras.__version__} on {keras.backend.backend()}.")
    _write(directory, CARD, CARD_MARK, "\n\n".join(parts) + "\n")


def _write(directory, names, mark, text):
    """Write a text under the first name at which nothing of somebody else's lies; gives the name, None for none."""
    name = next((name for name in names if _is_ours(directory / name, mark)), None)
    if name is None or (name != names[0] and not (directory / name).exists()):
        what = f"{name} is written instead" if name else f"so does {names[1]}, and none is written"
        logger.warning("%s was not left by a training and stays: %s", directory / names[0], what)
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


def _figures(data, figures, epochs, best, watched):
    """How good it is, and what that was measured on; nothing where nothing was."""
    epoch, rows, measure, said = epochs[best - 1] if epochs else {}, [], "accuracy", []
    accuracy = epoch.get("val_predictions_accuracy", epoch.get("val_accuracy"))
    if accuracy is not None:  # the loss of the history is what is minimised: smoothed, with L2 and the other head
        rows.append(_row("validation", len(data.validation), accuracy, None))
    for part, found in figures.items():
        measure, value = judged(found)
        rows.append(_row(part, found["images"], value, found["loss"]))
    if len(data.validation):
        decided = ", and decided which epoch's weights count" * (best < len(epochs))
        said.append(f"The validation images {watched}{decided}")
    said += ["the test images were not"] if "test" in figures else []
    if not rows:
        return []
    return [
        "## Figures",
        _table(("images", "number", MEASURES[measure], "loss"), rows),
        *(["; ".join(said) + "."] if said else []),
    ]


def _network(model):
    architecture = model.architecture
    genotype = architecture.genotype
    network = {
        "genotype": f"{genotype.name or 'unnamed'}, digest {genotype.digest}",
        "normal cells": " + ".join(map(str, architecture.repeats)),
        "filters": architecture.filters,
        "stem": architecture.stem,
        "images": " × ".join("any" if side is None else str(side) for side in architecture.input_shape),
        "parameters": f"{model.count_params():,}",
    }
    return _table(("", ""), network.items())


def _data(data, is_named):
    sizes = {part: f"{len(getattr(data, part)):,}" for part in ("train", "validation", "test")}
    classes = [shown(label) for label in data.class_names]
    listed = ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")
    source = {"data": shown(Path(str(data.name)).name)} if is_named else {}
    if is_named or data.digest:
        source["digest of the images"] = data.digest or "none: it is known by its name"
    source |= {
        "images": ", ".join(f"{count} {part}" for part, count in sizes.items()),
        f"{len(classes)} classes": listed,
    }
    return _table(("", ""), source.items())


def _recipe(recipe, settings, epochs, best):
    learnt = {}
    if epochs:
        last, epoch = epochs[-1]["epoch"], epochs[best - 1]["epoch"]
        learnt = {"epochs": f"{epoch} of {last}" if best < len(epochs) else epoch}
    return _table(("", ""), (learnt | settings | asdict(recipe)).items())


def _row(part, count, accuracy, loss):
    accuracy = "—" if accuracy is None else f"{100 * accuracy:.2f}%"
    return part, f"{count:,}", accuracy, "—" if loss is None or not math.isfinite(loss) else f"{loss:.4f}"


def _table(head, rows):
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(str(cell)) for cell in line) + " |" for line in lines)


def _code(text):
    return "\n".join("    " + line for line in text.splitlines())


def _plain(text):
    """A text that Markdown shows as it is, in one line."""
    text = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
    return " ".join(text.split())
