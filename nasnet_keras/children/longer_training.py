"""A found cell trained for longer than a child: a genotype and data in, a model and its figures out."""

import json
import logging

from nasnet_keras.children.settings import accuracy, sizes_of
from nasnet_keras.data.records import write_record
from nasnet_keras.files import read_object, write_atomically
from nasnet_keras.models.counting import multiply_adds
from nasnet_keras.training import fitting
from nasnet_keras.training.card import write_card
from nasnet_keras.training.figures import judged

logger = logging.getLogger(__name__)

# A training of more steps than this keeps states to go on from, as only the ordinary network does.
UNINTERRUPTED = 2000
WATCHED = "were what the search judged its cells by"
# What the accuracy on a part of the data is called.
FIGURES = {"test": "accuracy", "validation": "validation_accuracy"}


def train_longer(name, genotype, data, child, epochs, seed, directory, progress, parts=tuple(FIGURES), reference=None):
    """Train a genotype's network as the children of a search were, for more epochs, and measure it.

    It lies in `directory` as a model, with its figures; a finished one is not trained again.

    Args:
        name: what the figures and the progress call it.
        genotype: a `Genotype`.
        data: a `Data`.
        child: the search's `ChildSettings`, or with other filters.
        epochs: epochs in all.
        seed: seed of the training.
        directory: where it goes.
        progress: called with a title and the epochs, a context manager that gives a Keras callback.
        parts: of the data, on which it is measured: `test`, `validation`.
        reference: None, or the filters of the network whose multiply-adds it was given, which the figures then tell.

    Returns:
        A dict with `network` (the name), `digest`, `parameters`, `multiply_adds`, `accuracy` (on the test split),
        `validation_accuracy`, `epochs`, `filters`; of the accuracies those on `parts`. Of several labels an image they
        are mean average precisions, and `measure` says so. An accuracy of no images is None.
    """
    row = finished(genotype, epochs, directory)
    if row is None or not has_size(row, genotype, data, child):
        row = _train(name, genotype, data, child, epochs, seed, directory, progress, parts)
    elif row.get("reference") == reference:
        return row
    row = row if reference is None else {**row, "reference": reference}
    write_atomically(directory / "result.json", json.dumps(row).encode())
    return row


def finished(genotype, epochs, directory):
    """The figures of a training that lies in a directory, as `train_longer` gives them, of whatever size; else None."""
    row = _read(directory / "result.json") or {}
    same = (row.get("digest"), row.get("epochs")) == (genotype.digest, epochs)
    return row if same and "validation_accuracy" in row else None


def has_size(row, genotype, data, child):
    """Whether figures are of a network as large as these settings make it."""
    if "filters" in row:
        return row["filters"] == child.filters
    # An earlier version's, which say what it cost.
    return row.get("multiply_adds") == child.sizes(genotype, data)["multiply_adds"]


def _read(record):
    """The figures in a file, a dict; None where there is none, or none that can be read: it is written anew then."""
    try:
        return read_object(record)
    except FileNotFoundError:
        return None
    except ValueError as error:
        record.replace(record.with_name(f"{record.name}.damaged"))
        logger.warning("%s; it is kept as %s.damaged, and the network is trained again", error, record.name)
        return None


def _train(name, genotype, data, child, epochs, seed, directory, progress, parts):
    figures = {"network": name, "digest": genotype.digest, "epochs": epochs, "filters": child.filters}
    measure = "mean_average_precision" if data.several else "accuracy"
    figures |= {"measure": measure} if data.several else {}
    recipe, state = child.training_recipe(), directory / f"{genotype.digest}-{epochs}-{child.filters}"
    with progress(f"final {name}", epochs) as bar:
        if child.is_interpreted() and child.steps(data, epochs) <= UNINTERRUPTED:
            trained = child.train_interpreted(genotype, data, seed, epochs, bar)
            model, counts = trained.to_model(), sizes_of(trained.program, data)
        else:
            trained, model = None, child.build(genotype, data, seed)
            fitting.fit(model, data, recipe, epochs=epochs, seed=seed, directory=state, callbacks=[bar], validate=False)
            counts = {"parameters": model.count_params(), "multiply_adds": multiply_adds(model)}
    _save(model, data, directory)
    found = {part: getattr(data, part) for part in parts}
    for part, split in found.items():
        if trained:
            value = accuracy(trained, split)  # which finds what cannot be read any more
            found[part] = {measure: value, "loss": None, "images": int(split.readable.sum())}
        else:
            found[part] = fitting.evaluate(model, split)
    write_record(directory, data)
    settings = {"epochs": epochs, "recipe": child.recipe, "seed": seed}
    write_card(directory, model, data, recipe, settings, figures=found, history=state, watched=WATCHED)
    return {**figures, **counts, **{FIGURES[part]: judged(one)[1] for part, one in found.items()}}


def _save(model, data, directory):
    if data.several:
        model.thresholds = fitting.chosen_thresholds(model, data.validation)
    (directory / "result.json").unlink(missing_ok=True)  # until there are new figures, those are of the model before
    fitting.save_model(model, directory)
