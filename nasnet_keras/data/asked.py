"""Images that somebody asks about: files, folders, patterns, lists of names."""

import glob
import os
import re
import struct
import zlib
from bisect import bisect

from nasnet_keras.data.folders import images_below
from nasnet_keras.data.left_out import shown
from nasnet_keras.files import expanded

LIST = ".txt"  # the suffix of a file that lists others
PIPE = "-"
MAX_LIST = 1 << 30  # bytes
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
MAGIC = frozenset("*?[")
HEAT_MAP = re.compile(r"\d{3,}-.*\.png", re.DOTALL)  # what `predict` calls them
MARK = b"tEXtSoftware\0nasnet_keras: heat map"  # the chunk of a PNG that says that it is one
HEADER = 33  # bytes of a PNG that stand before all other chunks


def asked_images(names, stream=None):
    """The files that some names stand for, in their order; whether they can be read shows when they are.

    Folders and patterns do not stand for heat maps of an earlier run, see `as_heat_map`; a name may.

    Args:
        names: of files; of folders, for all images below them; of `.txt` files, which list names, one a line or with
            NUL between them; patterns such as `photos/**/*.jpg`, for what they match; or `-` for the names in `stream`.
        stream: where `-` reads from, with a `read` that gives bytes; None: there is no such.

    Returns:
        (a tuple of paths, what of the folders is not used, a line each).

    Raises:
        ValueError: a pattern that matches nothing, a list that cannot be read, or no file at all.
    """
    paths, lines, dropped = [], [], 0
    for name in map(expanded, names):
        found = []  # by a folder or a pattern
        if name == PIPE and stream is not None:
            paths += _listed(stream.read(MAX_LIST), "the list from -")
        elif os.path.isdir(name):
            _add_folder(name, found, lines)
        elif os.path.splitext(name)[1].lower() == LIST:
            paths += _in_place(_listed(_content(name), f"the list {shown(name)}"), os.path.dirname(name))
        elif MAGIC & set(name) and not os.path.lexists(name):
            _add_matches(name, found, lines)
        else:
            paths.append(name)
        kept = [path for path in found if not _is_heat_map(path)]
        paths += kept
        dropped += len(found) - len(kept)
    if dropped:
        lines.append(f"not used: {dropped:,} heat map{'s' * (dropped > 1)} of an earlier --explain")
    if not paths:
        received = ", ".join(map(shown, names))
        raise ValueError(f"`images` must be at least one file. Received: {received}" + "".join(f"; {x}" for x in lines))
    return tuple(paths), lines


def as_heat_map(png):
    """A PNG file, bytes, with the mark that keeps a heat map from being taken for an image that is asked about."""
    return png[:HEADER] + struct.pack(">I", len(MARK) - 4) + MARK + struct.pack(">I", zlib.crc32(MARK)) + png[HEADER:]


def _is_heat_map(path):
    if not HEAT_MAP.fullmatch(os.path.basename(path)):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(HEADER + 4 + len(MARK)).endswith(MARK)
    except OSError:  # which is told when it is read
        return False


def _add_folder(name, paths, lines):
    found, left_out = images_below(name)
    paths += found
    if left_out:
        lines.append(f"not used of {shown(os.path.basename(os.path.abspath(name)))}: {left_out.summary()}")


def _add_matches(pattern, paths, lines):
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ValueError(f"`images` must be files. Received: {shown(pattern)}, which nothing matches")
    folders = sorted(os.path.join(name, "") for name in found if os.path.isdir(name))
    files = [name for name in found if not os.path.isdir(name)]
    paths += files
    inside = ""
    for folder in folders:  # what lies in a folder comes behind it
        place = bisect(files, folder)
        if (place < len(files) and files[place].startswith(folder)) or (inside and folder.startswith(inside)):
            continue  # its files match as well, or are there already
        inside = folder
        try:
            _add_folder(folder, paths, lines)
        except ValueError as error:
            if "**" not in pattern:
                raise
            lines.append(str(error))


def _content(name):
    try:
        with open(name, "rb") as file:
            return file.read(MAX_LIST)
    except OSError as error:
        raise ValueError(f"cannot read the list {shown(name)}: {error.strerror}") from None


def _listed(content, label):
    """The names in a list; bytes that are no text stay what they are."""
    if len(content) >= MAX_LIST:
        raise ValueError(f"{label} must have fewer than {MAX_LIST:,} bytes")
    if content.startswith(UTF_16):  # as some shells of Windows write it
        content = content.decode("utf-16", "replace").encode("utf-8")
    names = content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [expanded(os.fsdecode(name)) for name in names if name.strip()]


def _in_place(names, folder):
    """Names as they are where there is such a file, and else relative to the folder of their list."""
    return [
        name if not folder or os.path.lexists(name) or not os.path.lexists(os.path.join(folder, name))
        else os.path.join(folder, name)
        for name in names
    ]  # fmt: skip
