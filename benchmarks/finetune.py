"""A fine-tuning beside keras.applications': its first step, its steps, memory, and how long phases take.

    python benchmarks/finetune.py --data flowers --rounds 3 --results finetune.jsonl
    python benchmarks/finetune.py --measures memory --network large --batch 4 --results finetune.jsonl
    python benchmarks/finetune.py --measures phase whole --size 64 --batch 8 --images 60 --rounds 1    # in short

What is measured, of a network without its top under a dense layer:

    step    construction, the first training step, the median of further ones, with plain SGD on random images
    frozen  the same with cells that stand still
    partly  the same with all below cell_8 standing still
    memory  the most that two steps took, also with recomputation (ours alone)
    phase   three epochs of the head, validation and reading included: `fine_tune` with `head_views=1` and without
            augmentation, beside the script that one writes by hand with `image_dataset_from_directory`
    whole   one epoch of the head and one of the cells, likewise, from the same random weights of the cells

Each run has a process of its own; sides take turns, each round in the other order. Runs are kept in `--results`, a JSON
object a line, and what is there is not run again. Printed are medians of each side and of the ratios of the rounds.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
NETWORKS = {"mobile": ("NASNetMobile", 224, 16), "large": ("NASNetLarge", 331, 4)}
SIDES = {"memory": ("ours", "ours, remat", "theirs")}
MEASURES = ("step", "frozen", "partly", "memory", "phase", "whole")
CLASSES = 5  # of images that are made up
UNFROZEN = {"ours": "cell_8", "theirs": "_9"}  # how names of that cell's layers are, or end
RATE = 0.05


def clock(function, *args):
    """(Seconds, CPU seconds, result) of a call."""
    start, cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    return time.perf_counter() - start, time.process_time() - cpu, result


def dense_on(side, name, size, state):
    """The compiled model of a side, its cells in a state."""
    import keras

    import nasnet_keras

    factory = getattr(keras.applications if side == "theirs" else nasnet_keras, name)
    base = factory(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
    if state == "frozen":
        base.trainable = False
    if state == "partly":
        names = [layer.name for layer in base.layers]
        first = next(place for place, one in enumerate(names) if one.endswith(UNFROZEN[side]))
        for layer in base.layers[:first]:
            layer.trainable = False
    for layer in base.layers if "remat" in side else ():
        layer.remat = True
    model = keras.Sequential([base, keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    return model


def steps(side, state, name, size, batch, count):
    """{figure: value} of a model's first steps."""
    import keras  # noqa: F401  # before anything is timed
    import numpy as np

    import nasnet_keras  # noqa: F401

    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (batch, size, size, 3)).astype("float32")
    labels = np.arange(batch) % CLASSES
    construction, _, model = clock(dense_on, side, name, size, state)
    first, cpu, _ = clock(model.train_on_batch, images, labels)
    later = [clock(model.train_on_batch, images, labels)[:2] for _ in range(count)]
    figures = {"construction (s)": construction, "first step (s)": first, "first step, CPU (s)": cpu}
    figures |= {"step (s)": statistics.median(wall for wall, _ in later)}
    return figures | {"step, CPU (s)": statistics.median(cpu for _, cpu in later), **memory()}


def memory():
    """{figure: megabytes at most so far}."""
    return {"memory (MB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def theirs(folder, weights, name, size, batch, heads, cells):
    """The validation accuracy of a fine-tuning by hand."""
    import keras

    options = {"validation_split": 0.2, "subset": "both", "seed": 0, "image_size": (size, size), "batch_size": batch}
    train, validation = keras.utils.image_dataset_from_directory(folder, verbose=False, **options)
    classes = len(train.class_names)
    train, validation = train.prefetch(2), validation.prefetch(2)
    base = getattr(keras.applications, name)(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3)
    )
    base.load_weights(weights)
    base.trainable = False
    inputs = keras.Input((size, size, 3))
    features = base(keras.layers.Rescaling(1 / 127.5, -1)(inputs), training=False)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(features))
    for rate, epochs in ((RATE, heads), (0.3 * RATE, cells)):
        if epochs:
            model.compile(keras.optimizers.SGD(rate, 0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
            history = model.fit(train, validation_data=validation, epochs=epochs, verbose=0).history
        base.trainable = True
    return history["val_accuracy"][-1]


def ours(folder, weights, name, size, batch, heads, cells):
    """The validation accuracy of the same by `fine_tune`."""
    from nasnet_keras import fine_tune, load_data
    from nasnet_keras.training import recipes

    data = load_data(folder, image_size=size, validation=0.2, test=0)
    recipe = recipes.recipe("photos", batch_size=batch, learning_rate=RATE, augmentation="none", label_smoothing=0.0)
    phases = {"epochs": heads + cells, "head_epochs": heads, "head_views": 1, "patience": None}
    with tempfile.TemporaryDirectory() as directory:
        options = {"weights": weights, "recipe": recipe, **phases, "directory": directory}
        fine_tune(name, data.train, data.validation, data.class_names, **options)
        history = json.loads((Path(directory) / ("cells" if cells else "head") / "history.json").read_text())
    return history["epochs"][-1]["val_accuracy"]


def training(side, measure, folder, weights, *settings):
    """{figure: value} of a phase or of both."""
    function, phases = (theirs if side == "theirs" else ours), {"phase": (3, 0), "whole": (1, 1)}[measure]
    wall, cpu, accuracy = clock(function, folder, weights, *settings, *phases)
    return {"time (s)": wall, "CPU (s)": cpu, **memory(), "validation accuracy": accuracy}


def prepared(place, data, images, name, size):
    """(A folder of so many images, a file with random weights of the cells), made in a place unless they are there."""
    import keras
    import numpy as np
    from PIL import Image

    folder, weights = place / "images", place / f"{name}.weights.h5"
    if not folder.exists():
        generator = np.random.default_rng(0)
        sources = {one.name: sorted(one.iterdir()) for one in Path(data).iterdir() if one.is_dir()} if data else {}
        for label in sources or map(str, range(CLASSES)):
            (folder / label).mkdir(parents=True)
            files = sources.get(label, [None] * (images or 500))
            for number, source in enumerate(files[: images and -(-images // len(sources or range(CLASSES)))]):
                if source is None:
                    pixels = generator.integers(0, 255, (128, 128, 3), "uint8")
                    Image.fromarray(pixels).save(folder / label / f"{number}.jpg")
                else:
                    (folder / label / source.name).symlink_to(source.resolve())
    if not weights.exists():
        keras.utils.set_random_seed(0)
        shape = (size, size, 3)
        getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape).save_weights(weights)
    return str(folder), str(weights)


def run(options, measure, side, name, size, batch, place):
    """{figure: value} of one run, in this process."""
    if measure in ("phase", "whole"):
        folder, weights = prepared(place, options.data, options.images, name, size)
        return training(side, measure, folder, weights, name, size, batch)
    return steps(side, measure, name, size, batch, 1 if measure == "memory" else options.steps)


def main():
    """Measure what is not there yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--network", choices=NETWORKS, default="mobile")
    parser.add_argument("--size", type=int, help="pixels (default: 224 or 331)")
    parser.add_argument("--batch", type=int, help="images a step (default: 16 or 4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="after the first one")
    parser.add_argument("--data", help="a folder with one for each class (default: noise)")
    parser.add_argument("--images", type=int, help="at most so many of all classes together (default: all)")
    parser.add_argument("--results", type=Path, help="where runs are kept, and found (default: nowhere)")
    parser.add_argument("--one", nargs=3, metavar=("MEASURE", "SIDE", "PLACE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    name, size, batch = NETWORKS[options.network]
    size, batch = options.size or size, options.batch or batch
    if options.one:
        measure, side, place = options.one
        return print(json.dumps(run(options, measure, side, name, size, batch, Path(place))))
    settings = {"network": name, "size": size, "batch": batch, "backend": os.environ.get("KERAS_BACKEND", "tensorflow")}
    read = options.results.read_text().splitlines() if options.results and options.results.exists() else []
    results = [json.loads(line) for line in read]
    with tempfile.TemporaryDirectory() as place:
        for number, measure in itertools.product(range(options.rounds), options.measures):
            sides = SIDES.get(measure, ("ours", "theirs"))
            for side in sides if number % 2 else sides[::-1]:
                key = {**settings, "measure": measure, "side": side, "round": number}
                key |= {"images": options.images} if measure in ("phase", "whole") else {}
                if any(key.items() <= one.items() for one in results):
                    continue
                command = [sys.executable, *sys.argv, "--one", measure, side, place]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                results.append({**key, "figures": json.loads(done.stdout.splitlines()[-1])})
                print(f"round {number + 1}, {measure}, {side}", file=sys.stderr, flush=True)
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
    print(f"{name}, {size} pixels, batch {batch}, {settings['backend']}: medians, and that of the ratios to theirs")
    for measure in options.measures:
        table([one for one in results if one["measure"] == measure and settings.items() <= one.items()])
    return None


def table(runs):
    """Print the figures of a measure."""
    by_side = {}
    for one in runs:
        by_side.setdefault(one["side"], {})[one["round"]] = one["figures"]
    for side, what in itertools.product(sorted(by_side), next(iter(by_side.values()))[0] if by_side else ()):
        values = {number: figures[what] for number, figures in by_side[side].items() if what in figures}
        others = {number: figures.get(what) for number, figures in by_side.get("theirs", {}).items()}
        ratios = [value / others[number] for number, value in values.items() if others.get(number)]
        shown = f", ratio {statistics.median(ratios):.2f}" if ratios and side != "theirs" else ""
        if values:
            print(f"{runs[0]['measure']}, {what}: {side} {statistics.median(values.values()):.2f}{shown}")


if __name__ == "__main__":
    main()
