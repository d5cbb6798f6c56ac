"""How soon a child trains, and how many train in an hour: `turnaround.Child` beside a plain Keras model.

    python benchmarks/turnaround.py [--size 8] [--children 5] [--memory 0]

Both get the same random genotypes (N=1, F=8), the same images, one epoch of 20 batches of 32 and one evaluation of
360 images, in turn and in one process. The peer is a functional model of plain `keras.layers`, compiled and
fitted. Medians; the first child of each kind, which warms TensorFlow up, is left out. With `--memory N` it
trains N children more and prints the resident size on the way.
"""

import argparse
import random
import resource
import time
from pathlib import Path

import keras
import numpy as np

from nasnet_keras.genotype import COMBINATIONS, OPERATIONS, Block, CellGenotype, Genotype
from nasnet_keras.plan import plan
from nasnet_keras.turnaround import Child, Optimizer

STEPS, BATCH, HELD_OUT, FILTERS, CLASSES = 20, 32, 360, 8, 10


def random_genotype(generator, blocks=5):
    """A random draw from the paper's space."""

    def cell():
        chosen = tuple(
            Block(
                (generator.randrange(2 + index), generator.randrange(2 + index)),
                (generator.choice(OPERATIONS), generator.choice(OPERATIONS)),
                generator.choice(COMBINATIONS[:2]),
            )
            for index in range(blocks)
        )
        read = {state for block in chosen for state in block.inputs}
        return CellGenotype(chosen, tuple(state for state in range(2, 2 + blocks) if state not in read))

    return Genotype(cell(), cell())


def plain_model(genotype, size):
    """The same network as a functional model in which every elementary layer is a layer of its own."""
    image = keras.Input((size, size, 3))
    program = plan(genotype, repeats=1, filters=FILTERS, stem="cifar", input_shape=(size, size, 3), classes=CLASSES)
    values = {0: image}
    for step in program.steps:
        values[step.result.number] = plain(step.primitive, [values[value.number] for value in step.reads])
    return keras.Model(image, keras.layers.Softmax()(values[program.steps[-1].result.number]))


def plain(what, inputs):
    """One primitive as a plain Keras layer."""
    layers, (x, *_) = keras.layers, inputs
    if what.kind in ("conv", "dilated_conv"):
        settings = {"strides": what.strides, "padding": what.padding.lower(), "dilation_rate": what.dilation}
        return layers.Conv2D(what.makes, what.kernel, use_bias=False, **settings)(x)
    if what.kind in ("avg_pool", "max_pool"):
        kind = layers.AveragePooling2D if what.kind == "avg_pool" else layers.MaxPooling2D
        return kind(what.size, what.strides, what.padding.lower())(x)
    return {
        "relu": lambda: layers.ReLU()(x),
        "depthwise": lambda: layers.DepthwiseConv2D(what.kernel, what.strides, "same", use_bias=False)(x),
        "norm": lambda: layers.BatchNormalization(momentum=what.momentum, epsilon=what.epsilon)(x),
        "subsample": lambda: x[:, :: what.strides, :: what.strides],
        "shift": lambda: layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(x)),
        "add": lambda: layers.Add()(inputs),
        "concat": lambda: layers.Concatenate()(inputs),
        "mean": lambda: layers.GlobalAveragePooling2D()(x),
        "dense": lambda: layers.Dense(what.makes)(x),
    }[what.kind]()


def train_child(genotype, size, data, seed):
    """Seconds to the first step, seconds in all, accuracy."""
    images, labels, held_images, held_labels = data
    start = time.perf_counter()
    child = Child(
        genotype,
        repeats=1,
        filters=FILTERS,
        stem="cifar",
        input_shape=(size, size, 3),
        classes=CLASSES,
        seed=seed,
        optimizer=Optimizer(steps=STEPS),
    )
    prepared = time.perf_counter() - start
    for step in range(STEPS):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        float(child.train_step(images[batch], labels[batch]))
        if not step:
            first = time.perf_counter() - start
    accuracy = child.evaluate(held_images, held_labels)
    return prepared, first, time.perf_counter() - start, accuracy


def train_plain(genotype, size, data, seed):
    """The same in plain Keras."""
    images, labels, held_images, held_labels = data
    start = time.perf_counter()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = plain_model(genotype, size)
    prepared = time.perf_counter() - start
    rate = keras.optimizers.schedules.CosineDecay(0.05, STEPS)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=5.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    first = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: first.append(time.perf_counter() - start)
    )
    model.fit(images, labels, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[callback])
    accuracy = model.evaluate(held_images, held_labels, batch_size=HELD_OUT, verbose=0)[1]
    return prepared, first[0], time.perf_counter() - start, accuracy


def digits(size):
    """Training and held-out images and labels of the digits that scikit-learn brings, repeated to `size`."""
    from sklearn.datasets import load_digits

    pixels = load_digits()
    images = (pixels.images / 8 - 1).astype("float32").repeat(size // 8, 1).repeat(size // 8, 2)
    images, labels = np.repeat(images[..., None], 3, -1), pixels.target.astype("int64")
    return images[: STEPS * BATCH], labels[: STEPS * BATCH], images[-HELD_OUT:], labels[-HELD_OUT:]


def resident():
    """Resident size in MB; the greatest so far where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8, choices=(8, 32), help="image side")
    parser.add_argument("--children", type=int, default=5, help="genotypes for both kinds")
    parser.add_argument("--memory", type=int, default=0, help="children to train for the memory figures")
    options = parser.parse_args()
    data, generator = digits(options.size), random.Random(0)
    rows = {"child": [], "plain Keras": []}
    for seed in range(options.children + 1):
        genotype = random_genotype(generator)
        for name, train in (("child", train_child), ("plain Keras", train_plain)):
            if name == "child" or options.children:
                rows[name].append(train(genotype, options.size, data, seed))
    if options.children:
        print(f"{'':12} prepared s  first step s  child s  children/h")
        medians = {name: np.median(values[1:], axis=0) for name, values in rows.items()}
        for name, (prepared, first, whole, _) in medians.items():
            print(f"{name:12} {prepared:10.3f} {first:13.3f} {whole:8.2f} {3600 / whole:11.0f}")
        (_, first, whole, _), (_, plain_first, plain_whole, _) = medians.values()
        print(
            f"first step: {plain_first / first:.1f} times as soon; children per hour: {plain_whole / whole:.1f} times"
        )
    for number in range(options.memory):
        train_child(random_genotype(generator), options.size, data, number)
        if number + 1 in (30, 100, 200, 300):
            print(f"resident size after {number + 1} children: {resident():.0f} MB", flush=True)


if __name__ == "__main__":
    main()
