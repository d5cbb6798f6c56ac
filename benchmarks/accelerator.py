"""What one accelerator makes of the package on JAX: training, its input, children; and PyTorch's timm beside it.

    KERAS_BACKEND=jax python benchmarks/accelerator.py [--minutes 8] [--output FILE]
    KERAS_BACKEND=jax JAX_PLATFORMS=cpu python benchmarks/accelerator.py --short      # tries the script on a CPU

Needs JAX, Keras and the package's own requirements, and no TensorFlow; PyTorch and timm where they are installed. Each
part is a process of its own, so that the memory of the device is free again, and one that takes too long is given up:
the whole ends after `--minutes`. What XLA has compiled is kept in `--cache`: a second run gets further. Prints a line
of JSON for each part as soon as it is there.

- `train`: images/s of a training step in bfloat16 as the recipes compile it, from batches that lie on the device, and
  its share of the device's peak: three times the multiply-adds of a forward pass, two operations each.
- `input`: the same with batches that are cut, mirrored and scaled on the device out of images that lie there, and with
  `Batches` prepared on the host.
- `timm`: PyTorch's network of the same size, compiled, channels_last, bfloat16.
- `children`: children of a search an hour, with 1, 2 and 4 processes on the one device.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Operations in 10^12 a second in bfloat16, dense, as the makers state them.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "T4": 65, "V100": 125}
# Networks whose twins timm can build: its NASNetALarge has six cells a stack.
NETWORKS = {
    "6@768": {"repeats": 6, "penultimate_filters": 768, "stem": "cifar", "input_shape": (32, 32, 3), "classes": 10},
    "mobile": {"repeats": 4, "penultimate_filters": 1056, "input_shape": (224, 224, 3)},
    "6@1056": {"repeats": 6, "penultimate_filters": 1056, "input_shape": (224, 224, 3), "skip_reduction": True},
}
SHORT = {"genotype": "tiny", "repeats": (1,), "filters": 4, "stem": "cifar", "input_shape": (16, 16, 3), "classes": 10}
BATCHES = {"6@768": 256, "mobile": 256, "6@1056": 128}
# The parts in order of importance, and the share of the whole time that each may take.
PARTS = (
    ("train", "mobile", 0.3),
    ("train", "6@768", 0.3),
    ("input", "6@768", 0.3),
    ("children", "", 0.25),
    ("timm", "6@1056", 0.35),
    ("train", "6@1056", 0.3),
)


def network(name, short):
    """(The arguments of a `NASNet`, the batch)."""
    return ({**SHORT}, 8) if short else (NETWORKS[name], BATCHES[name])


def compiled(name, short):
    """A network, compiled as `fit` does it, and its batch."""
    import keras

    from nasnet_keras.models.network import NASNet
    from nasnet_keras.training import recipes
    from nasnet_keras.training.compilation import compile_model

    arguments, batch = network(name, short)
    model = NASNet(**arguments, dtype="mixed_bfloat16")
    compile_model(model, recipes.recipe("cifar"), 1000, 1)
    if not short:
        model.jit_compile = True
    return keras, model, batch


class Fed:
    """Makes the class of batches that come from a function; Keras is not imported before."""

    def __new__(cls, function, count):
        import keras

        class Dataset(keras.utils.PyDataset):
            def __len__(self):
                return count

            def __getitem__(self, index):
                return function(index)

        return Dataset()


def rates(keras, model, batches, batch, epochs):
    """Seconds to the end of the first epoch, and images/s of each epoch after it."""

    class Times(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            times.append([time.perf_counter()])

        def on_epoch_end(self, epoch, logs=None):  # the figures of the epoch are read before: the device is done
            times[-1].append(time.perf_counter())

    times = []
    model.fit(batches, epochs=epochs + 1, shuffle=False, verbose=0, callbacks=[Times()])
    first, *others = (end - begin for begin, end in times)
    return first, [len(batches) * batch / seconds for seconds in others]


def peak_of(device, given):
    """Operations a second of a device, None where nobody says it."""
    known = given or next((value for name, value in PEAKS.items() if name in device.replace(" ", "")), None)
    return known and known * 1e12


def shape_of(arguments, batch):
    return (batch, *arguments["input_shape"])


def train(name, options):
    """A training step from batches that lie on the device."""
    import jax
    from jax import numpy as jnp

    from nasnet_keras.models.counting import multiply_adds

    keras, model, batch = compiled(name, options.short)
    arguments, _ = network(name, options.short)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(-1, 1, shape_of(arguments, batch)).astype("float32"))
    labels = jnp.asarray(rng.integers(0, arguments.get("classes", 1000), batch))
    count, epochs = (2, 1) if options.short else (20, 4)
    first, found = rates(keras, model, Fed(lambda index: (images, labels), count), batch, epochs)
    speed, device = statistics.median(found), jax.devices()[0].device_kind
    work, peak = 3 * 2 * multiply_adds(model) * speed, peak_of(device, options.peak)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    figures = {"images_per_second": speed, "lowest": min(found), "highest": max(found), "first_epoch_s": first}
    figures |= {"tflops": work / 1e12, "share_of_peak": peak and work / peak, "memory_gb": memory and memory / 1e9}
    return {"device": device, "batch": batch, "parameters": model.count_params(), **figures}


def feed(name, options):
    """A training step with its input: prepared on the device, and on the host by `Batches`."""
    import jax
    from jax import numpy as jnp

    from nasnet_keras.data.batches import Batches
    from nasnet_keras.data.splits import Split

    keras, model, batch = compiled(name, options.short)
    arguments, _ = network(name, options.short)
    height, width, _ = arguments["input_shape"]
    count, epochs = (2, 1) if options.short else (20, 4)
    rng = np.random.default_rng(0)
    every = rng.integers(0, 256, (max(batch * count, 1), *arguments["input_shape"]), dtype="uint8")
    classes = rng.integers(0, arguments.get("classes", 1000), len(every)).astype("int32")
    held, known = jnp.asarray(every), jnp.asarray(classes)

    @jax.jit
    def prepare(key):
        picks, places, mirrors = jax.random.split(key, 3)
        chosen = jax.random.randint(picks, (batch,), 0, len(held))
        offsets = jax.random.randint(places, (batch, 2), 0, 9)
        padded = jnp.pad(held[chosen], ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=128)

        def cut(image, offset):
            return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, 3))

        images = jax.vmap(cut)(padded, offsets)
        mirrored = jax.random.bernoulli(mirrors, 0.5, (batch, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
        return images.astype("float32") / 127.5 - 1, known[chosen]

    key = jax.random.key(0)
    sources = {
        "device": Fed(lambda index: prepare(jax.random.fold_in(key, index)), count),
        "host": Batches(Split(every, classes), batch, training=True, augmentation="cifar", cutout=0),
    }
    found = {}
    for source, batches in sources.items():
        _, speeds = rates(keras, model, batches, batch, epochs)
        found[f"{source}_images_per_second"] = statistics.median(speeds)
    return {"batch": batch, **found, "host_cores": os.cpu_count()}


def timm(name, options):
    """The same network in PyTorch, if it is there."""
    try:
        import torch
        from timm.models.nasnet import NASNetALarge
    except ImportError as error:
        return {"left_out": f"{error.name} is not installed"}
    arguments, batch = network(name, False)
    if options.short:
        arguments, batch = {**arguments, "penultimate_filters": 264, "input_shape": (96, 96, 3)}, 2
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = {"stem_size": 32, "num_features": arguments["penultimate_filters"]}
    model = NASNetALarge(num_classes=1000, **sizes).to(device, memory_format=torch.channels_last).train()
    step = model if options.short else torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9)
    height, width, channels = arguments["input_shape"]
    images = torch.rand(batch, channels, height, width, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=device)

    def learn():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(step(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss.item()  # waits for the device

    begin = time.perf_counter()
    learn()
    first = time.perf_counter() - begin
    times = []
    for _ in range(1 if options.short else 30):
        begin = time.perf_counter()
        learn()
        times.append(time.perf_counter() - begin)
    parameters = sum(one.numel() for one in model.parameters())
    return {"batch": batch, "images_per_second": batch / statistics.median(times), "first_step_s": first} | {
        "parameters": parameters,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _children(number, met, count, seconds, ready, results):
    """One process: children of random cells on the digits until the time is up; the first ones are not counted."""
    from nasnet_keras.children.settings import ChildSettings
    from nasnet_keras.data.loading import load_data
    from nasnet_keras.search.space import SearchSpace

    data, settings = load_data("digits"), ChildSettings(repeats=1, filters=8)
    cells = SearchSpace().sample(500, np.random.default_rng(number))
    for cell in cells[:met]:  # after some children XLA has compiled every operation
        settings.evaluate(cell, data, 0)
    ready.wait()
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds and done < count:
        settings.evaluate(cells[met + done], data, done)
        done += 1
    results.put((done, time.perf_counter() - begin))


def children(name, options):
    """Children an hour of 1, 2 and 4 processes that share the device."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    context, found = multiprocessing.get_context("spawn"), {}
    seconds, met, count = (1, 0, 1) if options.short else (20, 5, 400)
    for processes in (1, 2) if options.short else (1, 2, 4):
        ready, results = context.Barrier(processes), context.Queue()
        arguments = [(number, met, count, seconds, ready, results) for number in range(processes)]
        started = [context.Process(target=_children, args=one, daemon=True) for one in arguments]
        for process in started:
            process.start()
        ended = [results.get() for _ in started]
        found[f"children_per_hour_{processes}"] = sum(3600 * done / spent for done, spent in ended)
        for process in started:
            process.join()
    return {"host_cores": os.cpu_count(), **found}


WORK = {"train": train, "input": feed, "timm": timm, "children": children}


def run(part, name, options, seconds):
    """A part in a process of its own, at most so many seconds: its line."""
    words = [sys.executable, os.path.abspath(__file__), "--part", part, "--network", name]
    words += ["--short"] * options.short + (["--peak", str(options.peak)] if options.peak else [])
    begin = time.monotonic()
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(options.cache.absolute())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=environment, **streams) as process:
        try:
            out, said = process.communicate(timeout=seconds)
            line = json.loads(out.splitlines()[-1]) if process.returncode == 0 else {"failed": said[-500:]}
        except subprocess.TimeoutExpired:
            process.kill()
            line = {"given_up_after_s": round(seconds)}
    return {"part": part, "network": name, **line, "seconds": round(time.monotonic() - begin, 1)}


def main():
    """Run the parts that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="after which the whole ends")
    parser.add_argument("--output", type=Path, help="the lines again, in a file")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "accelerator-cache")
    parser.add_argument("--peak", type=float, help="of the device in bfloat16, in 10^12 operations a second")
    parser.add_argument("--short", action="store_true", help="tiny networks, a step or two: tries the script")
    parser.add_argument("--part", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--network", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if os.environ.get("KERAS_BACKEND") != "jax":
        parser.error("set KERAS_BACKEND=jax")
    if options.part:
        print(json.dumps(WORK[options.part](options.network, options)))
        return
    end, lines = time.monotonic() + 60 * options.minutes, []
    for part, name, share in PARTS:
        left = end - time.monotonic()
        if left < 20:
            line = {"part": part, "network": name, "left_out": "no time left"}
        else:
            line = run(part, name, options, min(left, 60 * options.minutes * share))
        lines.append(line)
        print(json.dumps(line), flush=True)
        if options.output:
            options.output.write_text("".join(f"{json.dumps(one)}\n" for one in lines))


if __name__ == "__main__":
    main()
