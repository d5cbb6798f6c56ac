"""Images a second of `predict` beside `evaluate`, on the same files: the whole commands, in turn.

    python benchmarks/many_images.py                        # NASNetMobile, 1,024 photographs of 500×375 pixels
    python benchmarks/many_images.py --model net --folder photos --pairs 5

Without `--folder` photographs of two classes are made in a temporary folder, without `--model` a network with random
weights. Each command is a process of its own, from its start to its end; `predict` writes a table of answers. What both
take with one image of each class is measured first: the second ratio is without it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from input import make


def seconds(*words):
    """How long a command takes."""
    command, start = [sys.executable, "-m", "nasnet_keras.cli", *map(str, words)], time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def main():
    """Make what is not given, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a directory or a file, for the classes of the folder")
    parser.add_argument("--folder", type=Path, help="of photographs, a folder for each class")
    parser.add_argument("--images", type=int, default=1024, help="photographs to make")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        root, model = options.folder or place / "photos", options.model or place / "net.keras"
        if not options.folder:
            make(root, options.images)
        if not options.model:
            from nasnet_keras import NASNetMobile

            NASNetMobile(weights=None, classes=2, class_names=("a", "b")).save(model)
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        for file in {path.relative_to(root).parts[0]: path for path in files}.values():
            link = place / "few" / file.relative_to(root)
            link.parent.mkdir(parents=True)
            link.symlink_to(file.absolute())
        ways = {
            "predict": ("predict", "--model", model, "--output", place / "answers.csv"),
            "evaluate": ("evaluate", "--model", model, "--split", "all", "--output", place / "a.svg", "--data"),
        }
        starts = {name: min(seconds(*words, place / "few") for _ in range(2)) for name, words in ways.items()}
        print("the start alone: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in starts.items()))
        print(f"{len(files):,} images, images/s: {'predict':>9} {'evaluate':>9} {'ratio':>9} {'beyond the start':>17}")
        ratios = []
        for number in range(options.pairs):
            order = list(ways) if number % 2 == 0 else list(ways)[::-1]
            spent = {name: seconds(*ways[name], root) for name in order}
            beyond = {name: spent[name] - starts[name] for name in ways}
            ratios.append([one["evaluate"] / one["predict"] for one in (spent, beyond)])
            rates = [len(files) / spent[name] for name in ways]
            print(f"{'':24} {rates[0]:9.1f} {rates[1]:9.1f} {ratios[-1][0]:9.2f} {ratios[-1][1]:17.2f}", flush=True)
        medians = [statistics.median(column) for column in zip(*ratios, strict=True)]
        print(f"{'median':44} {medians[0]:9.2f} {medians[1]:17.2f}")


if __name__ == "__main__":
    main()
