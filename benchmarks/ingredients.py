"""What each ingredient of a recipe is worth on CIFAR-10, at equal cost: the recipe `fast` is chosen from this table.

    python benchmarks/ingredients.py run --data CIFAR --keep DIR [--only nesterov …]      # goes on where it was stopped
    python benchmarks/ingredients.py run --data CIFAR --keep DIR --only nothing --seeds 1 2    # what seeds make of it
    python benchmarks/ingredients.py run --data CIFAR --keep DIR --flop 1e14 --seeds 3 4 5 --only …     # confirmed
    TF_NUM_INTRAOP_THREADS=1 taskset -c 0 python benchmarks/ingredients.py run … --part 1 --parts 2   # and the second
    python benchmarks/ingredients.py table

CIFAR is a folder root/{train,test}/<class>/*; the test images are not looked at. Each training is that of the shipped
network (NASNet-A, N=2, F=16) by the recipe `short`, at 16, 24 and 32 pixels, with one ingredient more, or another one
instead, for the whole number of epochs of 45,000 images that comes nearest to `--flop` operations (6 for each
multiply-add and image: forward, and twice that backward); the table shows what each really cost. What counts is the
accuracy on 5,000 held-out training images, the same for all. The best of twenty is ahead by luck alone, so those that
are chosen are trained longer, from seeds that did not choose them. DIR holds the states of trainings that were
interrupted; what has ended is a line in `ingredients.jsonl`.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

RESULTS = Path(__file__).with_suffix(".jsonl")
NETWORK = {"repeats": 2, "filters": 16, "stem": "cifar", "weight_decay": 0.0005}
SIZES = (16, 24, 32)
HELD_OUT = 0.1
# Changes to the recipe, to the network (`network`) and to the sizes; what stays at the end of each is the last stage.
INGREDIENTS = {
    "nothing": {},
    "Nesterov": {"nesterov": True},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "label smoothing 0.2": {"label_smoothing": 0.2},
    "warm-up, one epoch": {"warmup_epochs": 1.0},
    "alternating flips, reflected crops": {"augmentation": "alternating"},
    "averaged weights, 0.99": {"moving_average": 0.99},
    "averaged weights, 0.995": {"moving_average": 0.995},
    "cutout 8": {"cutout": 8},
    "MixUp 0.2": {"mixup": 0.2},
    "CutMix 1": {"cutmix": 1.0},
    "batches of 64": {"batch_size": 64},
    "rate 0.2": {"learning_rate": 0.2},
    "rate 0.05": {"learning_rate": 0.05},
    "no clipping": {"clip_norm": 100.0},
    "weight decay 0.001": {"network": {"weight_decay": 0.001}},
    "weight decay 0.0002": {"network": {"weight_decay": 0.0002}},
    "batch norm momentum 0.99": {"network": {"batch_norm_momentum": 0.99}},
    "32 pixels from the start": {"sizes": (32,)},
    "24 and 32 pixels": {"sizes": (24, 32)},
    "AdamW": {"optimizer": "adamw", "learning_rate": 0.004, "decoupled_decay": 0.02, "network": {"weight_decay": 0.0}},
}


def cost_of(count, multiply_adds, sizes, images):
    """Operations of a training: 6 for each multiply-add and image, at each stage's size."""
    from nasnet_keras.training.recipes import stages

    begun, cost = 0, 0.0
    for end, size in stages(count, sizes):
        cost += 6 * multiply_adds * images * (end - begun) * (size / 32) ** 2
        begun = end
    return cost


def epochs(flop, *costs):
    """Epochs whose cost comes nearest to so many operations; `costs` are those of `cost_of`, after the first."""
    sizes = costs[1]
    counts = range(len(sizes), 1000)
    above = next((count for count in counts if cost_of(count, *costs) >= flop), counts[-1])
    return min(max(len(sizes), above - 1), above, key=lambda count: abs(cost_of(count, *costs) - flop))


def train(name, seed, flop, data, folder):
    """One training; the line that is kept of it."""
    from nasnet_keras import NASNet, multiply_adds
    from nasnet_keras.models.seeds import drawn_from
    from nasnet_keras.training import fitting, recipes

    changes = dict(INGREDIENTS[name])
    network, sizes = {**NETWORK, **changes.pop("network", {})}, changes.pop("sizes", SIZES)
    recipe = replace(recipes.recipe("short", optimizer=changes.get("optimizer")), **changes)
    shape = (32, 32, 3) if len(sizes) == 1 else (None, None, 3)
    costs = multiply_adds(NASNet("nasnet_a", input_shape=(32, 32, 3), classes=len(data.class_names), **network))
    with drawn_from(seed):
        model = NASNet("nasnet_a", input_shape=shape, classes=len(data.class_names), **network)
    count = epochs(flop, costs, sizes, len(data.train))
    start, spent = time.perf_counter(), time.process_time()
    history = fitting.fit(
        model, data, recipe, epochs=count, seed=seed, directory=folder, checkpoint_every=100,
        sizes=None if len(sizes) == 1 else sizes, callbacks=[_told(name, count)],
    )  # fmt: skip
    cost = cost_of(count, costs, sizes, len(data.train))
    return {
        "ingredient": name, "seed": seed, "flop": flop, "epochs": count, "cost": round(cost / 1e12, 1),
        "curve": [round(one["val_accuracy"], 4) for one in history],
        # Of what was not interrupted; else of the last part.
        "seconds": round(time.perf_counter() - start), "of processors": round(time.process_time() - spent),
    }  # fmt: skip


def _told(name, count):
    import keras

    def tell(epoch, logs):
        print(f"{time.strftime('%T')} {name}: {epoch + 1} of {count}: {logs['val_accuracy']:.2%}", flush=True)

    return keras.callbacks.LambdaCallback(on_epoch_end=tell)


def kept():
    """The trainings that have ended; of a line that a kill tore, nothing."""
    content = RESULTS.read_text() if RESULTS.exists() else ""
    return [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]


def run(options):
    """Train what is not there yet."""
    from nasnet_keras import load_data

    data = load_data(f"{options.data}/train", image_size=32, validation=HELD_OUT, test=0, limit=options.limit, seed=0)
    done = {(row["ingredient"], row["seed"], row["flop"]) for row in kept()}
    wanted = list(product(options.seeds, options.only or INGREDIENTS))
    for seed, name in wanted[options.part - 1 :: options.parts]:
        if (name, seed, options.flop) in done:
            continue
        words = "".join(c if c.isalnum() else "_" for c in name)
        row = train(name, seed, options.flop, data, options.keep / f"{words}-{seed}-{options.flop:g}")
        print(json.dumps(row), flush=True)
        if not options.limit:
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table():
    """Lines of the table in RESULTS.md: the last accuracy of each, and how far it is from nothing more."""
    lines = ["| ingredient | PFLOP | seeds | validation accuracy | more than without |", "|---|---|---|---|---|"]
    for flop in sorted({row["flop"] for row in kept()}):
        found = {}
        for row in kept():
            if row["flop"] == flop:
                found.setdefault(row["ingredient"], {})[row["seed"]] = row
        reached = {name: {seed: 100 * row["curve"][-1] for seed, row in rows.items()} for name, rows in found.items()}
        for name, values in sorted(reached.items(), key=lambda pair: -statistics.mean(pair[1].values())):
            without = reached.get("nothing", {})
            more = [values[seed] - without[seed] for seed in values.keys() & without.keys()]
            more = f"{statistics.mean(more):+.2f}" if more and name != "nothing" else ""
            if name == "nothing" and len(values) > 1:
                more = f"± {statistics.stdev(values.values()):.2f} between seeds"
            cost = statistics.mean(row["cost"] for row in found[name].values()) / 1000
            lines.append(f"| {name} | {cost:.3f} | {len(values)} | {statistics.mean(values.values()):.2f}% | {more} |")
    return lines


def main():
    """Train, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", help="root/{train,test}/<class>/*")
    parser.add_argument("--keep", type=Path, help="where the states of trainings go")
    parser.add_argument("--flop", type=float, default=5e13, help="operations of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=tuple(INGREDIENTS), help="these alone")
    parser.add_argument("--part", type=int, default=1, help="run this one of so many parts: for a process on each core")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--limit", type=int, help="images, to try the script: nothing is kept")
    options = parser.parse_args()
    if options.what == "run":
        if options.data is None or options.keep is None:
            parser.error("run needs --data and --keep")
        if not 1 <= options.part <= options.parts:
            parser.error(f"--part must be from 1 to --parts, {options.parts}. Received: {options.part}")
        run(options)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
