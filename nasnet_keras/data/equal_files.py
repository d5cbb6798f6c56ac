"""Files with the same content in different parts: what is tested was trained on."""

import hashlib

import numpy as np

from nasnet_keras.data.findings import look

BLOCK = 4096  # bytes; most files differ in the first
MOST_FILES = 20_000
MOST_BYTES = 1 << 30


def equal_files(paths, sizes, sides, findings=None):
    """Pairs of equal files of which no two lie in the same part.

    Only files of equal size are compared, at most `MOST_FILES` of them, and `MOST_BYTES` beyond their first blocks.

    Args:
        paths: of n files.
        sizes: int64 [n], bytes.
        sides: integers [n], the part that a file is in.
        findings: a `findings.Findings` that knows files which were read before; None for none.

    Returns:
        A list of (index, index of one that is equal): the lower part first.
    """
    candidates = list(_across(np.arange(len(sizes)), sizes, sides))
    groups, left = {}, MOST_FILES
    for group in candidates:
        if left <= 0:
            break
        for index in group[:left].tolist():
            groups.setdefault((int(sizes[index]), _digest(paths[index], findings, BLOCK)), []).append(index)
        left -= len(group)
    pairs, left = [], MOST_BYTES
    for (size, digest), group in groups.items():
        if digest is None or len({int(sides[index]) for index in group}) < 2:
            continue
        if size > BLOCK:
            left -= size * len(group)
            if left < 0:
                break
        alike = {}
        for index in group:
            whole = digest if size <= BLOCK else _digest(paths[index], findings)
            alike.setdefault(whole, {}).setdefault(int(sides[index]), index)
        for whole, found in alike.items():
            first, *others = (found[side] for side in sorted(found))
            pairs += [(first, other) for other in others if whole is not None]
    return pairs


def _across(indices, sizes, sides):
    """Those groups of equal size that lie in several parts."""
    order = indices[np.argsort(sizes, kind="stable")]
    starts = np.flatnonzero(np.diff(sizes[order], prepend=-1))
    for group in np.split(order, starts[1:]):
        if len(group) > 1 and (sides[group] != sides[group[0]]).any():
            yield group


def _digest(path, findings, most=-1):
    """Of a file's content, or of its beginning; None if it cannot be read."""

    def read(path):
        try:
            with open(path, "rb") as file:
                return hashlib.blake2b(file.read(most), digest_size=16).hexdigest()
        except OSError:
            return None

    return look(f"content {most}", path, read, findings)
