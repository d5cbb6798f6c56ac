"""How long a large folder takes before the first epoch, and how much memory: the first start, and the second one.

Makes so many links to a few JPEG files in a temporary folder, unless one is given, and starts twice as `train` with a
recipe that crops does: list, divide, compare equal files, digest, check. Each start is a process of its own, which says
what it took since its imports, and how many files it has looked into.

    python benchmarks/folders.py                        # 1,280,000 links in 1,000 classes
    python benchmarks/folders.py --files 100000 --classes 100000
    python benchmarks/folders.py --folder photos --parts
    python benchmarks/folders.py --files 1000000 --table csv   # the same files, named by a table
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from nasnet_keras.data import findings, loading
from nasnet_keras.data.folders import read_folder
from nasnet_keras.data.loading import decoded, open_data
from nasnet_keras.data.records import division, write_record
from nasnet_keras.data.tables import read_table

IMAGES = 256  # that links lead to
LONG_AGO = 1_600_000_000  # what has just been written is not remembered


def make(root, files, classes, side=64):
    """So many links to a few images, in a folder for each class."""
    rng, images = np.random.default_rng(0), root.parent / "images"
    images.mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.jpg")
        os.utime(images / f"{number}.jpg", (LONG_AGO, LONG_AGO))
    for number in range(classes):
        (root / f"class_{number:06}").mkdir(parents=True)
    for number in range(files):
        os.symlink(images / f"{number % IMAGES}.jpg", root / f"class_{number % classes:06}" / f"image_{number:08}.jpg")


def write_table(root, kind):
    """A table of all files, in their folder; its path."""
    names = sorted(os.path.relpath(path, root) for path in root.glob("*/*"))
    path, rows = root / f"labels.{kind}", ((name, os.path.dirname(name)) for name in names)
    if kind == "parquet":
        from pyarrow import parquet, table

        parquet.write_table(table(dict(zip(("file", "label"), zip(*rows, strict=True), strict=True))), path)
    elif kind == "jsonl":
        path.write_text("".join(f'{{"file": "{name}", "label": "{label}"}}\n' for name, label in rows))
    else:
        path.write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    return path


@contextmanager
def measured(what):
    """Prints the time that something takes, and by how much the process has grown at most so far."""
    start = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - BEFORE) / 1024
    print(f"{what:42} {wall:7.2f} s  {cpu:7.2f} s of CPU  {grown:7.0f} MB", flush=True)


def start(root, cache, name):
    """What a training does before its first epoch."""
    opened, inside = set(), os.path.join(root.parent if root.is_file() else root, "")
    findings.PLACE = str(cache)

    def watch(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(inside):
            opened.add(arguments[0])

    sys.addaudithook(watch)
    if root.is_file():
        with measured("read the table"):
            read_table(root)
    with measured(name):
        decoded(open_data(root), as_files=True, memory_limit=0)  # what is watched would not fit either
    print(f"{'':42} {len(opened):,} files looked into")


def parts(root, checked):
    """The parts of a start, one after the other."""
    with measured("list"):
        listing = read_folder(root)
    print(f"{sum(map(len, listing.parts.values())):,} files, {len(listing.folders):,} classes")
    del listing
    with measured("list, divide, digest, compare equal files"):
        data = open_data(root)
    with tempfile.TemporaryDirectory() as place:
        with measured("keep what was held out"):
            write_record(Path(place) / "net", data)
        print(f"{(Path(place) / 'net/data.json').stat().st_size / 1e6:.1f} MB in data.json")
        with measured("the same again, as it was kept"):
            data = open_data(root, **division(Path(place) / "net", True))
    for note in data.notes:
        print(note[:200])
    some = data.train.take(checked, 0)
    with measured(f"decode {len(some):,} in a check"):
        some.images.check()


def main():
    """Make the folder, if need be, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_280_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="measure this one instead")
    parser.add_argument("--table", choices=("csv", "jsonl", "parquet"), help="start from a table of all files")
    parser.add_argument("--parts", action="store_true", help="measure the parts of a start as well")
    parser.add_argument("--checked", type=int, default=loading.CHECKED, help="files to decode in the check of --parts")
    parser.add_argument("--start", nargs=2, metavar=("CACHE", "NAME"), help="of a process that starts once")
    options = parser.parse_args()
    if options.start:
        start(options.folder, *options.start)
        return
    with tempfile.TemporaryDirectory() as place:
        root = (options.folder or Path(place) / "photos").absolute()
        if not options.folder:
            make(root, options.files, options.classes)
        if options.table:
            root = write_table(root, options.table)
        for name in ("first start", "second start"):
            words = [sys.executable, __file__, "--folder", root, "--start", Path(place) / "cache", name]
            subprocess.run(words, check=True)
        if options.parts:
            findings.PLACE = str(Path(place) / "others")
            parts(root, options.checked)


if __name__ == "__main__":
    BEFORE = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    main()
