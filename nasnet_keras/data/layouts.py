"""What names of folders say: which are parts, which hold masks, and what is odd about those that are taken for classes.

The folders are those of `folders`: each has a `name`, a `path`, the folders in it, and the images below it.
"""

import os
import re

from nasnet_keras.data.left_out import few, shown
from nasnet_keras.data.table_files import SUFFIXES as TABLES
from nasnet_keras.files import composed

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# What is no part of a folder, but hardly a class beside `train`.
CALLED = {**PARTS, **dict.fromkeys(("validate", "eval", "evaluation"), "validation"), "holdout": "test"}
# What is called like another image and one of these is a picture of what is where in that one.
MASKS = (
    "mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "annotation", "annotations",
    "groundtruth", "gt",
)  # fmt: skip
WORN = frozenset(("with", "without", "no"))  # of `with_mask` and `without_mask`, which are classes
BEHIND = "0123456789 _.-"  # such a word, and " _.-" before it
# What folders are called that hold images of whatever kind.
IMAGES = frozenset((
    "image", "images", "img", "imgs", "jpeg", "jpg", "png", "photo", "photos", "picture", "pictures", "input",
    "inputs", "rgb", "original", "originals", "raw", "frames", "data", "set",
))  # fmt: skip
HEAPS = frozenset(("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"))
PIECES = "{}, which are called as images and differ in numbers alone"
# What programs write for a label that is missing.
GAPS = frozenset(("nan", "NaN", "NAN", "None", "NULL", "null", "<NA>", "NA", "N/A", "n/a", "#N/A", "NaT"))


def words(name):
    """The words of letters in a name, in lower case: of `JPEGImages_2017` jpeg and images."""
    return [word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def part_of(folder):
    """The part that a folder's name says: `Train`; or, with folders of images inside, `training_set`, `seg_test`."""
    name = folder.name.strip().lower()
    if name in PARTS or not folder.with_images():
        return PARTS.get(name)
    found = {PARTS[word] for word in re.findall("[a-z]+", name) if word in PARTS}
    return found.pop() if len(found) == 1 else None


def way_of_table(root, left_out):
    """What errors add where a table lies beside the images, text; empty where there is none.

    Args:
        root, left_out: as for `check_classes`.
    """
    tables = [name for name in left_out if name.lower().endswith(TABLES)]
    tables.sort(key=lambda name: (name.count("/"), "train" not in words(os.path.basename(name)), name))
    return f"; if labels are in a table: --data {shown(os.path.join(root, tables[0]))}" if tables else ""


def remarks(classes, root, left_out, in_top, begun):
    """What is odd about folders that are taken for classes, a line each.

    Args:
        classes: the folders.
        root: the folder that they lie in, as a user calls it.
        left_out: names of what else is there, a table among them perhaps.
        in_top: whether they lie in no folder of a part: then they may be parts themselves.
        begun: whether they were taken for classes before, which is not refused then.

    Raises:
        ValueError: they are flat parts, images and their masks, or pieces of one heap of images beside a table.
    """
    masked = _masked(classes)
    if objection := _objection(classes, masked, root, left_out, in_top):
        if not begun:
            rule = "`data` must hold a folder for each class, with its images inside"
            raise ValueError(f"{rule}. Received: {shown(root)} with {objection}")
        yield f"taken for classes as before: {objection}"
    yield from names_alike(folder.name for folder in classes)
    if called := [f"{folder.path}/" for folder in classes if part_of(folder) or _parts_in(words(folder.name))]:
        one = "is taken for a class, and for no part"
        yield f"{few(called)} {one if len(called) == 1 else 'are taken for classes, and for no parts'}"
    for folder, of in masked.items() if not objection else ():
        said = f"is taken for a class, although most of its files are called as images in {shown(of.path)}/"
        yield f"{shown(folder.path)}/ {said}: if they are masks of those, put them into a folder masks/"
    if not objection and _are_pieces(classes):
        said = PIECES.format(few(folder.name for folder in classes))
        yield f"taken for classes: {said}; if labels are in a table: --data TABLE"
    if masked := {folder.name: mask for folder in classes if (mask := _with_masks(folder))}:
        said = "files called as masks of others are trained on as images, unless they lie in a folder masks/"
        yield f"{few(masked)}: {said}, such as {few(masked.values())}"
    inside = [{one.name for one in folder.with_images()} for folder in classes]
    if parts := sorted({name for names in inside for name in names if name.strip().lower() in PARTS}):
        yield f"classes have folders called {few(parts)} inside, whose images are divided anew"
    elif len(classes) > 1 and len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        common = few(sorted(inside[0]))
        yield (
            f"all of the {len(classes)} classes have the same folders inside ({common}), whose images are the class's: "
            f"if {few(folder.name for folder in classes)} are parts, call them train, validation and test"
        )
    elif nested := [folder.name for folder, names in zip(classes, inside, strict=True) if len(names) > 1]:
        one = next(folder for folder in classes if folder.name == nested[0])
        names = few(sorted(folder.name for folder in one.with_images()))
        yield f"{few(nested)}: images in folders of a class are the class's, such as {names} in {shown(one.name)}"


def names_alike(names):
    """Lines on classes whose names a reader takes for the same, and on names that stand for no label."""
    found, names = {}, list(names)
    for name in names:
        found.setdefault(composed(" ".join(name.split())).casefold().removesuffix(".0"), []).append(name)
    by_case, otherwise = [], []
    for same in found.values():
        if len(same) > 1:
            kind = otherwise if len({name.casefold() for name in same}) > 1 else by_case
            kind.append(" and ".join(map(shown, same)))
    if by_case:
        yield f"classes whose names differ only in upper and lower case are different ones: {few(by_case)}"
    if otherwise:
        how = "in blanks, a .0, or how a letter with its accent is stored"
        yield f"classes whose names differ only {how} are different ones: {few(otherwise)}"
    if gaps := [name for name in names if name.strip() in GAPS]:
        yield f"{few(gaps)}: a class of its own, although programs write that for a label which is missing"


def _objection(classes, masked, root, left_out, in_top):
    """Why folders are hardly classes, in words, and what to do; None where they may be. See `remarks`."""
    named = {folder.name: words(folder.name) for folder in classes}
    parts = {name: _parts_in(own) for name, own in named.items()}
    # `stage1_train` and `stage1_test` are called alike but for their parts; `test_tube` is one only if all are so.
    alike = {}
    for name, own in named.items():
        alike.setdefault(frozenset(own) - {*CALLED} - IMAGES, set()).update(parts[name])
    every = set().union(*parts.values()) if all(parts.values()) else set()
    is_flat = in_top and any(not folder.with_images() for folder in classes)
    if is_flat and (len(every) > 1 or any(len(one) > 1 and "train" in one for one in alike.values())):
        called = few(name for name, own in parts.items() if own)
        said = f"{called}, which are called as parts and hold images in no folder of a class"
        table = way_of_table(root, left_out) or "; if labels are in a table: --data TABLE"
        return f"{said}: if they are classes, put them into train/{table}"
    if masked and all(folder in masked or IMAGES & {*words(folder.name)} for folder in classes):
        images = few(sorted({of.name for of in masked.values()}))
        said = f"images in {images}, and what is called as masks of these in {few(one.name for one in masked)}"
        return f"{said}: if they are classes, call them otherwise"
    if (table := way_of_table(root, left_out)) and _are_pieces(classes):
        return f"{PIECES.format(few(named))}: if they are classes, call them otherwise{table}"
    return None


def _are_pieces(classes):
    """Whether folders are called as images and differ in numbers alone, as those that one heap was too large for."""
    # `img_猫` and `img_犬` differ in more.
    named = {re.sub(r"[\d _.()-]+", "", composed(folder.name).casefold()) for folder in classes}
    return len(classes) > 1 and len(named) == 1 and bool(HEAPS & {*words(classes[0].name)})


def _parts_in(found):
    """The parts that some words name."""
    return {CALLED[word] for word in found if word in CALLED}


def _stems(folder):
    """{the name of each image below a folder without its suffix: with it}."""
    names = [path[path.rfind("/") + 1 :] for path, _ in folder.every_file()]
    return {name.rpartition(".")[0] or name: name for name in names}


def _unmasked(stem):
    """What the image is called to which a mask of such a name belongs; None of other names."""
    if not (stem := stem.rstrip(BEHIND)).lower().endswith(MASKS):
        return None
    word = next(word for word in MASKS if stem.lower().endswith(word))
    return stem[: -len(word)].rstrip(" _.-")


def _with_masks(folder):
    """A mask beside its image in a class's folder, where at least a third of the files seem to be such; else None."""
    stems = _stems(folder)
    masks = [stem for stem in stems if _unmasked(stem) in stems]
    return stems[masks[0]] if masks and 3 * len(masks) >= folder.count else None


def _masked(classes):
    """{a folder that is called as one of masks: another one, as whose images most of its files are called}."""
    masks = [folder for folder in classes if _is_of_masks(folder.name) and not WORN & {*words(folder.name)}]
    stems = {folder: [(stem, _unmasked(stem)) for stem in _stems(folder)] for folder in masks}
    found = {}
    for other in classes if masks else ():
        if _is_of_masks(other.name):
            continue
        own = {*_stems(other)}  # of a million files: each once, and dropped
        for folder in [one for one in masks if one not in found]:
            if 2 * sum(stem in own or image in own for stem, image in stems[folder]) > len(stems[folder]):
                found[folder] = other
    return {folder: found[folder] for folder in masks if folder in found}


def _is_of_masks(name):
    """Whether a folder's name has a word of masks."""
    found = words(name)
    joined = "".join(found)
    return bool({*found} & {*MASKS}) or "groundtruth" in joined
