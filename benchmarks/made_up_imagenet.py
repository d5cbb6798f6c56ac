"""ImageNet's form without ImageNet: made-up JPEG files of 1,000 classes, and the memory that a training on them takes.

Writes data sets of a stated size, as a folder and as TensorFlow Datasets keeps them (TFRecord and ArrayRecord), and
trains on each with one command, a process of its own. Prints the peak of each one's memory, of the large and of a small
data set beside it: images are read as they come, so it must not follow the data's size.

    python benchmarks/made_up_imagenet.py                              # 3 GiB beside 0.3 GiB, in three forms
    python benchmarks/made_up_imagenet.py --gib 0.2 --small 0.02 --classes 50    # in short
    python benchmarks/made_up_imagenet.py --command search             # a search, instead of a training
    python benchmarks/made_up_imagenet.py --forms tfrecord --recipe    # ImageNet's recipe, with a small network

Images are 500x375 pixels of smooth noise, some 70 kB each; 512 different ones are repeated.
Needs the extra `tfds`, and array_record for that form; disk for both sizes of one form at a time.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

FORMS = ("folder", "tfrecord", "array_record")
DIFFERENT = 512
SIZE = (500, 375)
COMMANDS = {
    "train": ["train", "--genotype", "tiny", "--repeats", "1", "--filters", "4", "--image-size", "64", "--epochs", "1"],
    "search": ["search", "--max-trials", "2", "--no-final", "--repeats", "1", "--filters", "4", "--image-size", "64"],
}
RECIPE = ["train", "--genotype", "nasnet_a", "--recipe", "imagenet", "--repeats", "1", "--filters", "8"]
# At 64 pixels the auxiliary head has too few places.
RECIPE += ["--image-size", "96", "--epochs", "1", "--batch-size", "64"]


def images():
    """Encoded JPEG files of smooth noise."""
    rng, width, height = np.random.default_rng(0), *SIZE
    for _ in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 25, width // 25, 3), np.uint8)).resize(SIZE)
        pixels = np.asarray(coarse, np.int16) + rng.integers(-28, 29, (height, width, 3), np.int16)
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=84)
        yield stream.getvalue()


def rows(encoded, gib, classes):
    """(number, bytes, class) of as many images as that size takes, at least two of each class."""
    left, number = gib * 2**30, 0
    while left > 0 or number < 2 * classes:
        one = encoded[number % len(encoded)]
        yield number, one, number % classes
        left, number = left - len(one), number + 1


def as_folder(root, encoded, gib, classes):
    """A folder for each class; what to name the data."""
    for label in range(classes):
        (root / f"n{label:08}").mkdir(parents=True)
    for number, one, label in rows(encoded, gib, classes):
        # A file's size tells its class from another's: equal files in two parts would be told of.
        (root / f"n{label:08}" / f"{number:08}.jpg").write_bytes(one + number.to_bytes(4, "big"))
    return str(root)


def as_tfds(root, encoded, gib, classes, form):
    """A prepared data set of TensorFlow Datasets, in a process of its own; how to name the data."""
    code = "import made_up_imagenet as own, sys; own.prepare(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(root), str(gib), str(classes), form]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})
    return "tfds:made_up"


def prepare(root, gib, classes, form):
    """Write the data set, with the names and features of imagenet2012."""
    import tensorflow_datasets as tfds

    encoded, classes = list(images()), int(classes)
    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=classes),
    }
    examples = (
        (number, {"file_name": f"{number}.jpg", "image": io.BytesIO(one), "label": label})
        for number, one, label in rows(encoded, float(gib), classes)
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="made_up",
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples},
        file_format=form,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )


def peak(words, log, data):
    """(MB at the peak, seconds, exit code) of a command that finds TFDS data in a folder; its output goes to a file."""
    start = time.perf_counter()
    environment = {**os.environ, "TFDS_DATA_DIR": str(data), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(log, "wb") as stream:
        words = [sys.executable, "-m", "nasnet_keras.cli", *words]
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    return usage.ru_maxrss / 1024, time.perf_counter() - start, os.waitstatus_to_exitcode(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--gib", type=float, default=3.0, help="encoded size of the large data set")
    parser.add_argument("--small", type=float, default=0.3, help="encoded size of the small one")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--command", choices=COMMANDS, default="train")
    parser.add_argument("--recipe", action="store_true", help="ImageNet's recipe, instead of the default")
    parser.add_argument("--folder", help="where to put the data, a temporary folder by default")
    parser.add_argument("words", nargs="*", help="further options of the command, after --")
    options = parser.parse_args()
    encoded, command = list(images()), RECIPE if options.recipe else COMMANDS[options.command]
    print(f"{len(encoded)} different images of {np.mean([len(one) for one in encoded]) / 1000:.0f} kB", flush=True)
    for form in options.forms:
        found = []
        for gib in (options.small, options.gib):
            with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
                root, start = Path(temporary), time.perf_counter()
                make = as_folder if form == "folder" else lambda *arguments, form=form: as_tfds(*arguments, form)
                data = make(root / "data", encoded, gib, options.classes)
                made = time.perf_counter() - start
                words = [*command, "--data", data, "--directory", str(root / "net"), *options.words]
                memory, seconds, code = peak(words, root / "log", root / "data")
                *_, last = (root / "log").read_text().strip().splitlines() or [""]
            found.append(memory)
            print(f"{form}, {gib} GiB (made in {made:.0f} s): exit code {code}, {seconds:.0f} s, {memory:.0f} MB")
            print(f"  {last}", flush=True)
        more = options.gib / options.small
        print(f"{form}: {found[1] - found[0]:+.0f} MB with {more:.0f} times the data", flush=True)


if __name__ == "__main__":
    main()
