"""What the parts of a folder or a table have in common: equal files, and images that a model was trained on."""

from itertools import compress

import numpy as np

from nasnet_keras.data import sides
from nasnet_keras.data.equal_files import equal_files
from nasnet_keras.data.left_out import shown
from nasnet_keras.data.records import is_marked


def alike(listing, side, findings):
    """A line on files that lie in two parts, and one on those of two classes, if there are any."""
    files = listing.parts.values()
    paths = [path for one in files for path in one.paths]
    sizes = np.concatenate([one.sizes for one in files])
    every = [side if part == "train" else np.full(len(one), sides.PARTS.index(part), np.int8)
             for part, one in listing.parts.items()]  # fmt: skip
    pairs, passed_over = equal_files(paths, sizes, every := np.concatenate(every), findings)
    if pairs:
        example = " and ".join(f"{shown(listing.name_of(paths[i]))} ({sides.PARTS[every[i]]})" for i in pairs[0])
        yield f"{_files_have(pairs)} an equal one in another part: {example}" + _not_compared(passed_over)
    elif passed_over:
        yield "no file is known to have an equal one in another part" + _not_compared(passed_over)
    labels = np.concatenate([one.labels for one in files])
    if labels.ndim == 2:  # all labels of an image as one number
        labels = np.unique(np.packbits(labels, 1), axis=0, return_inverse=True)[1].reshape(-1)
    pairs, passed_over = equal_files(paths, sizes, labels, findings)
    if pairs:
        example = " and ".join(shown(listing.name_of(paths[i])) for i in pairs[0])
        yield f"{_files_have(pairs)} an equal one in another class: {example}" + _not_compared(passed_over)
    elif passed_over:
        yield "no file is known to have an equal one in another class" + _not_compared(passed_over)


def without_trained(listing, splits, parts, held_out, same, all_tested):
    """Take what a model was trained on out of the test images that the data bring.

    Args:
        listing: the `folders.Listing`.
        splits: {part: its `Split`}, which is changed.
        parts: those that the data bring.
        held_out: the model's `Record`.
        same: whether the data are the record's own, where a file may be of several parts: see `tables.read_table`.
        all_tested: whether such images are tested all the same.

    Returns:
        (the names of what is left out, a line on that, and on images of other parts).
    """
    names, notes = [], []
    of_both = set(listing.parts["train"].paths) if same else ()
    for part in parts:
        paths = listing.parts[part].paths
        found = [path not in of_both and is_marked(listing.name_of(path), held_out.trained) for path in paths]
        if not any(found):
            continue
        of = f"{sum(found):,} of {len(found):,} images for {part}"
        if part == "test" and not all_tested:
            splits[part] = splits[part].select(np.flatnonzero(~np.array(found)))
            names = list(map(listing.name_of, compress(paths, found)))
            notes.append(f"{of} are not used: the model was trained on files of these names")
        else:
            notes.append(f"the model was trained on {of}, too")
    return names, notes


def _not_compared(count):
    return f"; {count:,} files of equal size were not compared" if count else ""


def _files_have(pairs):
    return f"{len(pairs):,} {'files have' if len(pairs) > 1 else 'file has'}"
