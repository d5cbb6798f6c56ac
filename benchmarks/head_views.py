"""What it costs in accuracy to train a head on features that were computed once: `finetune --head-views`.

    python benchmarks/head_views.py --data flowers [--seeds 0 1 2] [--views none 1 2]

The CIFAR-10 weights of the package on photographs of 64 pixels, the head alone, with the recipe's augmentation: without
kept features (each epoch sees other crops), and with so many views of each image. Every fifth photograph of a class is
for testing, whatever the seed. Runs are kept in `head_views.json`, and what is there is not run again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transfer import divide

RESULTS = Path(__file__).with_suffix(".json")


def run(data, views, seed, epochs):
    """One fine-tuning in a process of its own: what RESULTS has of it."""
    with tempfile.TemporaryDirectory() as folder:
        common = [sys.executable, "-m", "nasnet_keras.cli"]
        words = ["finetune", "--model", "NASNetCIFAR", "--weights", "cifar10", "--data", str(data)]
        words += [
            "--image-size",
            "64",
            "--unfreeze",
            "head",
            "--epochs",
            str(epochs),
            "--patience",
            "0",
            "--seed",
            str(seed),
        ]
        words += ["--directory", f"{folder}/net", *([] if views == "none" else ["--head-views", views])]
        start = time.perf_counter()
        subprocess.run([*common, *words], check=True)
        seconds = time.perf_counter() - start
        words = ["evaluate", "--model", f"{folder}/net", "--data", str(data), "--json"]
        done = subprocess.run([*common, *words], check=True, stdout=subprocess.PIPE, text=True)
    accuracy = json.loads(done.stdout.splitlines()[-1])["accuracy"]
    return {"views": views, "seed": seed, "epochs": epochs, "accuracy": accuracy, "seconds": round(seconds)}


def main():
    """Run what is not there yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder with one for each class")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--views", nargs="+", default=("none", "1", "2"))
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        divide(options.data, Path(folder) / "flowers")
        for seed in options.seeds:
            for views in options.views:
                key = {"views": views, "seed": seed, "epochs": options.epochs}
                if not any(key.items() <= one.items() for one in found):
                    found.append(run(Path(folder) / "flowers", views, seed, options.epochs))
                    RESULTS.write_text(json.dumps(found, indent=0) + "\n")
    for views in options.views:
        rows = [one for one in found if one["views"] == views and one["epochs"] == options.epochs]
        accuracies = ", ".join(f"{one['accuracy']:.2%}" for one in rows)
        mean, seconds = (statistics.mean(one[name] for one in rows) for name in ("accuracy", "seconds"))
        print(f"views {views}: {accuracies}; mean {mean:.2%}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
