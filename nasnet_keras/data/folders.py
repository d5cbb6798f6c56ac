"""A folder of images as people have them: which file is of which class in which part, and what is left out.

The tree is read once, with a size for each file; only files whose suffix says nothing are looked into. A
folder is `root/<class>/**`, or has parts with such folders inside: train, validation (also val, valid, dev) and test,
in any case.
"""

import hashlib
import os
import stat
from array import array
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter

import numpy as np
from PIL import Image

from nasnet_keras.data.findings import look
from nasnet_keras.data.images import FORMATS, read_size
from nasnet_keras.data.layouts import PARTS, part_of, remarks, way_of_table
from nasnet_keras.data.left_out import LeftOut, as_text, few, shown
from nasnet_keras.files import CODE, composed

# Taken for images until they are read; what has another suffix, or none, is looked into.
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
))  # fmt: skip
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
# Never images: not even looked into.
OTHER_SUFFIXES = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".py", ".ipynb",
    ".db", ".ini", ".log", ".npy", ".npz", ".zip", ".gz", ".tar", ".mp4", ".mov", ".avi", ".pdf", ".svg", ".mat", ".h5",
    ".parquet",
))  # fmt: skip
# What archivers, file servers and annotation tools leave beside the classes. Hidden folders are foreign as well.
FOREIGN = frozenset((
    "__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found", "__pycache__", "masks", "annotations",
    "labels",
))  # fmt: skip
MAX_DEPTH = 64
MAX_ENTRIES = 20_000_000
MAX_CLASSES = 50_000


@dataclass(frozen=True, eq=False)
class Files:
    """The images of a part, class after class, in each sorted by name.

    Args:
        paths: of all files.
        sizes: int64 [n], bytes.
        labels: int32 [n], numbers of classes.
    """

    paths: tuple[str, ...]
    sizes: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Listing:
    """What a folder holds.

    Args:
        root: the folder that holds the parts or the classes; all paths begin with it.
        folders: the name of each class's folder, sorted: the labels count them.
        parts: `Files` by part; always `"train"`.
        left_out: a `LeftOut`.
        notes: what a user should know, a line each.
    """

    root: str
    folders: tuple[str, ...]
    parts: dict[str, Files]
    left_out: LeftOut
    notes: tuple[str, ...]

    @property
    def class_names(self):
        """The folders' names as text."""
        return tuple(map(as_text, self.folders))

    def name_of(self, path):
        """A path relative to the root."""
        return path[len(self.root) + 1 :]

    def keys(self, files):
        """Of each file what its place follows from: its class, name and size, as bytes."""
        starts = [os.fsencode(composed(name)) + b"\0" for name in self.folders]
        for path, size, label in zip(files.paths, files.sizes.tolist(), files.labels.tolist(), strict=True):
            yield b"%s%s\0%d" % (starts[label], composed(path[path.rfind("/") + 1 :]).encode(*CODE), size)

    def digest(self, form=composed):
        """What the list is known by, wherever it lies: a digest of the classes, and of all names and sizes.

        Args:
            form: what it makes of a name; earlier versions took it as it stood, `str`.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(b"\0".join(os.fsencode(name) for name in sorted(map(form, self.folders))))
        start = len(self.root) + 1
        names = np.array([form(path[start:]) for part in self.parts.values() for path in part.paths], object)
        order = np.argsort(names, kind="stable")  # they are nearly sorted
        names, sizes = names[order], np.concatenate([part.sizes for part in self.parts.values()])[order]
        for name, size in zip(names, memoryview(sizes), strict=True):
            digest.update(b"\n%s\0%d" % (name.encode(*CODE), size))
        return digest.hexdigest()


def read_folder(root, findings=None, begun=False):
    """The `Listing` of a folder.

    Args:
        root: its path, a string or path-like.
        findings: a `findings.Findings` that knows files which were looked into before; None for none.
        begun: whether a training or a search was begun with it: its classes are what they were, and only told of.

    Raises:
        ValueError: one line; the folder cannot be read, has no classes or too many, no part to train on, two folders
            for one part, or flat parts, masks or pieces of one heap of images where its classes should be.
    """
    root = os.path.abspath(os.fspath(root))  # another process may look for the files from elsewhere
    left_out, notes, around = {}, [], []
    top = _unwrapped(_read(root, left_out, findings), notes, around)
    given = _parts(top, root, left_out, notes)
    if given["train"] is not top:
        given["train"] = _unwrapped(given["train"], notes, around, inside_part=True)
    train = given["train"]
    held = {folder.name for part, folder in given.items() if part != "train" and train is top}
    classes = {folder.name: folder for folder in train.with_images() if folder.name not in held}
    if not classes:
        more = LeftOut(root, left_out).summary()
        raise ValueError(
            f"`data` must hold a folder for each class, with its images inside. Received: {shown(root)}"
            + (f", with {len(top.files):,} images in no such folder" if top.files else "")
            + (f", with {more}" if more else "")
        )
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"`data` must have at most {MAX_CLASSES:,} classes. Received: {root} with {len(classes):,}")
    names = tuple(sorted(sorted(classes), key=composed))  # the same order on every system
    base = os.path.join(root, top.path) if top.path else root
    parts = {"train": _files(root, [[classes[name]] for name in names])}
    for part in ("validation", "test"):
        if part in given and (files := _other_part(root, given[part], names, left_out, notes, around)):
            parts[part] = files
    for folder in (top, *given.values(), *around):
        start = f"{folder.path}/" if folder.path else ""
        left_out |= {start + file: ("outside", "") for file in folder.files}
        empty = {f"{one.path}/": ("empty", shown(one.name)) for one in folder.folders if not one.count}
        left_out |= {path: reason for path, reason in empty.items() if path not in left_out}
    notes += remarks([classes[name] for name in names], root, left_out, train is top, begun)
    return Listing(base, names, parts, LeftOut(root, left_out), tuple(notes))


def images_below(root):
    """All images below a folder, in whatever folders: (paths, sorted; a `LeftOut`).

    Args:
        root: its path, a string or path-like.

    Raises:
        ValueError: it cannot be read.
    """
    root, left_out = os.path.normpath(os.fspath(root)), {}
    found = _read(root, left_out, None).every_file()
    return [os.path.join(root, path) for path, _ in found], LeftOut(root, left_out)


class _Folder:
    """A folder that was read: its images and their bytes, the folders in it, and how many images are below it."""

    __slots__ = ("count", "files", "folders", "name", "path", "sizes")

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.files, self.sizes, self.folders, self.count = [], array("q"), [], 0

    def with_images(self):
        """Those folders in it that have images."""
        return [folder for folder in self.folders if folder.count]

    def every_file(self):
        """(path relative to the root, bytes) of all images below it, sorted."""
        if not self.folders:  # it was read in order
            start = f"{self.path}/" if self.path else ""
            return zip(map(start.__add__, self.files), self.sizes, strict=True)
        found, stack = [], [self]
        while stack:
            folder = stack.pop()
            start = f"{folder.path}/" if folder.path else ""
            found += [(start + name, size) for name, size in zip(folder.files, folder.sizes, strict=True)]
            stack += folder.folders
        found.sort()
        found.sort(key=lambda one: composed(one[0]))
        return found


def _read(root, left_out, findings):
    """The tree below a folder, read once, without recursion.

    Links are followed, but into no folder twice below the same class or part: those may have the same images.
    """
    top, entries = _Folder("", ""), 0
    has_heif = find_spec("pillow_heif") is not None
    stack, every = [(top, 0, True, {_number(os.stat(root))})], []
    while stack:
        folder, depth, is_outside, seen = stack.pop()
        every.append(folder)
        try:
            with os.scandir(os.path.join(root, folder.path)) as listed:
                listed = sorted(listed, key=attrgetter("name"))
                listed.sort(key=lambda entry: composed(entry.name))
        except OSError as error:
            if folder is top:
                raise ValueError(f"cannot read the folder {shown(root)}: {error.strerror}") from None
            left_out[f"{folder.path}/"] = ("unreadable", error.strerror)
            continue
        entries += len(listed)
        if entries > MAX_ENTRIES:
            raise ValueError(f"`data` must have at most {MAX_ENTRIES:,} files and folders. Received: {shown(root)}")
        numbers, start = [], f"{folder.path}/" if folder.path else ""
        for entry in listed:
            name = entry.name
            try:
                status = entry.stat()
            except OSError as error:  # a link to nothing or to itself, or gone in the meantime
                left_out[start + name] = ("unreadable", error.strerror)
                continue
            if stat.S_ISREG(status.st_mode):
                # Of a million files nearly all are plain: what is asked of each is counted in seconds.
                if (name[name.rfind(".") :] in SUFFIXES and status.st_size and name[0] != ".") or not (
                    reason := _no_image(name, entry.path, status, has_heif, findings)
                ):
                    folder.files.append(name)
                    folder.sizes.append(status.st_size)
                else:
                    left_out[start + name] = reason
                continue
            path = start + name
            if not stat.S_ISDIR(status.st_mode):
                left_out[path] = ("special", "")
            elif name.startswith(".") or name.lower() in FOREIGN:
                left_out[f"{path}/"] = ("foreign", shown(name))
            elif (number := _number(status)) in seen:
                left_out[f"{path}/"] = ("again", "")
            elif depth == MAX_DEPTH:
                left_out[f"{path}/"] = ("deep", f"more than {MAX_DEPTH} folders")
            else:
                folder.folders.append(_Folder(name, path))
                numbers.append(number)
                if not is_outside:
                    seen.add(number)
        for one, number in zip(folder.folders, numbers, strict=True):
            below = {*seen, number} if is_outside else seen
            stack.append((one, depth + 1, is_outside and len(numbers) == 1, below))
    for folder in reversed(every):
        folder.count = len(folder.files) + sum(one.count for one in folder.folders)
    return top


def _number(status):
    return status.st_dev, status.st_ino


def _no_image(name, path, status, has_heif, findings):
    """The reason, as in `LeftOut.entries`, why a file is not taken for an image; None for one that is."""
    if name.startswith("."):
        return "hidden", ""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix in SUFFIXES or (suffix in HEIF_SUFFIXES and has_heif):
        return None if status.st_size else ("broken", "it is empty")
    if suffix in HEIF_SUFFIXES:
        return "type", f"{suffix} (pip install nasnet_keras[heic])"
    try:
        if suffix not in OTHER_SUFFIXES and look("image", path, _looks_like_image, findings, status):
            return None
    except (OSError, ValueError):
        pass  # for now
    return "type", shown(suffix[:12]) or "without a suffix"


def _looks_like_image(path):
    """Whether a file is an image by its content: by its first bytes, and if they agree by its header.

    Raises:
        OSError: it cannot be opened.
        ValueError: it begins as an image, and its header cannot be read.
    """
    Image.init()
    with open(path, "rb") as file:
        start = file.read(32)
    if not any(Image.OPEN[format][1](start) for format in FORMATS if format in Image.OPEN):
        return False
    read_size(path)
    return True


def _unwrapped(folder, notes, around, inside_part=False):
    """The folder of classes or parts, where others are packed around it, which are added to `around`."""
    while True:
        inside = folder.with_images()
        if len(inside) != 1 or (part_of(inside[0]) and not inside_part) or not inside[0].with_images():
            return folder
        around.append(folder)
        folder = inside[0]
        notes.append(f"{shown(folder.path)}/ is the only folder with images: the folders in it are used")


def _parts(top, root, left_out, notes):
    """{part: its folder}; `"train"` is the top itself where the classes lie there."""
    named = {}
    for folder in top.with_images():
        named.setdefault(part_of(folder), []).append(folder)
    for part, folders in named.items():  # of `train` and `train_small` the first is meant
        exact = [folder for folder in folders if folder.name.strip().lower() in PARTS]
        if part and 1 <= len(exact) < len(folders):
            others = [folder for folder in folders if folder not in exact]
            named = {**named, part: exact, None: [*named.get(None, ()), *others]}
    others = named.pop(None, [])
    if named and (not others or any(folder.with_images() for folder in named.get("train", ()))):
        for folder in others:
            notes.append(f"{shown(folder.path)}/ is none of train, validation and test, and is not used")
            _leave_out(folder, "sibling", left_out)
    else:  # a class may be called train, but other names of parts are taken for classes only if nothing else fits
        others = [*others, *named.pop("train", ())]
        names, nested = {folder.name for folder in others}, all(folder.with_images() for folder in others)

        def is_part(folder):
            inside, exact = {one.name for one in folder.with_images()}, folder.name.strip().lower() in PARTS
            return not inside or bool(inside & names) or (exact and not nested)  # test/unknown, beside flat classes

        for part, folders in list(named.items()):
            named[part] = list(filter(is_part, folders))
        named = {part: folders for part, folders in named.items() if folders}
        named["train"] = [top]
    for part, folders in named.items():
        if len(folders) > 1:
            received = " and ".join(f"{shown(folder.name)}/" for folder in folders)
            raise ValueError(f"`data` must have one folder for {part}. Received: {shown(root)} with {received}")
    if "train" not in named:
        received = ", ".join(f"{shown(folder.name)}/" for folders in named.values() for folder in folders)
        raise ValueError(f"`data` must have a folder train/ beside {received}. Received: {shown(root)}")
    train = named["train"][0]
    if train is not top and not train.with_images():
        raise ValueError(
            f"{shown(os.path.join(root, train.path))} must hold a folder for each class, with its images inside. "
            f"Received: {len(train.files):,} images in no such folder{way_of_table(root, left_out)}"
        )
    return {part: folders[0] for part, folders in named.items()}


def _other_part(root, folder, names, left_out, notes, around):
    """The `Files` of validation or test with the classes of the training images, or None where it has none of them."""
    known, label = set(names), f"{shown(folder.path)}/"
    inside = folder.with_images()
    whole = {composed(name): name for name in names}  # archives of some systems take letters apart
    if len(inside) == 1 and inside[0].name not in known and {one.name for one in inside[0].with_images()} & known:
        folder, inside = inside[0], inside[0].with_images()
        around.append(folder)
    if not inside:
        notes.append(f"{label} has no labels and is not used")
        left_out |= {f"{folder.path}/{name}": ("label", label) for name in folder.files}
        folder.files, folder.sizes = [], array("q")
        return None
    present = {}  # of a class there may be two folders, with its letters in two forms
    for one in inside:
        name = one.name if one.name in known else whole.get(composed(one.name), one.name)
        present.setdefault(name, []).append(one)
    strange = sorted(set(present) - known)
    for name in strange:
        for one in present[name]:
            _leave_out(one, "class", left_out)
    if none := not known & set(present):
        notes.append(f"{label} has none of the classes of the training images and is not used")
    elif strange:
        notes.append(f"{label} has classes that training does not have, which are not used: {few(strange)}")
    folded = {name.casefold() for name in whole}
    if alike := [name for name in strange if composed(name).casefold() in folded]:
        notes.append(f"names that differ only in upper and lower case are other classes: {few(alike)} in {label}")
    if none:
        return None
    if missing := [name for name in names if name not in present]:
        notes.append(f"{label} has no images of {len(missing)} of {len(names)} classes: {few(missing)}")
    return _files(root, [present.get(name, ()) for name in names])


def _leave_out(folder, kind, left_out):
    left_out |= {path: (kind, shown(folder.name)) for path, _ in folder.every_file()}


def _files(root, classes):
    """The `Files` of the folders of each class."""
    paths, sizes, counts = [], array("q"), []
    start = os.path.join(root, "")
    for folders in classes:
        before = len(paths)
        for folder in folders:
            for path, size in folder.every_file():
                paths.append(start + path)
                sizes.append(size)
        counts.append(len(paths) - before)
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Files(tuple(paths), np.array(sizes, np.int64), labels)
