"""Which part an image of a folder belongs to: training, validation or test.

An image has a place from 0 to below 1, a hash of its class, file name and size: no other image and no seed has a say
in it. Below the share for testing it is held out for that, and in the last share for validation; so it stays on its
side whatever is added to the folder.
"""

import hashlib

import numpy as np

from nasnet_keras.data.records import is_marked
from nasnet_keras.files import composed

TRAIN, VALIDATION, TEST = range(3)
PARTS = ("train", "validation", "test")


def places(keys):
    """The place of each image.

    Args:
        keys: what it follows from, bytes of each, see `folders.Listing.keys`.

    Returns:
        float64 [n], from 0 to below 1.
    """
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
    # 53 bits are a float's own, so that none is rounded up to 1.
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)).astype(np.float64) / 2.0**53


def by_place(places, shares):
    """The side of each image by its place alone: int8 [n] of `TRAIN`, `VALIDATION` and `TEST`.

    Args:
        places: float64 [n].
        shares: {part to hold out: its share}, a part that is not there has none.
    """
    sides = np.full(len(places), TRAIN, np.int8)
    sides[places >= 1 - shares.get("validation", 0)] = VALIDATION
    sides[places < shares.get("test", 0)] = TEST
    return sides


def by_class(places, labels, shares, classes):
    """The side of each image by its place, with no class left out of a part if it has enough images.

    A class has at least one image in each part that is wanted; one with fewer images than parts is for training.

    Args:
        places, shares: as for `by_place`.
        labels: int32 [n].
        classes: the number of classes.

    Returns:
        (int8 [n], the numbers of the classes that are for training alone).
    """
    counts = np.bincount(labels, minlength=classes)
    wanted = {part: share > 0 for part, share in shares.items()}
    tested, watched = (int(wanted.get(part, False)) for part in ("test", "validation"))
    enough = counts >= 1 + tested + watched
    plain = by_place(places, shares)
    test, validation = (np.bincount(labels[plain == side], minlength=classes) for side in (TEST, VALIDATION))
    test = np.minimum(np.maximum(test, tested), counts - 1 - watched) * enough
    validation = np.minimum(np.maximum(validation, watched), counts - 1 - test) * enough
    order = np.lexsort((places, labels))  # stable: images of one place keep their order
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    sides = np.full(len(labels), TRAIN, np.int8)
    sides[ranks < test[labels]] = TEST
    sides[ranks >= (counts - validation)[labels]] = VALIDATION
    return sides, np.flatnonzero(~enough & (counts > 0)) if tested + watched else np.zeros(0, int)


def as_recorded(names, places, record):
    """The side of each image as a directory keeps it; of those that it does not know by their place.

    Args:
        names: relative to the root, in the order of `places`.
        places: float64 [n].
        record: a `records.Record`.
    """
    sides = by_place(places, record.shares)
    known = {name: side for side, part in enumerate(PARTS) for name in record.sides.get(part, ())}
    known = {composed(name): side for name, side in known.items()} | known  # of two forms each has its own
    for index, name in enumerate(names):
        side = known.get(name, known.get(composed(name)))
        if side is not None:
            sides[index] = side
        elif is_marked(name, record.trained):
            sides[index] = TRAIN
    return sides
