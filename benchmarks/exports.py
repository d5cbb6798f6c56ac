"""What every exported format of the shipped network costs: size, time of an image, accuracy on CIFAR-10.

    python benchmarks/exports.py --data CIFAR [--networks shipped]

CIFAR is a folder root/{train,test}/<class>/*; 200 of its training images are what int8 is measured on, all test images
are what is counted. Each format is `nasnet-keras export … --evaluate`, all its precisions in one command. The extras
onnx, litert, openvino and nncf must be installed. `bounded` and `unbounded` are two small networks, trained here alike,
of which one keeps its activations within ±6; `mobile` is NASNetMobile at 224 pixels with random weights and 100 images,
and `times` the shipped network with 100 images: of these only the times count, and nothing else should run. Figures are
kept in `exports.json`, a network at a time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).with_suffix(".json")
CLI = (sys.executable, "-m", "nasnet_keras.cli")
FORMATS = {
    "saved_model": (("--format", "saved_model"),),
    "onnx": (("--format", "onnx", "--precision", "float32", "int8"),),
    "litert": (
        ("--format", "litert", "--precision", "float32", "float16", "dynamic", "int8"),
        ("--format", "litert", "--precision", "int8", "--io", "uint8"),
    ),
    "openvino": (("--format", "openvino", "--precision", "float32", "int8"),),
}
SHOWN = ("shipped", "times", "mobile")  # in RESULTS.md
NETWORKS = ("shipped", "times", "unbounded", "bounded", "mobile")
SMALL = {"repeats": 1, "filters": 8, "stem": "cifar"}
LIMIT, EPOCHS = 20_000, 6


def trained(name, data, folder):
    """A model that `export` takes, trained if need be."""
    import keras

    from nasnet_keras import RECIPES, NASNet, NASNetMobile, load_data
    from nasnet_keras.training import fitting

    if name in ("shipped", "times"):
        return "NASNetCIFAR"
    if name == "mobile":
        classes = sorted(path.name for path in Path(data, "test").iterdir())
        keras.utils.set_random_seed(1)  # with some random weights the runtimes' int8 is too far from the network
        NASNetMobile(weights=None, classes=len(classes), class_names=classes).save(folder / "mobile.keras")
        return str(folder / "mobile.keras")
    data = load_data(data, image_size=32, limit=LIMIT)
    network = {**SMALL, "classes": len(data.class_names), "class_names": data.class_names}
    model = NASNet("nasnet_a", input_shape=(32, 32, 3), bounded_activations=name == "bounded", **network)
    fitting.fit(model, data, RECIPES["short"], epochs=EPOCHS, seed=1, directory=folder / name)
    fitting.save_model(model, folder / name, input_shape=data.image_shape)
    return str(folder / name)


def few(data, folder, count=10):
    """A folder with so many of each class's images, links."""
    for kind in sorted(Path(data, "test").iterdir()):
        (folder / "few" / kind.name).mkdir(parents=True)
        for path in sorted(kind.iterdir())[:count]:
            (folder / "few" / kind.name / path.name).symlink_to(path.resolve())
    return folder / "few"


def exported(model, data, judged, folder):
    """The rows that `export --evaluate --json` gives, each format in a process of its own."""
    rows = []
    for kind, ways in FORMATS.items():
        for number, options in enumerate(ways):
            words = ["export", "--model", model, "--output", str(folder / f"{kind}{number}"), *options, "--json"]
            words += ["--calibration", f"{data}/train"] * ("int8" in options) + ["--evaluate", str(judged)]
            done = subprocess.run([*CLI, *words], check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])["evaluation"]
            rows += [{**row, "images": found["images"], "format": kind} for row in found["files"]]
            print("\n".join(map(str, found["files"])), flush=True)
    return rows


def table():
    """Lines of the table in RESULTS.md; the model itself is that of the first process."""
    found = json.loads(RESULTS.read_text())
    heads = ("file", "MB", "accuracy", "points lost", "ms an image", "NASNetMobile: MB", "ms an image")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for place, (row, quiet, mobile) in enumerate(zip(*(found[name] for name in SHOWN), strict=True)):
        if place and row["bytes"] is None:
            continue
        size, lost, other = ("", "", "")
        if row["bytes"] is not None:
            size, lost, other = f"{row['bytes'] / 1e6:.2f}", f"{row['drop']:.2f}", f"{mobile['bytes'] / 1e6:.1f}"
        cells = [row["name"], size, f"{row['accuracy']:.2%}", lost, f"{quiet['milliseconds']:.1f}", other]
        lines.append(f"| {' | '.join(cells)} | {mobile['milliseconds']:.1f} |")
    return lines


def main():
    """Measure the networks that are asked for, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="root/{train,test}/<class>/*")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.networks:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            judged = few(options.data, folder) if name in ("times", "mobile") else f"{options.data}/test"
            found[name] = exported(trained(name, options.data, folder), options.data, judged, folder)
        RESULTS.write_text(json.dumps(found, indent=0) + "\n")
    print("\n".join(table()))


if __name__ == "__main__":
    main()
