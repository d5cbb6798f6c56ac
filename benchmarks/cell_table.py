"""A table of the paper's search space: 2,000 cells trained as micro-children from three seeds, some of them longer.

    python benchmarks/cell_table.py --data CIFAR --output DIR [--part random] [--processes N]
    python benchmarks/cell_table.py --pack DIR cell_table.jsonl.gz      # at any time, with what is there
    python benchmarks/cell_table.py --unpack cell_table.jsonl.gz DIR    # to go on elsewhere

CIFAR is a folder root/{train,test}/<class>/*. The children are those of RESULTS.md (`cifar_search.py`): 16×16 images,
N=1, F=4, one epoch of 60 batches of 32, judged on 1,050 validation images. All cells see the same images, and seed 0 of
one cell is seed 0 of every other. The parts, in the order in which they are trained, for which the table is of use long
before it is whole:

- `known`: NASNet-A as the text and as figure 4 have it, and PNASNet-5, from three seeds;
- `random`: 1,500 cells of `SearchSpace()`, drawn uniformly, from seed 0;
- `trajectories`: 500 cells that searches propose, from seed 0, whose accuracy is their reward, a third each:
  regularised evolution (Real et al.'s values; its first population is 100 of the random cells), local search (from the
  best of 20 random cells to the first better one of those that differ in one decision) and RL (tuned, as the command
  has it).
  After 84 new cells or 300 proposals a strategy begins another search; a cell seen before is not trained again;
- `seeds`: the random cells and those of the searches from seeds 1 and 2, in an order that mixes them;
- `longer`: 140 random cells, 20 of each strategy, spread over its searches, and the known ones: two seeds with 3 and
  with 9 epochs at F=8, and the accuracy after each epoch. The choice looks at no accuracy.

Every training is one line in DIR/table-<process>.jsonl. The script may be stopped at any time; the same command goes
on: what is there is not trained again, and searches are repeated from the records. `load_table` reads what `--pack`
wrote.
"""

import argparse
import fcntl
import gzip
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import deque
from itertools import count
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# The results do not depend on threads; a child on a single one needs a sixth less of the processor.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

FORMAT = "nasnet-cell-table/1"
PARTS = ("known", "random", "trajectories", "seeds", "longer")
KNOWN = ("nasnet_a", "nasnet_a_figure4", "pnasnet_5")
IMAGES = {"image_size": 16, "limit": 3000, "validation": 0.35, "seed": 0}
CHILD = {"repeats": 1, "batch_size": 32}
SHORTEST = {"filters": 4, "epochs": 1}
LONGER = ({"filters": 8, "epochs": 3}, {"filters": 8, "epochs": 9})
SEEDS, LONGER_SEEDS = (0, 1, 2), (0, 1)
TUNED = {"learning_rate": 0.006, "batch_size": 4}
STRATEGIES = ("evolution", "local", "rl")
# The random cells a strategy's search number n begins with: so many, from this one on for search 0.
BEGINNINGS = {"evolution": (100, 0), "local": (20, 1000), "rl": (0, 0)}
PROPOSALS = 300
SIZES = {"random": 1500, "trajectories": (167, 167, 166), "search": 84, "longer_random": 140, "longer_found": 20}
SHORT_SIZES = {"random": 4, "trajectories": (3, 3, 3), "search": 2, "longer_random": 1, "longer_found": 1}
KEY = ("cell", "filters", "epochs", "seed")


class Records:
    """The trainings so far, by `KEY`; new ones are appended to the file of this process.

    Args:
        folder: a `Path`; made where it does not exist.
        process: the number of this process.
    """

    def __init__(self, folder, process):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"table-{process}.jsonl").open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{self._file.name} is being written by another process")
        content = Path(self._file.name).read_bytes()
        self._file.truncate(content.rfind(b"\n") + 1)  # a line that a kill tore
        self.found = {tuple(row[name] for name in KEY): row for row in read_records(folder)}

    def add(self, row):
        """Append a record, on the disk when this returns."""
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.found[tuple(row[name] for name in KEY)] = row


def read_records(folder):
    """The records of a folder's whole lines, as dicts."""
    for path in sorted(folder.glob("table-*.jsonl")):
        content = path.read_bytes()
        yield from map(json.loads, content[: content.rfind(b"\n") + 1].splitlines())


class Progress:
    """Lines with the time left, on stderr and in DIR/progress.log, one a minute.

    Args:
        folder: a `Path`.
        process: the number of this process.
        epochs: epochs that it has to train in all. One at F=8 takes about as long as a whole child at F=4.
    """

    def __init__(self, folder, process, epochs):
        self._path, self._process, self._total, self._left = folder / "progress.log", process, epochs, epochs
        self._recent, self._told = deque(maxlen=60), time.monotonic()

    def update(self, row, is_new):
        """Count a record, new or found."""
        self._left -= row["epochs"]
        if is_new:
            self._recent.append(row["seconds"] / row["epochs"])
            if time.monotonic() - self._told > 60:
                self.tell(row["cell"])

    def tell(self, cell):
        """Write a line."""
        self._told = time.monotonic()
        rate = statistics.median(self._recent) if self._recent else 0.0
        line = f"{time.strftime('%F %T')} process {self._process}: {cell}, {self._total - self._left} of {self._total} "
        line += f"epochs, {rate:.2f} s each, {self._left * rate / 3600:.1f} hours left"
        print(line, file=sys.stderr, flush=True)
        with self._path.open("a") as file:
            file.write(line + "\n")


class Table:
    """Trains what is not there yet.

    Args:
        options: the command's: `data`, `output`, `short`, `processes`.
        process: the number of this process, which decides what it trains.
        parts: names from `PARTS` that it has a share in.
    """

    def __init__(self, options, process, parts):
        from nasnet_keras import SearchSpace, load_data

        self.folder, self.sizes = Path(options.output), SHORT_SIZES if options.short else SIZES
        self.share = slice(process, None, options.processes)
        self.records, self.space = Records(self.folder, process), SearchSpace()
        self.data = load_data(options.data, **IMAGES, split_rule="seeded")  # as the published table was made
        self._claim()
        self.random = random_cells(self.space, self.sizes["random"])
        longer = len(LONGER_SEEDS) * sum(size["epochs"] for size in LONGER)
        chosen = len(KNOWN) + self.sizes["longer_random"] + len(STRATEGIES) * self.sizes["longer_found"]
        epochs = {
            "known": len(SEEDS) * len(KNOWN[self.share]),
            "random": len(range(self.sizes["random"])[self.share]),
            "trajectories": sum(self.sizes["trajectories"][self.share]),
            "seeds": (len(SEEDS) - 1) * len(range(self.sizes["random"] + sum(self.sizes["trajectories"]))[self.share]),
            "longer": longer * len(range(chosen)[self.share]),
        }
        self.progress = Progress(self.folder, process, sum(epochs[part] for part in parts))

    def run(self, part):
        """Train this process's share of a part."""
        getattr(self, f"_run_{part}")()
        self.progress.tell(f"{part} is done")

    def train(self, cell, part, decisions, seed, filters, epochs):
        """The record of a training, after it where it is not there yet.

        Args:
            cell: the cell's name.
            part: the part it belongs to.
            decisions: a tuple; None for a stored genotype, whose name is the cell's.
            seed: the child's seed.
            filters, epochs: the child's size, and how long it trains.

        Raises:
            ValueError: the record of this name is another cell's.
        """
        from nasnet_keras import ChildSettings, load_genotype

        row = self.records.found.get((cell, filters, epochs, seed))
        if is_new := row is None:
            genotype = load_genotype(cell) if decisions is None else self.space.decode(decisions)
            row = {"cell": cell, "part": part, "filters": filters, "epochs": epochs, "seed": seed}
            row |= {"genotype": genotype.to_dict()} if decisions is None else {"decisions": decisions}
            child, curve = ChildSettings(**CHILD, filters=filters, epochs=epochs), []
            watch = {"on_epoch": lambda _, accuracy: curve.append(accuracy)} if epochs > 1 else {}
            start, processor = time.perf_counter(), time.process_time()
            try:
                figures = child.evaluate(genotype, self.data, seed, **watch)
                row |= {"accuracy": figures.pop("reward"), **figures}
            except (ArithmeticError, ValueError) as error:  # a fact about this cell, not of this machine
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                row |= {"accuracy": None, **child.sizes(genotype, self.data), "reason": reason}
            row |= {"curve": curve} if curve else {}
            row["seconds"] = time.perf_counter() - start
            row["processor_seconds"] = time.process_time() - processor
            self.records.add(row)
        if decisions is not None and tuple(row["decisions"]) != tuple(decisions):
            raise ValueError(f"the record of {cell} in {self.folder} is another cell's: it is another table's")
        self.progress.update(row, is_new)
        return row

    def _run_known(self):
        for name in KNOWN[self.share]:
            for seed in SEEDS:
                self.train(name, "known", None, seed, **SHORTEST)

    def _run_random(self):
        for cell, decisions in list(self.random.items())[self.share]:
            self.train(cell, "random", decisions, SEEDS[0], **SHORTEST)

    def _run_trajectories(self):
        if any(self._reward(cell) is None for cell in self.random):
            sys.exit("the searches begin with the random cells: run `--part random` first")
        for strategy, cells in list(zip(STRATEGIES, self.sizes["trajectories"], strict=True))[self.share]:
            self._follow(strategy, cells)

    def _follow(self, strategy, cells):
        """Train so many new cells that searches of a strategy propose."""
        seen = {decisions: cell for cell, decisions in self.random.items()}
        for search in count():
            proposals, found = self._search(strategy, search), 0
            decisions = next(proposals)
            for _ in range(PROPOSALS):
                if decisions not in seen:
                    cell = seen[decisions] = f"{strategy}-{search}-{found:03}"
                    self.train(cell, strategy, decisions, SEEDS[0], **SHORTEST)
                    found, cells = found + 1, cells - 1
                    if not cells:
                        return
                    if found == self.sizes["search"]:
                        break
                decisions = proposals.send(self._reward(seen[decisions])["accuracy"])

    def _search(self, strategy, search):
        """A generator of decisions that is sent the reward of each, None for a failure."""
        from nasnet_keras import Controller, ControllerSettings, NASNetOracle

        cells, first = list(self.random), BEGINNINGS[strategy][1]
        size = min(BEGINNINGS[strategy][0], len(cells))
        names = [cells[(first + search * size + place) % len(cells)] for place in range(size)]
        beginning = [(self.random[name], self._reward(name)["accuracy"]) for name in names]
        if strategy == "local":
            return climb(self.space, search, beginning)
        if strategy == "rl":
            return ask(Controller(self.space, ControllerSettings(**TUNED), search), beginning)
        return ask(NASNetOracle(1, self.space, strategy, seed=search).strategy, beginning)

    def _run_seeds(self):
        cells = {cell: ("random", decisions) for cell, decisions in self.random.items()}
        cells |= {cell: found for found_cells in self._found().values() for cell, found in found_cells.items()}
        names = [list(cells)[place] for place in np.random.default_rng([0, 0x5EED]).permutation(len(cells))]
        for seed in SEEDS[1:]:
            for name in names[self.share]:
                self.train(name, *cells[name], seed, **SHORTEST)

    def _run_longer(self):
        for cell, (part, decisions) in list(self._chosen().items())[self.share]:
            for seed in LONGER_SEEDS:
                for size in LONGER:
                    self.train(cell, part, decisions, seed, **size)

    def _chosen(self):
        """The cells to train longer, in an order whose every beginning is a mixture: `{name: (part, decisions)}`."""
        chosen = {cell: ("random", self.random[cell]) for cell in list(self.random)[: self.sizes["longer_random"]]}
        for found in self._found().values():
            for place in np.linspace(0, len(found) - 1, self.sizes["longer_found"]).round().astype(int):
                chosen[list(found)[place]] = list(found.values())[place]
        order = np.random.default_rng([0, 0x10E6]).permutation(len(chosen))
        names = [list(chosen)[place] for place in order]
        return {name: ("known", None) for name in KNOWN} | {name: chosen[name] for name in names}

    def _found(self):
        """The cells of the searches, in the order of their names: `{strategy: {name: (strategy, decisions)}}`."""
        found = {}
        for strategy, cells in zip(STRATEGIES, self.sizes["trajectories"], strict=True):
            rows = {key[0]: row for key, row in self.records.found.items() if row["part"] == strategy}
            if len(rows) < cells:
                sys.exit("some of the cells are of the searches: run `--part trajectories` first")
            found[strategy] = {cell: (strategy, tuple(rows[cell]["decisions"])) for cell in sorted(rows)}
        return found

    def _reward(self, cell):
        """The record that a search learns from; None where it is not there."""
        return self.records.found.get((cell, SHORTEST["filters"], SHORTEST["epochs"], SEEDS[0]))

    def _claim(self):
        """Note what this table is made with, or refuse a folder with another one."""
        import keras
        import tensorflow

        digest = hashlib.sha256()
        for split in (self.data.train, self.data.validation):
            digest.update(split.images[:].tobytes() + split.labels.tobytes())
        settings = {
            "format": FORMAT,
            "space": self.space.to_dict(),
            "images": {**IMAGES, "sha256": digest.hexdigest()},
            "child": CHILD,
            "sizes": self.sizes,
            "versions": {"tensorflow": tensorflow.__version__, "keras": keras.__version__, "numpy": np.__version__},
        }
        settings, path = json.loads(json.dumps(settings)), self.folder / "settings.json"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(settings, indent=2) + "\n")
            partial.replace(path)
        there = json.loads(path.read_text())
        for name in settings:
            if name != "versions" and there[name] != settings[name]:
                sys.exit(f"{self.folder} has a table of other {name}: {there[name]}, not {settings[name]}")


def random_cells(space, size):
    """`{name: decisions}` of so many cells; a smaller table's are the first of a larger one's."""
    rng, cells = np.random.default_rng([0, 0xCE11]), {}
    while len(cells) < size:
        decisions = space.random(rng)
        if decisions not in cells.values():
            cells[f"random-{len(cells):04}"] = decisions
    return cells


def ask(strategy, beginning):
    """The proposals of a `Strategy`, which first learns from `(decisions, reward)` pairs; is sent their rewards."""
    for number, (decisions, reward) in enumerate(beginning, 1):
        strategy.feedback(strategy.adopt(-number, decisions), reward)
    while True:
        proposal = strategy.propose()
        strategy.feedback(proposal, (yield proposal.decisions))


def climb(space, seed, beginning):
    """Local search: cells that differ from the best one in one decision, until one is better; is sent their rewards."""
    rng, tried = np.random.default_rng([seed, 0x10CA]), set()
    best, height = max(((cell, -1.0 if reward is None else reward) for cell, reward in beginning), key=lambda it: it[1])
    mutable = [place for place, decision in enumerate(space.decisions) if len(decision.choices) > 1]
    while True:
        place, decisions = int(rng.choice(mutable)), list(best)
        choices = len(space.decisions[place].choices)
        decisions[place] = (decisions[place] + 1 + int(rng.integers(choices - 1))) % choices
        if (decisions := tuple(decisions)) not in tried:
            tried.add(decisions)
            reward = yield decisions
            if reward is not None and reward > height:
                best, height = decisions, reward


def pack(folder, path):
    """Write the records of a folder to one compressed file: a line of settings, then one for each cell, sorted.

    A cell's line has its `cell`, `part`, `decisions` (or the `genotype` of a known one), and its `networks`: for each
    number of filters and epochs the `parameters`, `multiply_adds` and by seed, from 0, the `accuracy`, the `seconds` of
    the processor and, of several epochs, the `curve` of accuracies. None stands for what failed or is not there.
    """
    cells = {}
    for row in read_records(folder):
        what = {name: row[name] for name in ("cell", "part", "decisions", "genotype") if name in row}
        networks = cells.setdefault(row["cell"], (what, {}))[1]
        networks.setdefault((row["filters"], row["epochs"]), {})[row["seed"]] = row
    order = ("known", "random", *STRATEGIES)
    lines = [json.loads((folder / "settings.json").read_text())]
    for what, networks in sorted(cells.values(), key=lambda cell: (order.index(cell[0]["part"]), cell[0]["cell"])):
        lines.append({**what, "networks": [_network(rows) for _, rows in sorted(networks.items())]})
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    Path(path).write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(cells)} cells, {Path(path).stat().st_size:,} bytes")


def unpack(path, folder):
    """Write what `pack` wrote as the records of a folder, which is gone on with as if they had been made there."""
    if folder.exists():
        sys.exit(f"{folder} must not exist yet: records would be there twice")
    settings, *cells = map(json.loads, gzip.decompress(Path(path).read_bytes()).splitlines())
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    judged = round(settings["images"]["limit"] * settings["images"]["validation"])
    with (folder / "table-unpacked.jsonl").open("w") as file:
        for cell in cells:
            for network in cell.pop("networks"):
                for seed, accuracy in enumerate(network["accuracy"]):
                    if network["seconds"][seed] is None:
                        continue  # it has not been trained
                    row = {**cell, **{name: network[name] for name in ("filters", "epochs")}, "seed": seed}
                    row |= {name: network[name] for name in ("parameters", "multiply_adds")}
                    # The very number that was written: a share of the validation images.
                    row["accuracy"] = accuracy if accuracy is None else round(accuracy * judged) / judged
                    row |= {"curve": network["curve"][seed]} if "curve" in network else {}
                    row |= {name: network["seconds"][seed] for name in ("seconds", "processor_seconds")}
                    file.write(json.dumps(row, separators=(",", ":")) + "\n")


def _network(rows):
    """The entry of one size of a cell's network, from its records by seed."""
    some = next(iter(rows.values()))
    entry = {name: some[name] for name in ("filters", "epochs", "parameters", "multiply_adds")}
    by_seed = [rows.get(seed, {}) for seed in range(max(rows) + 1)]
    # 1,050 images: six digits tell every accuracy.
    entry["accuracy"] = [_rounded(row.get("accuracy"), 6) for row in by_seed]
    entry["seconds"] = [_rounded(row.get("processor_seconds"), 2) for row in by_seed]
    if some["epochs"] > 1:
        entry["curve"] = [[_rounded(value, 6) for value in row.get("curve", ())] for row in by_seed]
    return entry


def _rounded(number, digits):
    return None if number is None else round(number, digits)


def load_table(path):
    """What `pack` wrote: the settings as a dict, and the cells, dicts as `pack` states, each with its `Genotype`.

    Raises:
        ValueError: another format.
    """
    from nasnet_keras import Genotype, SearchSpace

    settings, *cells = map(json.loads, gzip.decompress(Path(path).read_bytes()).splitlines())
    if settings.get("format") != FORMAT:
        raise ValueError(f"{path}: `format` must be {FORMAT!r}. Received: {settings.get('format')!r}")
    space = SearchSpace.from_dict(settings["space"])
    for cell in cells:
        known = "genotype" in cell
        cell["genotype"] = Genotype.from_dict(cell["genotype"]) if known else space.decode(cell["decisions"])
    return settings, cells


def work(options, parts, process):
    """Train the share of one process."""
    try:
        table = Table(options, process, parts)
        for part in parts:
            table.run(part)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)


def main():
    """Train, or pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder with CIFAR-10")
    parser.add_argument("--output", metavar="DIR", help="where the records go")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--processes", type=int, default=1, help="that share the work, a core each")
    parser.add_argument("--short", action="store_true", help="a handful of cells, to try it")
    parser.add_argument("--pack", nargs=2, metavar=("DIR", "FILE"), help="write the compact table of DIR's records")
    parser.add_argument(
        "--unpack", nargs=2, metavar=("FILE", "DIR"), help="write a compact table's records to a new DIR"
    )
    options = parser.parse_args()
    if options.unpack:
        return unpack(options.unpack[0], Path(options.unpack[1]))
    if options.pack:
        return pack(Path(options.pack[0]), options.pack[1])
    if not options.data or not Path(options.data).is_dir() or not options.output or options.processes < 1:
        parser.error("--data must be a folder, --output a folder for the records, --processes at least 1")
    parts = [options.part] if options.part else PARTS
    if options.processes == 1:
        return work(options, parts, 0)
    context = multiprocessing.get_context("spawn")
    for part in parts:  # a part needs all of those before it
        processes = [context.Process(target=work, args=(options, [part], n)) for n in range(options.processes)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit(max(abs(process.exitcode) for process in processes))


if __name__ == "__main__":
    sys.exit(main())
