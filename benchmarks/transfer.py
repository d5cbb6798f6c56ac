"""What pretrained weights are worth: `nasnet-keras finetune` from a file against the same network from scratch.

    python benchmarks/transfer.py --flowers DIR --image-size 64 --keep RUNS [--seeds 0 1 2]
    python benchmarks/transfer.py --flowers DIR --image-size 128 --keep RUNS --seeds 0

All start from the same architecture and have the same images, epochs and augmentation; one has its head learn from
features that are computed once. Every fifth photograph of a class, in the order of their names, is for testing,
whatever the seed; a seed decides which ones are watched, the order of the others, and random weights. Of each epoch is
kept how long after the command's start it ended, and its validation accuracy. RUNS holds what is trained: a run that
was interrupted goes on, and its clock with it. A run that stands in RESULTS is not made again. `results.py` makes the
table and the curves from RESULTS.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bands import draw_lines

RESULTS = Path(__file__).parent / "transfer.json"
# How each start is called, the options that make it, and its colour.
STARTS = {
    "pretrained": ("from the weights", ("--head-views", "0"), "#1c7ed6"),
    "features": ("from the weights, kept features", ("--head-views", "1"), "#d97706"),
    "none": ("from scratch", (), "#868e96"),
}
LOOK = 0.2  # seconds from one look at a training's history to the next


def divide(flowers, root):
    """A folder root/{train,test}/<class> of links: every fifth photograph is for testing."""
    for folder in sorted(path for path in Path(flowers).resolve().iterdir() if path.is_dir()):
        for index, file in enumerate(sorted(folder.iterdir())):
            part = root / ("test" if index % 5 == 0 else "train") / folder.name
            part.mkdir(parents=True, exist_ok=True)
            link = part / file.name
            if not link.is_symlink():
                link.symlink_to(file)


def command(options, start, seed, data, directory):
    """The command line of one run, without what makes it start elsewhere."""
    weights = "none" if start == "none" else options.weights
    settings = ("repeats", "filters", "image_size", "epochs", "limit", "batch_size", "learning_rate")
    chosen = {name: getattr(options, name) for name in settings if getattr(options, name) is not None}
    flags = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = ["finetune", "--model", options.model, "--weights", weights, "--data", str(data), *flags]
    return [*words, "--patience", "0", "--seed", str(seed), "--directory", str(directory), *options.more.split()]


def run(words, directory):
    """Make one run, or go on with it.

    Returns:
        its figures; `seconds` by the clock and of processors; and its `curve`: of each epoch its end in seconds
        after the command's start, and its validation accuracy.
    """
    clock = directory.with_name(f"{directory.name}.clock")
    known = json.loads(clock.read_text()) if clock.exists() else {"curve": [], "processor_seconds": 0.0}
    spent = known["curve"][-1][0] if known["curve"] else 0.0
    start, before = time.perf_counter(), processor_seconds()
    program = "import sys; from nasnet_keras.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", program, *words, "--json"], stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        time.sleep(LOOK)
        for row in epochs(directory)[len(known["curve"]) :]:
            known["curve"].append([round(spent + time.perf_counter() - start, 1), round(row["val_accuracy"], 4)])
            clock.write_text(json.dumps(known))
    if process.returncode:
        sys.exit(f"the run has failed: nasnet-keras {' '.join(words)}")
    figures = json.loads(process.stdout.read().splitlines()[-1])
    seconds = {"seconds": spent + time.perf_counter() - start, "processor_seconds": processor_seconds() - before}
    return {**figures, **{name: round(value, 1) for name, value in seconds.items()}, "curve": known["curve"]}


def epochs(directory):
    """The epochs that a fine-tuning in a directory has ended, in their order."""
    histories = (json.loads(path.read_text())["epochs"] for path in directory.glob("*/history.json"))
    return sorted((row for history in histories for row in history), key=lambda row: row["epoch"])


def processor_seconds():
    """What this process's finished children have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def kept():
    """The runs that have ended."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def table():
    """The results as lines of Markdown."""
    for line in dict.fromkeys(row["command"] for row in kept()):
        yield f"`nasnet-keras {line}`"
    yield ""
    yield "| pixels | start | test accuracy by seed | mean | seconds by seed | of processors |"
    yield "|---|---|---|---|---|---|"
    for size in sorted({row["image_size"] for row in kept()}):
        for start, (name, *_) in STARTS.items():
            rows = [row for row in kept() if (row["image_size"], row["start"]) == (size, start)]
            if rows:
                accuracies = ", ".join(f"{100 * row['accuracy']:.1f}%" for row in rows)
                mean = 100 * statistics.mean(row["accuracy"] for row in rows)
                seconds = (", ".join(f"{row[key]:.0f}" for row in rows) for key in ("seconds", "processor_seconds"))
                yield f"| {size} | {name} | {accuracies} | **{mean:.1f}%** | {' | '.join(seconds)} |"


def plot(path):
    """Draw the validation accuracy of every run over the minutes since its command was given."""
    panels, colours = {}, {name: colour for name, _, colour in STARTS.values()}
    for row in kept():
        if row.get("curve"):
            panel = panels.setdefault(f"validation accuracy in % over minutes, {row['image_size']} pixels", {})
            curve = [(seconds / 60, 100 * accuracy) for seconds, accuracy in row["curve"]]
            panel.setdefault(STARTS[row["start"]][0], []).append(curve)
    if panels:
        draw_lines(panels, colours, path)


def main():
    """Make the runs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowers", required=True, help="the folder with the five classes")
    parser.add_argument("--keep", type=Path, required=True, help="where what is trained goes")
    parser.add_argument("--model", default="NASNetCIFAR", help="what it starts from (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="a name of the index, or a file")
    parser.add_argument("--repeats", type=int, default=2, help="N of the network, without which scratch has another")
    parser.add_argument("--filters", type=int, default=16, help="F of the network")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, help="images for training and validation (default: all)")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--more", default="", help="further options of finetune, in one string")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if not Path(options.flowers).is_dir():
        parser.error(f"--flowers must be a folder. Received: {options.flowers}")
    shown = " ".join(command(options, "pretrained", 0, "flowers", "mine"))
    size = options.image_size
    others = {row["command"] for row in kept() if row["image_size"] == size} - {shown}
    if others:
        sys.exit(f"{RESULTS} holds runs of another command with {size} pixels: {min(others)}")
    divide(options.flowers, options.keep / "flowers")
    for seed in options.seeds:
        for start in options.starts:
            if any((row["start"], row["seed"], row["image_size"]) == (start, seed, size) for row in kept()):
                continue
            directory = options.keep / f"{start}-{seed}-{size}"
            words = [*command(options, start, seed, options.keep / "flowers", directory), *STARTS[start][1]]
            figures = {"start": start, "seed": seed, "image_size": size, "command": shown, **run(words, directory)}
            figures.pop("directory")
            rows = sorted([*kept(), figures], key=lambda row: (row["image_size"], row["seed"]))
            partial = RESULTS.with_suffix(".part")
            partial.write_text(json.dumps(rows, indent=1) + "\n")
            partial.replace(RESULTS)
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
