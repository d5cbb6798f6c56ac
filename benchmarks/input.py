"""What images cost before a network sees them: CPU milliseconds an image, and images a second, of the recipe `photos`.

Makes JPEGs of 500×375 pixels in a temporary folder, and reads them as batches of 224² that are cropped, mirrored and
changed in colour. Each measurement is a process of its own; the ways are measured in turn, so that a machine that slows
down meets all of them alike. Prints each pair's figures, and medians of the ratios.

    git worktree add ../before REVISION
    python benchmarks/input.py --before ../before --pairs 5   # this package and an earlier one
    python benchmarks/input.py --cores                      # two cores and one; and what two processes get of them
    python benchmarks/input.py --peers                        # `image_dataset_from_directory`; resizing by tf.data

The peers: `image_dataset_from_directory`, which shrinks whole images without antialiasing, and the same augmentation as
Keras layers on its batches; and tf.data with the pixels of `read_image`, decoded and resized with antialiasing, which
is why the package reads images by Pillow in threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]
SIZE = 224


def make(root, count):
    """So many photographs of two classes: smooth shapes with the noise of a sensor."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        pixels = np.clip(np.asarray(shapes) + rng.normal(0, 8, (375, 500, 3)), 0, 255).astype(np.uint8)
        path = root / "ab"[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def package(root, batch_size):
    """The batches of the package, this one or an earlier one, as a training reads them."""
    import nasnet_keras

    # Before the modules lay in folders they were called otherwise.
    is_new = (Path(nasnet_keras.__file__).parent / "data").is_dir()
    names = ("data.loading", "data.batches") if is_new else ("data", "batches")
    loading, batching = (import_module(f"nasnet_keras.{name}") for name in names)
    data = loading.load_data(root, image_size=SIZE, memory_limit=0)
    batches, step = batching.Batches(data.train, batch_size, training=True, augmentation="photo"), 0
    while True:
        yield batches[step % len(batches)][0]
        step += 1


def directory(root, batch_size):
    """Keras' pipeline from a folder, with the augmentation as layers."""
    import keras
    import tensorflow as tf

    images = keras.utils.image_dataset_from_directory(
        root, image_size=(SIZE, SIZE), batch_size=batch_size, verbose=False
    )
    layers = [
        keras.layers.RandomCrop(int(0.84 * SIZE), int(0.84 * SIZE)),  # 70% of the area, the mean of `photos`
        keras.layers.Resizing(SIZE, SIZE),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomBrightness(0.2),
        keras.layers.RandomContrast(0.2),
        keras.layers.RandomSaturation((0.4, 0.6)),
        keras.layers.Rescaling(1 / 127.5, -1),
    ]

    def vary(batch, labels):
        for layer in layers:
            batch = layer(batch, training=True)
        return batch, labels

    varied = images.map(vary, num_parallel_calls=tf.data.AUTOTUNE).repeat().prefetch(tf.data.AUTOTUNE)
    return (batch.numpy() for batch, _ in varied)


def graph(root, batch_size):
    """tf.data with the pixels of `read_image`: decoded and resized with antialiasing, nothing else."""
    import tensorflow as tf

    from nasnet_keras.data.decoding import decode

    files = tf.data.Dataset.list_files(str(root / "*/*.jpg"), shuffle=False).repeat()
    images = files.map(lambda path: decode(tf.io.read_file(path), SIZE), num_parallel_calls=tf.data.AUTOTUNE)
    return (batch.numpy() for batch in images.batch(batch_size).prefetch(tf.data.AUTOTUNE))


def pillow(root, batch_size):
    """The same by Pillow in threads."""
    import numpy as np

    from nasnet_keras.data.loading import load_data

    images = load_data(root, image_size=SIZE, memory_limit=0, validation=0, test=0).train.images
    start = 0
    while True:
        yield images[(start + np.arange(batch_size)) % len(images)]
        start += batch_size


WAYS = {"package": package, "directory": directory, "graph": graph, "pillow": pillow}


def measure(way, root, batch_size, images):
    """Print {"cpu": milliseconds an image, "rate": images a second} of one way, after two batches."""
    batches = WAYS[way](root, batch_size)
    for _ in range(2):
        next(batches)
    count = max(1, images // batch_size)
    start = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(json.dumps({"cpu": 1e3 * cpu / (count * batch_size), "rate": count * batch_size / wall}))


def run(way, root, batch_size, images, source=ROOT, cores=None):
    """`measure` in a process of its own, on some cores only if their numbers are given."""
    words = [sys.executable, __file__, "--measure", way, "--folder", root, "--batch", batch_size, "--images", images]
    if cores:
        words = ["taskset", "-c", ",".join(map(str, cores)), *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(source).absolute())}
    done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def side_by_side(cores, *words, **options):
    """`run` in a process on each core at once: what the machine itself gives, with nothing shared between them."""
    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(lambda core: run(*words, cores=[core], **options), range(cores)))
    return {"rate": sum(one["rate"] for one in found)}


def compare(title, figure, pairs, one, other):
    """Measure two ways in turn; print a figure of both, and the median of the first's share of the second."""
    ratios = []
    for number in range(pairs):
        order = (one, other) if number % 2 == 0 else (other, one)
        found = {way: way()[figure] for way in order}
        ratios.append(found[one] / found[other])
        print(f"{title:52} {found[one]:8.2f} {found[other]:8.2f} {ratios[-1]:6.2f}", flush=True)
    print(f"{title:52} {'median':>17} {statistics.median(ratios):6.2f}", flush=True)


def main():
    """Make the photographs, and measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", help="a checkout of an earlier version of the package")
    parser.add_argument("--peers", action="store_true", help="measure other pipelines")
    parser.add_argument("--cores", action="store_true", help="measure two cores beside one")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=1024, help="images in a measurement")
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--folder", type=Path, help="of photographs, instead of made ones")
    parser.add_argument("--measure", choices=WAYS, help="of a process that measures one way")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.folder, options.batch, options.images)
        return
    with tempfile.TemporaryDirectory() as place:
        root = options.folder or Path(place) / "photos"
        if not options.folder:
            make(root, options.files)

        def way(name, batch_size, **how):
            return lambda: run(name, root, batch_size, options.images, **how)

        for batch in options.batches:
            new = way("package", batch)
            if options.before:
                old = way("package", batch, source=options.before)
                compare(f"CPU ms an image, batch {batch}: now, before", "cpu", options.pairs, new, old)
                compare(f"images/s, batch {batch}: now, before", "rate", options.pairs, new, old)
            if options.cores:
                two, one = (way("package", batch, cores=cores) for cores in ([0, 1], [0]))
                compare(f"images/s, batch {batch}: two cores, one", "rate", options.pairs, two, one)
                both = partial(side_by_side, 2, "package", root, batch, options.images)
                compare(f"images/s, batch {batch}: a process on each, one", "rate", options.pairs, both, one)
            if options.peers:
                keras = way("directory", batch)
                compare(f"images/s, batch {batch}: ours, Keras' and layers", "rate", options.pairs, new, keras)
                both = way("pillow", batch), way("graph", batch)
                compare(f"CPU ms, decoded and resized, {batch}: Pillow, graph", "cpu", options.pairs, *both)


if __name__ == "__main__":
    main()
