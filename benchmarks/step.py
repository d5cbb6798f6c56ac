"""One training step of NASNet-A on CIFAR-sized images beside the same network in plain `keras.layers`.

    python benchmarks/step.py [--repeats 2] [--filters 32] [--batch 64] [--rounds 8]

Both have the same layout, optimiser (SGD with momentum, gradients clipped by their global norm) and batch, and take
their steps in turn in one process. Prints the median seconds of each, images a second, and the median of the ratios.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from turnaround import plain

import nasnet_keras
from nasnet_keras.genotype import load_genotype
from nasnet_keras.program.architecture import Architecture


def plain_model(genotype, network):
    """The network as a functional model in which every elementary layer is a layer of its own."""
    image = keras.Input(network["input_shape"])
    program = Architecture(load_genotype(genotype), **network).program()
    values = {0: image}
    for step in program.steps:
        values[step.result.number] = plain(step.primitive, [values[value.number] for value in step.reads])
    return keras.Model(image, keras.layers.Softmax()(values[program.steps[-1].result.number]))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genotype", default="nasnet_a")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    network = {"repeats": options.repeats, "filters": options.filters, "stem": "cifar"}
    network |= {"input_shape": (32, 32, 3), "classes": 10}
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (options.batch, 32, 32, 3)).astype("float32")
    labels = generator.integers(0, 10, options.batch)
    models = {
        "nasnet_keras": nasnet_keras.NASNet(options.genotype, **network),
        "keras.layers": plain_model(options.genotype, network),
    }
    assert len({model.count_params() for model in models.values()}) == 1
    times = {name: [] for name in models}
    for name, model in models.items():
        optimizer = keras.optimizers.SGD(0.025, momentum=0.9, global_clipnorm=5.0)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        print(f"{name}: first step {time.perf_counter() - start:.1f} s", flush=True)
    for _ in range(options.rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            times[name].append(time.perf_counter() - start)
    ours, theirs = (column[1:] for column in times.values())
    for name, column in (("nasnet_keras", ours), ("keras.layers", theirs)):
        median = statistics.median(column)
        print(f"{name}: step {median * 1e3:.0f} ms, {options.batch / median:.0f} images/s")
    ratio = statistics.median(other / one for one, other in zip(ours, theirs, strict=True))
    print(f"speed of nasnet_keras: {ratio:.2f} times that of keras.layers")


if __name__ == "__main__":
    main()
