"""What a data set looks like from outside: counts, sizes and kinds of files, images that are nearly the same."""

from collections import Counter
from dataclasses import replace

import numpy as np

from nasnet_keras.data.image_files import ImageFiles, bytes_of
from nasnet_keras.data.images import read_header, read_image
from nasnet_keras.data.sides import PARTS

THUMBNAIL = 16  # pixels of a side that images are compared at
NEAR_BITS, NEAR_GREYS = 3, 12  # most different bits of 64, and most different greys of 255 in the mean
FLAT = 4  # standard deviation of greys below which there is nothing to compare
COMPARED = 100  # images of the same look that one is compared with


def survey(data, progress=None):
    """Count what a data set holds; of files only the headers are read, and of records one image at a time.

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
    found = {"data": data.name}
    if isinstance(data.train.images, ImageFiles):
        headers, stored = _headers(splits.values(), progress)
        sizes = [(header.height, header.width) for header in headers]
        kinds = dict(Counter(f"{header.format} {header.mode}" for header in headers).most_common())
        found |= {"kinds": kinds, "bytes": stored}
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


def near_places(data, progress=None):
    """Images in different parts that look the same: the same photograph in another size or file, or a burst.

    Each image is compared as 16×16 greys: a hash of which pixel is brighter than its neighbour finds candidates
    (at most 3 of 64 bits differ), the greys decide (at most 12 of 255 differ in the mean). Images without any
    structure are left out.

    Args:
        data: a `loading.Data` of files.
        progress: None, or a function called with the number of images read and of all.

    Returns:
        (a list of pairs `((part, index), (part, index))`, the most alike first; how many images were not compared,
        because they cannot be read or have no structure).
    """
    images = [getattr(data, part).images for part in PARTS]
    lengths = [len(one) for one in images]
    greys = np.zeros((sum(lengths), THUMBNAIL, THUMBNAIL), np.float32)  # and so they stay if one cannot be read
    starts = np.cumsum(lengths) - lengths
    for one, start in zip(images, starts, strict=True):
        _thumbnails(one, greys[start:], _of_all(progress, int(start), len(greys)))
    sides = np.repeat(np.arange(len(PARTS)), lengths)
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
    places = [tuple((PARTS[sides[one]], int(one - starts[sides[one]])) for one in pair) for _, pair in found]
    return places, len(greys) - len(usable)


def _headers(splits, progress):
    """(headers of the images that have one, the bytes of all); the others are noted as broken."""
    total, found, stored = sum(map(len, splits)), [], 0
    for split in splits:
        images, headers, sizes = split.images, [None] * len(split), np.zeros(len(split), np.int64)

        def read(index, images=images, headers=headers, sizes=sizes):
            source = images.source(index)
            sizes[index] = bytes_of(source)
            headers[index] = read_header(source)

        images.each(read, _of_all(progress, len(found), total))
        found += headers
        stored += int(sizes.sum())
    return [header for header in found if header], stored


def _thumbnails(images, greys, progress):
    """Write 16×16 greys of image files to the first of float32 [n, 16, 16]; not of an image that cannot be read."""

    def read(index):
        pixels = read_image(images.source(index), THUMBNAIL, images.grey_range)
        greys[index] = pixels.mean(-1, dtype=np.float32)

    replace(images, broken={}).each(read, progress)


def _of_all(progress, before, total):
    """A function that tells how much of one part is done as how much of all is; None for None."""
    return progress and (lambda done, _: progress(before + done, total))


def _sizes(sizes):
    if not sizes:
        return None
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    named = {"least": ordered[0], "median": ordered[len(ordered) // 2], "most": ordered[-1]}
    return {**{name: list(map(int, size)) for name, size in named.items()}, "different": len(set(ordered))}
