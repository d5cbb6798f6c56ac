"""Files with the same content in different parts: what is tested was trained on."""

import hashlib

import numpy as np

from nasnet_keras.data.findings import look

BLOCK = 4096  # bytes; most files differ in the first
MOST_FILES = 20_000
MOST_BYTES = 1 << 30


def equal_files(paths, sizes, sides, findings=None):
    """Files that have an equal one in another part.

    Only files of equal size are compared, at most `MOST_FILES` of them, and `MOST_BYTES` beyond their first blocks: of
    more, those of the rarer sizes, and of one size as many of each part as there are.

    Args:
        paths: of n files.
        sizes: int64 [n], bytes.
        sides: integers [n], the part that a file is in.
        findings: a `findings.Findings` that knows files which were read before; None for none.

    Returns:
        (A list of (index, index of one that is equal), the lower part first, for each file that has one in a lower
        part; how many files were not compared).
    """
    order, starts, counts = _across(sizes, sides)
    groups, left = {}, MOST_FILES
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        if not left:
            break
        group = order[start : start + count]
        compared = group if count <= left else _in_turn(group, sides)[:left]
        for index in compared.tolist():
            groups.setdefault((int(sizes[index]), _digest(paths[index], findings, BLOCK)), []).append(index)
        left -= len(compared)
    passed_over = int(counts.sum()) - (MOST_FILES - left)
    pairs, left = [], MOST_BYTES
    for (size, digest), group in sorted(groups.items(), key=lambda item: item[0][0] * len(item[1])):
        if digest is None or len({int(sides[index]) for index in group}) < 2:
            continue
        if size > BLOCK:
            left -= size * len(group)
            if left < 0:
                passed_over += len(group)
                continue
        alike = {}
        for index in group:
            whole = digest if size <= BLOCK else _digest(paths[index], findings)
            alike.setdefault(whole, []).append(index)
        for whole, found in alike.items():
            first, *others = sorted(found, key=lambda index: (sides[index], index))
            pairs += [(first, other) for other in others if whole is not None and sides[other] != sides[first]]
    return sorted(pairs), passed_over


def _in_turn(group, sides):
    """A group's files, each part in turn, so that of few that are compared those of the smallest parts are all."""
    order = group[np.argsort(sides[group], kind="stable")]
    starts = np.flatnonzero(np.diff(sides[order], prepend=sides[order[0]] - 1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return order[np.argsort(ranks, kind="stable")]


def _across(sizes, sides):
    """Those groups of equal size that lie in several parts, small ones first.

    Of a million files there are 200,000 groups, so nothing is done here for each.

    Returns:
        (all indices, by their size; where in them each group starts; how many it has).
    """
    order = np.argsort(sizes, kind="stable")
    starts = np.flatnonzero(np.diff(sizes[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    lowest, highest = (extreme.reduceat(sides[order], starts) for extreme in (np.minimum, np.maximum))
    across = np.flatnonzero(lowest != highest)
    across = across[np.argsort(counts[across], kind="stable")]
    return order, starts[across], counts[across]


def _digest(path, findings, most=-1):
    """Of a file's content, or of its beginning; None if it cannot be read."""

    def read(path):
        try:
            with open(path, "rb") as file:
                return hashlib.blake2b(file.read(most), digest_size=16).hexdigest()
        except OSError:
            return None

    return look(f"content {most}", path, read, findings)
