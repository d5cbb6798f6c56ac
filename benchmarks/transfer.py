"""What pretrained weights are worth: `nasnet-keras finetune` from a file against the same network from scratch.

    python benchmarks/transfer.py --flowers DIR --weights cifar10 [--seeds 0 1 2]

Both start from the same architecture and have the same images, epochs and augmentation. Every fifth photograph of a
class, in the order of their names, is for testing, whatever the seed; a seed decides which ones are watched for
early stopping, the order of the others, and random weights. A run that stands in RESULTS is not made again, so the
command can be interrupted. `results.py` makes the table from RESULTS.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "transfer.json"
STARTS = {"pretrained": "from the weights", "none": "from scratch"}


def divide(flowers, root):
    """A folder root/{train,test}/<class> of links: every fifth photograph is for testing."""
    for folder in sorted(path for path in Path(flowers).resolve().iterdir() if path.is_dir()):
        for index, file in enumerate(sorted(folder.iterdir())):
            part = root / ("test" if index % 5 == 0 else "train") / folder.name
            part.mkdir(parents=True, exist_ok=True)
            (part / file.name).symlink_to(file)


def command(options, start, seed, data, directory):
    """The command line of one run."""
    weights = options.weights if start == "pretrained" else "none"
    settings = ("repeats", "filters", "image_size", "epochs", "limit", "batch_size", "learning_rate")
    chosen = {name: getattr(options, name) for name in settings if getattr(options, name) is not None}
    flags = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = ["finetune", "--model", "NASNetCIFAR", "--weights", weights, "--data", str(data), *flags]
    return [*words, "--seed", str(seed), "--directory", str(directory), "--json", *options.more.split()]


def run(words):
    """Make one run: its figures, and the seconds it took, by the clock and of processors."""
    start, before = time.perf_counter(), processor_seconds()
    program = "import sys; from nasnet_keras.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True, check=True)
    seconds = {"seconds": time.perf_counter() - start, "processor_seconds": processor_seconds() - before}
    return {**json.loads(done.stdout.splitlines()[-1]), **seconds}


def processor_seconds():
    """What this process's finished children have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table():
    """The results as lines of Markdown."""
    results = json.loads(RESULTS.read_text())
    yield f"`nasnet-keras {results['command']}`, and `--weights none`:"
    yield ""
    yield "| start | test accuracy by seed | mean | seconds by seed | of processors |"
    yield "|---|---|---|---|---|"
    for start, name in STARTS.items():
        rows = [row for row in results["runs"] if row["start"] == start]
        if rows:
            accuracies = ", ".join(f"{100 * row['accuracy']:.1f}%" for row in rows)
            mean = 100 * statistics.mean(row["accuracy"] for row in rows)
            seconds = (", ".join(f"{row[key]:.0f}" for row in rows) for key in ("seconds", "processor_seconds"))
            yield f"| {name} | {accuracies} | **{mean:.1f}%** | {' | '.join(seconds)} |"


def main():
    """Make the runs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowers", required=True, help="the folder with the five classes")
    parser.add_argument("--weights", default="cifar10", help="a name of the index, or a file")
    parser.add_argument("--repeats", type=int, default=2, help="N of the network")
    parser.add_argument("--filters", type=int, default=16, help="F of the network")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
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
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"command": shown, "runs": []}
    if results["command"] != shown:
        sys.exit(f"{RESULTS} holds runs of another command: {results['command']}")
    made = {(row["start"], row["seed"]) for row in results["runs"]}
    with tempfile.TemporaryDirectory() as folder:
        divide(options.flowers, Path(folder) / "flowers")
        for seed in options.seeds:
            for start in options.starts:
                if (start, seed) in made:
                    continue
                words = command(options, start, seed, Path(folder) / "flowers", Path(folder) / f"{start}-{seed}")
                figures = {"start": start, "seed": seed, **run(words)}
                figures.pop("directory")
                results["runs"].append(figures)
                results["runs"].sort(key=lambda row: row["seed"])
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
