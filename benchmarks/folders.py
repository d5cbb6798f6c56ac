"""How long a large folder takes before the first epoch, and how much memory: list, divide, compare, check.

Makes so many small PNG files in a temporary folder, unless one is given, and opens them as the commands do.

    python benchmarks/folders.py                        # 200,000 files of 32×32 pixels in 1,000 classes
    python benchmarks/folders.py --files 100000 --classes 100000
    python benchmarks/folders.py --folder photos
"""

import argparse
import io
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from nasnet_keras.data import loading
from nasnet_keras.data.folders import read_folder
from nasnet_keras.data.loading import decoded, open_data
from nasnet_keras.data.records import division, write_record


def make(root, files, classes, side=32):
    """So many images, of which no two are alike, in a folder for each class."""
    image, stream = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)), io.BytesIO()
    image.save(stream, "PNG")
    for number in range(classes):
        (root / f"class_{number:06}").mkdir(parents=True)
    for number in range(files):
        path = root / f"class_{number % classes:06}" / f"image_{number:08}.png"
        path.write_bytes(stream.getvalue() + str(number).encode())


@contextmanager
def measured(what):
    """Prints the time that something takes, and by how much the process has grown at most so far."""
    start = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - BEFORE) / 1024
    print(f"{what:42} {wall:7.2f} s  {cpu:7.2f} s of CPU  {grown:7.0f} MB", flush=True)


def main():
    """Make the folder, if need be, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="measure this one instead")
    parser.add_argument("--checked", type=int, default=loading.CHECKED, help="files to decode in the check")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = options.folder or Path(place) / "photos"
        if not options.folder:
            make(root, options.files, options.classes)
        try:
            with measured("list"):
                listing = read_folder(root)
            print(f"{sum(map(len, listing.parts.values())):,} files, {len(listing.folders):,} classes")
            del listing
            with measured("list, divide, digest, compare equal files"):
                data = open_data(root)
        except ValueError as error:
            print(error)
            return
        with measured("keep what was held out"):
            write_record(Path(place) / "net", data)
        print(f"{(Path(place) / 'net/data.json').stat().st_size / 1e6:.1f} MB in data.json")
        with measured("the same again, as it was kept"):
            data = open_data(root, **division(Path(place) / "net", True))
        for note in data.notes:
            print(note[:200])
        some = data.train.take(options.checked, 0)
        with measured(f"decode {len(some):,} in a check"):
            some.images.check()
        with measured("decode none before the first epoch"):
            decoded(data, memory_limit=0)


if __name__ == "__main__":
    BEFORE = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    main()
