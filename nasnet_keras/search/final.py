"""After the search: the found cell trained longer, beside NASNet-A's and a random one under the same budget."""

import json

import numpy as np

from nasnet_keras import training
from nasnet_keras.files import write_atomically
from nasnet_keras.genotype import load_genotype
from nasnet_keras.network import multiply_adds
from nasnet_keras.search.children import accuracy, sizes
from nasnet_keras.search.publication import write_report

# A training of more steps than this keeps states to go on from, as only the ordinary network does.
UNINTERRUPTED = 2000


def compare(result, data, child, space, epochs, seed, progress):
    """Train three networks alike and measure them on the test images, which the search never saw.

    Each lies in `<directory>/final/<network>` as a model; a finished one is not trained again.

    Args:
        result: a `SearchResult`.
        data: the search's `Data`.
        child: the search's `ChildSettings`: the networks have the same size.
        space: the `SearchSpace` that the random cell is drawn from.
        epochs: epochs for each.
        seed: seed of the random cell and of the trainings.
        progress: a class of Keras callbacks that are context managers, called with a title and the epochs.

    Returns:
        One dict a network: `network`, `digest`, `parameters`, `multiply_adds`, `accuracy` (on the test split),
        `epochs`.
    """
    random = space.decode(space.random(np.random.default_rng([seed, 0xF1])))
    rows = []
    for name, genotype in (("found", result.best), ("nasnet_a", load_genotype("nasnet_a")), ("random", random)):
        directory = result.directory / "final" / name
        record = directory / "result.json"
        row = json.loads(record.read_text()) if record.exists() else None
        if row is None or row["digest"] != genotype.digest or row["epochs"] != epochs:
            row = _train(name, genotype, data, child, epochs, seed, directory, progress)
            write_atomically(record, json.dumps(row).encode())
        rows.append(row)
    write_report(result.directory, result.trials)
    return rows


def _train(name, genotype, data, child, epochs, seed, directory, progress):
    figures = {"network": name, "digest": genotype.digest, "epochs": epochs}
    with progress(f"final {name}", epochs) as bar:
        if child.is_interpreted() and child.steps(data, epochs) <= UNINTERRUPTED:
            trained = child.train_interpreted(genotype, data, seed, epochs, bar)
            training.save_model(trained.to_model(class_names=data.class_names), directory)
            return {**figures, **sizes(trained, data), "accuracy": accuracy(trained, data.test)}
        model, recipe = child.build(genotype, data, seed), child.training_recipe()
        state = directory / f"{genotype.digest}-{epochs}"
        training.fit(model, data, recipe, epochs=epochs, seed=seed, directory=state, callbacks=[bar], validate=False)
    training.save_model(model, directory)
    counts = {"parameters": model.count_params(), "multiply_adds": multiply_adds(model)}
    return {**figures, **counts, "accuracy": training.evaluate(model, data.test)["accuracy"]}
