"""What a data set looks like from outside: counts, sizes and kinds of files, images that are nearly the same."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import read_header, read_image
from nasnet_keras.data.sides import PARTS

THUMBNAIL = 16  # pixels of a side that images are compared at
NEAR_BITS, NEAR_GREYS = 3, 12  # most different bits of 64, and most different greys of 255 in the mean
FLAT = 4  # standard deviation of greys below which there is nothing to compare
COMPARED = 100  # images of the same look that one is compared with


def survey(data, progress=None):
    """Count what a data set holds; of files only the headers are read.

    Args:
        data: a `loading.Data`.
        progress: None, or a function called with the number of headers read and of all.

    Returns:
        A JSON-able dict: `images` ({part: number}); `classes`, a list of `{"name", "train", "validation", "test"}`;
        `kinds`, {format and mode: number} of files; `sizes`, `least`, `median` and `most` `(height, width)` by area and
        how many `different` ones there are; `bytes` of all files; `notes`; `left_out`, {reason: names}. Of data that
        are no files `kinds` and `bytes` are None.
    """
    splits = {part: getattr(data, part) for part in PARTS}
    files = [source for split in splits.values() for source in getattr(split.images, "sources", ())]
    found = {"data": data.name}
    if isinstance(data.train.images, ImageFiles):
        headers, broken = _headers(files, progress)
        for split in splits.values():
            split.images.broken.update(broken)
        sizes = [(header.height, header.width) for header in headers]
        kinds = dict(Counter(f"{header.format} {header.mode}" for header in headers).most_common())
        found |= {"kinds": kinds, "bytes": sum(map(_bytes, files))}
    else:
        sizes = [split.images.shape[1:3] for split in splits.values() if len(split)]
        found |= {"kinds": None, "bytes": None}
    readable = {part: split.select(np.flatnonzero(split.readable)) for part, split in splits.items()}
    counts = {part: own.counts(len(data.class_names)) for part, own in readable.items()}
    classes = [
        {"name": name, **{part: int(counts[part][index]) for part in PARTS}}
        for index, name in enumerate(data.class_names)
    ]
    found |= {"images": {part: len(own) for part, own in readable.items()}, "classes": classes}
    found["sizes"] = _sizes(sizes)
    return {**found, "notes": list(data.notes), "left_out": data.all_left_out().by_reason()}


def near_pairs(data, progress=None):
    """Images in different parts that look the same: the same photograph in another size or file, or a burst.

    Each image is compared as 16×16 greys: a hash of which pixel is brighter than its neighbour finds candidates
    (at most 3 of 64 bits differ), the greys decide (at most 12 of 255 differ in the mean). Images without any
    structure are left out.

    Args:
        data: a `loading.Data` of files.
        progress: None, or a function called with the number of images read and of all.

    Returns:
        A list of pairs `((part, source), (part, source))`, the most alike first.
    """
    splits = [(part, source) for part in PARTS for source in getattr(getattr(data, part).images, "sources", ())]
    greys = _thumbnails([source for _, source in splits], progress)
    sides = np.array([PARTS.index(part) for part, _ in splits])
    usable = np.flatnonzero(greys.std((1, 2)) >= FLAT)
    small = greys[usable].reshape(-1, 8, 2, THUMBNAIL).mean(2)[..., [0, 2, 4, 6, 8, 9, 11, 13, 15]]
    bits = (small[..., 1:] > small[..., :-1]).reshape(len(usable), 64)
    packed = np.packbits(bits, axis=1)
    pairs = {}
    for band in range(0, 8, 2):  # two hashes that differ in 3 bits agree in one of four quarters
        keys = packed[:, band].astype(np.uint16) << 8 | packed[:, band + 1]
        order = np.argsort(keys, kind="stable")
        for distance in range(1, COMPARED):
            one, other = order[:-distance], order[distance:]
            alike = keys[one] == keys[other]
            if not alike.any():
                break
            one, other = one[alike], other[alike]
            one, other = one[across := sides[usable[one]] != sides[usable[other]]], other[across]
            differing = (bits[one] != bits[other]).sum(1)
            for first, second in zip(one[differing <= NEAR_BITS], other[differing <= NEAR_BITS], strict=True):
                pair = tuple(sorted((int(usable[first]), int(usable[second]))))
                pairs[pair] = np.abs(greys[pair[0]] - greys[pair[1]]).mean()
    found = sorted((difference, pair) for pair, difference in pairs.items() if difference <= NEAR_GREYS)
    return [(splits[first], splits[second]) for _, (first, second) in found]


def _headers(files, progress):
    """(headers, {file: the reason} of those that have none)."""
    broken = {}

    def read(source):
        try:
            return read_header(source)
        except ValueError as error:
            broken[source] = str(error).partition(": ")[2]
            return None

    return [header for header in _each(read, files, progress) if header], broken


def _thumbnails(files, progress):
    """float32 [n, 16, 16] greys; zeros for an image that cannot be read."""

    def read(source):
        try:
            return read_image(source, THUMBNAIL).mean(-1, dtype=np.float32)
        except ValueError:
            return np.zeros((THUMBNAIL, THUMBNAIL), np.float32)

    greys = np.empty((len(files), THUMBNAIL, THUMBNAIL), np.float32)
    for index, image in enumerate(_each(read, files, progress)):
        greys[index] = image
    return greys


def _each(function, files, progress):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(function, files), 1):
            if progress and (done % 100 == 0 or done == len(files)):
                progress(done, len(files))
            yield result


def _bytes(source):
    try:
        return len(source) if isinstance(source, bytes) else os.path.getsize(source)
    except OSError:
        return 0


def _sizes(sizes):
    if not sizes:
        return None
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    named = {"least": ordered[0], "median": ordered[len(ordered) // 2], "most": ordered[-1]}
    return {**{name: list(map(int, size)) for name, size in named.items()}, "different": len(set(ordered))}
