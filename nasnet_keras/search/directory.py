"""The directory of a search: what lies where, who may write there, and of what kind its children are."""

import json
import logging
import os
import threading
import weakref
from contextlib import closing, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np

from nasnet_keras.checks import first_difference
from nasnet_keras.files import composed, expanded, read_object, take_lock, write_atomically
from nasnet_keras.search.own import public_attributes

logger = logging.getLogger(__name__)

# Of the description of children, what earlier versions did not keep; all but the last is what images are known by.
LATER = ("images", "training", "validation", "grey_range")
BEFORE = "as_known_before"  # what earlier versions knew files by where it is something else
FIGURES = "result.json"  # of a model in `retrained_models` or `final`, beside it
TRAINED = ("model.keras", FIGURES, "history.json", "data.json")  # what tells that a training has a directory
CHILD = "child."  # what a child is known by beside its fields begins so, lest it meet what all children have in common
CLASS = f"{CHILD}class"


def _below(*names, doc):
    return property(lambda self: self.path.joinpath(*names), doc=doc)


class SearchDirectory:
    """The paths in a search's directory, each a `Path` that need not exist.

    Args:
        path: of the directory.

    Attributes:
        path: the directory as a `Path`.
    """

    def __init__(self, path):
        self.path = Path(expanded(path))

    def objective(self, unknown="max"):
        """Name and direction of what is looked for here, `"reward"` and `unknown` where nothing says it."""
        try:
            told = read_object(self.header)["objective"]
            return str(told["name"]), "min" if told["direction"] == "min" else "max"
        except (OSError, KeyError, TypeError, ValueError):
            return "reward", unknown

    @classmethod
    def of_project(cls, directory=None, project_name=None, **_):
        """That of a tuner's project, by KerasTuner's arguments."""
        return cls(Path(directory or ".") / (project_name or "untitled_project"))

    header = _below("search.json", doc="What search this is: strategy, space, seed, settings, objective, rules.")
    children = _below("children.json", doc="What all its children have in common.")
    trials = _below("trials.jsonl", doc="Log: a line per finished trial, written before anything is learnt from it.")
    imported = _below("imported.jsonl", doc="Log: what the strategy was told of another search, if anything.")
    tries = _below("tries", doc="Folder: the genotypes of the first trials, a file each, if it was given any to try.")

    controller = _below("controller", doc="Folder: what the strategy needs to go on.")
    proposals = _below("controller", "proposals.jsonl", doc="Log: a line per started trial, written before it runs.")
    attempts = _below("controller", "attempts.jsonl", doc="Log: a line whenever a trial is given out again, or back.")
    updates = _below("controller", "updates.jsonl", doc="Log: a line per update of the policy, its diagnostics.")
    snapshot = _below("controller", "state.npz", doc="The strategy as it was a few trials ago; replaced now and then.")
    lock_file = _below("controller", "lock", doc="What the process that searches here has locked.")

    preference = _below("preference.json", doc="By which cost and rule the best trial is chosen.")
    cost_functions = _below("cost_functions.json", doc="Which function measured each cost last: {name: its mark}.")
    best_genotype = _below("best_genotype.json", doc="The found genotype.")
    best_normal = _below("best_normal.svg", doc="A picture of its normal cell.")
    best_reduction = _below("best_reduction.svg", doc="A picture of its reduction cell.")
    report = _below("report.html", doc="The search as one page.")

    retrained = _below("retrained.json", doc="How those did that were trained again, the best first.")
    retrained_models = _below("retrained", doc="Folder: a model for each of them, by its trial's id.")
    final = _below("final", doc="Folder: the models of the final comparison, by the network's name.")

    tensorboard = _below("tensorboard", doc="Folder: the search for TensorBoard.")
    shared = _below("shared", doc="Folder: the weights that children share.")
    logs = _below("logs", doc="Folder: what the workers on this machine write.")
    chief_log = _below("chief.log", doc="What the chief of several workers saw.")


class DirectoryLock:
    """The right to write in a search's directory, which one search has at a time; a context manager around each write.

    Another process is refused as long as this one lives or until `close`. In one process the newest takes over, since
    whoever runs a notebook's cell again does not know what still holds on to the search before: that one is told so
    when it is used again. A write that has begun ends before the next search takes over, so there are never
    two writers.

    Args:
        directory: the `SearchDirectory`.

    Attributes:
        given_out: {number of a trial: which of its runs this process has begun there last}, of all its locks.

    Raises:
        ValueError: another process has it.
    """

    def __init__(self, directory):
        self.folder, self._mutex, self._lost = directory.path, threading.RLock(), None
        path = directory.lock_file
        path.parent.mkdir(parents=True, exist_ok=True)
        with _taking:
            key = os.path.realpath(self.folder)
            if key in _locks:
                _locks[key].close("was taken over by a later search in this process")
            try:
                handle = take_lock(path, os.O_RDWR | os.O_CREAT)
            except BlockingIOError:
                raise ValueError(
                    f"`directory` {self.folder} is in use: another process searches there. End it first"
                ) from None
            self._release = weakref.finalize(self, os.close, handle)
            _locks[key], self.given_out = self, _given_out.setdefault(key, {})

    def check(self):
        """Raise `ValueError` if this is no longer the one that may write."""
        if self._lost:
            raise ValueError(f"`directory` {self.folder} {self._lost}. Make a new oracle to go on there")

    def close(self, reason="was closed"):
        """Let others have the directory; `reason` is what this one's user is told who goes on all the same."""
        with self._mutex:
            self._lost = self._lost or reason
            self._release()

    def __enter__(self):
        self._mutex.acquire()
        try:
            self.check()
        except ValueError:
            self._mutex.release()
            raise
        return self

    def __exit__(self, *_):
        self._mutex.release()


# What a process has locked is the process's own state, and only that can tell one search of it from another process's.
_locks, _taking = weakref.WeakValueDictionary(), threading.RLock()
_given_out = {}  # likewise: {folder: {number of a trial: which of its runs was begun from here, the last one}}


def _leave_to_parent():
    """A forked process has copies of the handles, which would keep the locks alive, and must not write with them."""
    for lock in list(_locks.values()):
        lock._lost = "belongs to the process that this one was forked from"
        lock._release()
    _locks.clear()
    _given_out.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def right_to_overwrite(overwrite, place):
    """A context in which no other process searches in the folder that KerasTuner is about to remove.

    It removes what lies there without a question, and whoever searched there would go on in the new search's logs.

    Args:
        overwrite: whether it does.
        place: the `SearchDirectory`.

    Raises:
        ValueError: another process searches there; nothing is removed.
    """
    in_use = overwrite and place.lock_file.exists()
    return closing(DirectoryLock(place)) if in_use else nullcontext()


def check_place(directory):
    """Raise `ValueError` if a directory is none for a new search: a training has it, or what would be lost lies there.

    `training.identity.check_place` is its counterpart. What was left by a search that was killed is that search's.
    """
    place = SearchDirectory(directory)
    if place.header.exists() or place.controller.exists():
        return
    written = (place.best_genotype, place.best_normal, place.best_reduction, place.report, place.retrained)
    for path in (*map(place.path.joinpath, TRAINED), *written):
        if os.path.lexists(path):
            rule = "which no search there has written. Choose another directory, or move the file away"
            raise ValueError(f"`directory` {place.path} holds {path.name}, {rule}")


def description(child, data=None):
    """What all children of a search have in common, JSON-able; without data, as far as the child tells.

    Its class and its attributes tell: the fields of a dataclass, and of any object what is public and fits into JSON.
    """
    common = {}
    if data is not None:
        # A folder is known by its images, wherever it lies; a limit and its seed say which of them are used.
        is_listed = data.record is not None and data.record.is_listed
        common |= {} if is_listed else {"data": data.name}
        common |= {"image_shape": data.image_shape, "train_images": len(data.train), **images_of(data)}
    own = _jsonable(child) if is_dataclass(child) else {}
    if child is not None:
        further = {f"{CHILD}{name}": value for name, value in public_attributes(child).items() if name not in own}
        own |= {CLASS: type(child).__qualname__, **further}
    return json.loads(json.dumps({**own, **common}, default=_jsonable, skipkeys=True))


def images_of(data):
    """What the images that children learn from and are judged by are known by, in whatever order, JSON-able."""
    train, validation = data.train, data.validation
    sized = {split: not data.lists_sizes(split) for split in (train, validation)}
    known = {"images": data.content, "validation": validation.content(composed, sized[validation])}
    known |= {"training": train.content(composed, sized[train])} if data.digest else {}
    before = {} if data.digest or train.files is None else {"images": train.content(sized=False)}
    if sized[validation] and validation.files is not None:
        before["validation"] = validation.content(composed, sized=False)
    known |= {BEFORE: before} if before else {}
    return known | {"grey_range": data.grey_range and list(data.grey_range)}


def _jsonable(value):
    """What JSON cannot hold of a child of somebody's own, which is known by its type, as what it can."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.item() if isinstance(value, np.generic) else type(value).__name__


def knows_images(directory):
    """Whether no search has begun in a directory yet, or one by which its images are known, whatever their order."""
    directory = SearchDirectory(directory)
    try:
        return "images" in read_object(directory.children)
    except (OSError, ValueError):
        return not directory.proposals.exists()


def compare_children(directory, now):
    """Raise `ValueError` if a directory is known to hold children of another `description`; nothing is changed."""
    try:
        then = read_object(SearchDirectory(directory).children)
    except (OSError, ValueError):
        return
    then |= {key: now[key] for key, before in now.get(BEFORE, {}).items() if then.get(key) == before}
    named_alike = then.get("data") == now.get("data")
    known = [key for key in now if key != BEFORE and (key in then or key not in LATER or not named_alike)]
    # An earlier version knew no child but by its fields; attributes may be counters or times, so they are told.
    known = [key for key in known if not key.startswith(CHILD) or (key == CLASS and CLASS in then)]
    if different := first_difference(then, now, known):
        key, old, new = different
        advice = "Choose another directory"
        if key in LATER[:-1]:
            advice += ", or the same images, held out alike: a data set with `shuffle=False` and nothing random"
        raise ValueError(
            f"`directory` {directory} holds a search whose children have another `{key}`: "
            f"{old!r}. Received: {new!r}. {advice}"
        )


def keep_children(directory, now, numerics):
    """Write down what the children of this directory are, or compare.

    Args:
        directory: of the search.
        now: their `description`.
        numerics: what their numbers come from, see `children.settings.numerics`; others are told, not refused.

    Raises:
        ValueError: as `compare_children`.
    """
    path = SearchDirectory(directory).children
    try:
        # An earlier version wrote nothing down; whatever it computed on, its numbers were the first ones there.
        begun = read_object(path).get("numerics", f"{numerics.partition('/')[0]}/1")
    except ValueError:
        path.replace(path.with_name(f"{path.name}.damaged"))
        logger.warning(
            "%s cannot be read and is kept as %s.damaged; the children are taken to be these", path, path.name
        )
    except FileNotFoundError:
        pass
    if not path.exists():
        begun = numerics
        kept = {key: value for key, value in now.items() if key != BEFORE}
        write_atomically(path, json.dumps({**kept, "numerics": numerics}, indent=1).encode())
    compare_children(directory, now)
    then, own = read_object(path), {key: value for key, value in now.items() if key.startswith(CHILD)}
    if CLASS not in then and own.get(CLASS, "ChildSettings") != "ChildSettings":
        logger.warning("%s does not say which child it was begun with, and goes on with %s", path, own[CLASS])
        write_atomically(path, json.dumps({**then, **own}, indent=1).encode())
    known = [key for key in {**then, **own} if key.startswith(CHILD) and CLASS in then]
    if different := first_difference(then, own, known):
        key, old, new = different
        logger.warning(
            "%s was begun with children of `%s` %r, and goes on with %r: choose another directory if rewards follow "
            "from it, or call it `_%s` if none does",
            directory, name := key.removeprefix(CHILD), old, new, name,
        )  # fmt: skip
    if begun != numerics:
        logger.warning(
            "%s was begun with numerics %s and goes on with %s: a reward may differ in its last digits from what it "
            "would have been",
            directory, begun, numerics,
        )  # fmt: skip
