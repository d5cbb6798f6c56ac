"""Which training a directory belongs to: what must be the same for it to go on there, and what may change.

Data, network, seed and recipe are what a training is. How long it takes may change at any time, and its learning rate
after one at which the loss was no number; each such change is told in one line, and kept in the history.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from nasnet_keras.checks import first_difference, is_number
from nasnet_keras.data.records import FILE, read_record
from nasnet_keras.data.splits import known_as
from nasnet_keras.files import composed, expanded, read_object
from nasnet_keras.models.nesting import layers_within, policy_name
from nasnet_keras.weights.zoo import zoo_name

HISTORY, MODEL = "history.json", "model.keras"
OTHERS = (MODEL, "result.json", "search.json", "trials.jsonl")  # the latter ones are a search's
PHASES = ("head", "cells", "all")  # of a fine-tuning, each with a folder of its own
ADVICE = "Choose another directory, or what it was begun with"
RATE, VIEWS, START = "`learning_rate`", "`head_views`", "weights to start from"
LEARNS, WATCHED = "layers that learn", "validation images"
WEIGHTS, BALANCED, BEFORE = "`class_weights`", "balanced", ", as kept before"
LEARNS_BEFORE, WEIGHTS_BEFORE = f"{LEARNS}{BEFORE}", f"{WEIGHTS}{BEFORE}"
BROKEN, LEARNT = "files that cannot be read", "training images"
DIVIDED = "`limit`, `seed`, and the shares `validation` and `test`"
SHAPE, SIZE, SIZE_OPTION = "`input_shape`", "image size", "`image_size`, else the size of the images"
# Options that decide on what is not called like them.
BY = {
    "number of training images": DIVIDED,
    LEARNT: DIVIDED,
    WATCHED: DIVIDED,
    RATE: "`learning_rate` and `rate_factor`",
    LEARNS: "`unfreeze` and `layer_decay`",
    "batch norms that keep their statistics": "`batch_norm`",
    "`batch_norm_momentum`": "`batch_norm`",
    "grey range": "`grey_range`",
    "image sizes": "`sizes`",
    SHAPE: SIZE_OPTION,
    SIZE: SIZE_OPTION,
    "classes": "the data",
    START: "`weights` and the model",
}
# What a change means, by what changes.
MEANINGS = {
    "epochs": "{to} epochs instead of {from}, after {after} here: the learning rate follows the schedule of {to} from "
    "now on, so this is not what {to} epochs from the start would give",
    "short": "{done} epochs are done of the {from} for which the learning rate was planned, and {to} are wanted (by "
    "`epochs` or `hours`): none is trained, and the rate has not come down",
    "over": "{done} epochs are done, and {to} are wanted (by `epochs` or `hours`): none is trained",
    "patience": "a patience of {to} instead of {from} after {after} epochs",
    "impatient": "it ends after {after} epochs, {lacking} of them without a better one, by a patience of {to} instead "
    "of {from}: more need a greater `patience`",
    "best": "the weights of epoch {from}, the best so far, were not kept: the best counts from epoch {to} on",
    "crop sides": "after {after} epochs crops of files have the proportions of what is made of them, times 3:4 to 4:3; "
    "before that those of the files, so that files of another shape were squeezed",
    "learning_rate": "a learning rate of {to:g} instead of {from:g} after {after} epochs, because {because}",
    "crops": "after {after} epochs crops are cut from the files' own pixels, before that from smaller images",
    "files": "other files cannot be read than before ({to}, then {from}): it goes on with those that can",
    "ended": "it ended after {after} epochs, {to} of them without a better one: more need a greater `patience`",
}


def training_identity(data, recipe, seed, sizes=None, head_views=None):
    """What a training is known by, JSON-able.

    Args:
        data: a `data.Data`.
        recipe: a `recipes.Recipe`.
        seed: the training's seed.
        sizes: image sizes, or None.
        head_views: that of a fine-tuning's first phase, or None.
    """
    number = len(data.train) + data.train.broken  # whether they have been read yet or not
    known = {"classes": list(map(composed, data.class_names)), "number of training images": number, "seed": seed}
    known |= {"images": data.digest} if data.digest else {}
    known["grey range"] = data.grey_range
    if recipe.crops and data.train.files is not None:
        known |= {"crops": "of files", "crop sides": "of images"}
    known |= {VIEWS: head_views, "image sizes": sizes and list(sizes)}
    known |= {f"`{name}`": value for name, value in asdict(recipe).items()}
    if recipe.optimizer != "rmsprop":
        known.pop("`mean_square`")  # which nothing else reads, and an earlier version kept all the same
    return json.loads(json.dumps(known))


def content_identity(data, validate=True):
    """As `training_identity`, of the images that a training learns from and of those that watch it.

    What the data are known by does not say which of them are whose; it is known once broken files are.

    Args:
        data: a `data.Data`, without the files that were found to be broken.
        validate: whether its validation images watch the training.
    """
    known = {BROKEN: data.train.broken + data.validation.broken}
    # Names that Python gave are known as they stood.
    parts = {LEARNT if data.digest else "images": (data.train, composed if data.digest else str)}
    if validate and len(data.validation):
        parts[WATCHED] = data.validation, composed
    for what, (split, form) in parts.items():
        sized = not data.lists_sizes(split)
        known[what] = split.digest(form, sized)
        if sized and split.files is not None:
            known[f"{what}{BEFORE}"] = split.digest(form, sized=False)
    return known


def known_as_they_are(directory, data):
    """The parts of the data, names, that a fine-tuning in a directory, None for none, had in this very order."""
    if directory is None or data.digest is not None:
        return set()
    known = [begun_as(Path(expanded(directory)) / phase) for phase in PHASES]
    if not (known := [identity for identity in known if identity]):
        return set()
    # The first versions did not note it, and had what came.
    learnt, watched = ([one.get(what) for one in known if what in one] for what in ("images", WATCHED))
    now = content_identity(data)
    train, validation = ({now.get(what), now.get(f"{what}{BEFORE}")} for what in ("images", WATCHED))
    parts = {"train": not learnt or train & set(learnt)}
    parts["validation"] = validation & set(watched) if watched else not learnt
    return {part for part, is_known in parts.items() if is_known}


def network_identity(model, class_weights=None, rates=None, balanced=False):
    """What of the network and of its way to learn counts for its training beside the weights, JSON-able.

    Where the classifier alone learns, nothing counts that is for cells which do.

    Args:
        model: a Keras model; of a `NASNet` it is the architecture.
        class_weights: a factor for each class, or None.
        rates: a factor for each trainable weight, or None.
        balanced: whether those factors follow from the data, which may have more or fewer broken files later on.
    """
    architecture = getattr(model, "architecture", None)
    known = {f"`{name}`": value for name, value in (architecture.to_dict() if architecture else {}).items()}
    for name in ("`class_names`", "`thresholds`"):
        known.pop(name, None)
    known["`dtype`"] = " ".join(sorted({policy_name(layer) for layer in layers_within(model)}))
    paths = [weight.path for weight in model.trainable_variables]
    frozen = [layer.name for layer in layers_within(model) if getattr(layer, "frozen_statistics", False)]
    if architecture and all(f"/{path}".rpartition("/")[0].endswith("/logits") for path in paths):
        for name in ("`batch_norm_momentum`", "`drop_path`"):
            known.pop(name, None)
    else:
        known["batch norms that keep their statistics"] = frozen
    if set(rates or [1]) == {1}:  # the same as none; earlier versions told them apart
        rates, known[LEARNS_BEFORE] = None, _learning(paths, [1.0] * len(paths))
    known |= {WEIGHTS: BALANCED if balanced else class_weights, WEIGHTS_BEFORE: class_weights}
    known[LEARNS] = _learning(paths, rates)
    return json.loads(json.dumps(known))


def _learning(paths, rates):
    return hashlib.sha256(json.dumps([paths, rates]).encode()).hexdigest()[:16]


def check_resumption(directory, identity, epochs=None, patience=None):
    """What changes where a training goes on in a directory; nothing where there is none.

    Args:
        directory: its folder.
        identity: what it must agree with, as far as both say something of it.
        epochs, patience: those from now on; `epochs` None: not known.

    Returns:
        A list of dicts: `what` changes, a key of `MEANINGS`, `after` so many epochs, `from` and `to`.

    Raises:
        ValueError: the directory is known to hold the state of a training of another identity.
    """
    state = _state(directory)
    known, trained = state["identity"], state["epochs"]
    if known:
        known = {VIEWS: None, "`nesterov`": False, **known}  # which earlier versions did not have
        if known.get(LEARNS) == identity.get(LEARNS_BEFORE, 0):
            known[LEARNS] = identity[LEARNS]
        if identity.get(WEIGHTS) == BALANCED and known.get(WEIGHTS) == identity[WEIGHTS_BEFORE]:
            known[WEIGHTS] = BALANCED
        names = identity.get("classes")
        if isinstance(names, list) and known.get("classes") == list(map(str, range(len(names)))):
            known["classes"] = names  # numbers, where an earlier version did not see what data call their classes
    # Nobody can bring back a file that is gone, or break one again.
    contents = [LEARNT if LEARNT in identity else "images", WATCHED]
    known |= {what: identity[what] for what in contents if known.get(what) == identity.get(f"{what}{BEFORE}", 0)}
    failure, old, new = _failure(directory), known.get(RATE), identity.get(RATE)
    lower = failure is not None and None not in (old, new) and new != old
    if not trained and failure:
        return []  # it had no epoch that could go on
    broken = BROKEN in known and BROKEN in identity and (known[BROKEN] or identity[BROKEN])
    mended = broken and first_difference(known, identity, [what for what in contents if what in known])
    if mended and identity.get(WEIGHTS) == BALANCED and known.get(WEIGHTS) and WEIGHTS_BEFORE not in known:
        known[WEIGHTS] = BALANCED  # an earlier version kept the factors alone, which follow from the files
    passed_over = [RATE] * lower + [BROKEN] + contents * bool(mended)
    compared = [what for what in known if what in identity and what not in passed_over and not what.endswith(BEFORE)]
    if different := first_difference(*map(_with_known_classes, (known, identity)), compared):
        what, before, now = different
        values = f"{before}, here {now}; " if is_number(before) and is_number(now) else ""
        more = f" ({values}by {BY[what]})" if what in BY else ""
        raise ValueError(
            f"`directory` {directory} holds the state of another training: it has other {what}{more}. {ADVICE}"
        )
    if lower and new > old:
        raise ValueError(f"`learning_rate` must be at most {old:g}, because {failure}. Received: {new:g}")
    changes = []
    for what in ("crops", "crop sides"):  # begun by an earlier version
        if trained and not changes and what in identity and what not in known:
            changes.append({"what": what})
    if mended:
        changes.append({"what": "files", "from": known[BROKEN], "to": identity[BROKEN]})
    if lower:
        changes.append({"what": "learning_rate", "from": old, "to": new, "because": failure})
    if epochs is not None and trained:
        changes += _changes_of_length(state, epochs, patience)
    return [{"after": len(trained), **change} for change in changes]


def _with_known_classes(identity):
    names = identity.get("classes")
    is_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return {**identity, "classes": list(map(known_as, names))} if is_names else identity


def _changes_of_length(state, epochs, patience):
    """How long it takes from now on, also where that is at an end by now."""
    settings, trained, since = state["settings"], state["epochs"], state["best from"]
    planned, before, done = settings.get("epochs"), settings.get("patience", patience), trained[-1].get("epoch", 0)
    if not before:  # the last weights alone were kept
        since = len(trained)
    ended, lacking = has_ended(trained, patience, since), len(trained) - best_of(trained, patience, since)
    changes = []
    if planned not in (None, epochs):
        if epochs <= done:
            what = "over" if ended or planned <= done else "short"
            changes.append({"what": what, "from": planned, "to": epochs, "done": done})
        elif not ended:
            changes.append({"what": "epochs", "from": planned, "to": epochs})
        elif before == patience:
            changes.append({"what": "ended", "from": patience, "to": lacking})
    if before != patience:
        ends = ended and epochs > done
        further = {"what": "impatient", "lacking": lacking} if ends else {"what": "patience"}
        changes.append({**further, "from": before, "to": patience})
    return changes


def told(directory, changes):
    """The changes of `check_resumption` as texts of one line."""
    return [f"goes on in {directory}: {MEANINGS[change['what']].format(**change)}" for change in changes]


def begun_as(directory):
    """What the training in a folder is known by, see `training_identity`; empty where none has begun."""
    return _state(directory)["identity"]


def settled_head_epochs(directory, epochs, head_epochs=None, unfreeze="all", hours=None):
    """The epochs of a fine-tuning's first phase, as far as a directory has decided on them.

    What has been trained stays: once the second phase has begun, the first is over, and further epochs go there.

    Args:
        directory: the fine-tuning's, or None.
        epochs, head_epochs, unfreeze, hours: as for `transfer.fine_tune`.

    Returns:
        The epochs; `head_epochs` where nothing is decided.

    Raises:
        ValueError: the arguments want other epochs than those.
    """
    if directory is None:
        return head_epochs
    states = [_state(Path(expanded(directory)) / name) for name in PHASES[:2]]
    head, cells = (state["epochs"] for state in states)
    begun = cells[0]["epoch"] if cells else states[1]["inside"].get("epoch")  # of which only a part may be done
    if unfreeze == "head" or not (head or begun):
        return head_epochs
    if not begun:
        planned, done = max(1, round(epochs / 4)) if head_epochs is None else head_epochs, len(head)
        if hours is None and planned < done:
            rule = f"in {directory}, where the head has had so many"
            if epochs <= done:  # the second phase is wanted, and would have none
                raise ValueError(f"`epochs` must be above {done} {rule}. Received: {epochs}")
            if head_epochs is not None:
                raise ValueError(f"`head_epochs` must be at least {done} {rule}. Received: {head_epochs}")
        return max(planned, done)
    settled = begun - 1
    if hours is None and head_epochs not in (None, settled):
        raise ValueError(
            f"`head_epochs` must be {settled} in {directory}, where that phase is over. Received: {head_epochs}"
        )
    if epochs <= settled:
        done = settled + max(1, len(cells))
        raise ValueError(f"`epochs` must be at least {done} in {directory}, where so many are done. Received: {epochs}")
    return settled


def known_epochs(directory, epochs, hours, first=0):
    """The epochs of a training that may take some hours, as far as its first epoch has decided on them.

    Args:
        directory: the training's, or None.
        epochs: the most that are wanted.
        hours: how long it may take, None for as long as it takes.
        first: epochs before this training, which count among `epochs`.
    """
    if directory is None or hours is None:
        return epochs
    return epochs_within(hours, _state(directory)["settings"], epochs, first)


def epochs_within(hours, settings, epochs, first=0):
    """The epochs for which there is time; all, where it is not known how long one takes.

    Args:
        hours: for the whole training.
        settings: of a history; `seconds` are those of the first epoch and of each that follows, `least` how many epochs
            there are in any case.
        epochs: the most that are wanted.
        first: epochs before this training, which count among `epochs`.
    """
    seconds = settings.get("seconds")
    if not isinstance(seconds, list) or len(seconds) != 2 or not all(map(is_number, seconds)):
        return epochs
    whole, each = seconds
    least = settings.get("least", 1)
    return min(epochs, first + max(least, 1 + int((3600 * hours - whole) / max(each, 1e-9))))


def histories(directory):
    """The history of the training in a directory, or of each phase of its fine-tuning.

    Returns:
        A list of (a list with a dict an epoch, the first of them that counts for the best).
    """
    directory = Path(expanded(directory))
    states = map(_state, (directory, *(directory / name for name in PHASES)))
    return [(state["epochs"], state["best from"]) for state in states if state["epochs"]]


def trained_epochs(directory):
    """How many epochs the training in a folder has had."""
    return len(_state(directory)["epochs"])


def has_begun(directory):
    """Whether a folder holds an epoch of a training, or a part of its first one."""
    state = _state(directory)
    return bool(state["epochs"] or state["inside"].get("epoch"))


def passed(directory, names):
    """Those of a fine-tuning's phases after which another one has begun: they are over.

    A later phase may have gone on with a lower learning rate, so theirs is not compared any more.

    Args:
        directory: the fine-tuning's, or None.
        names: of its phases, in their order.
    """
    begun = [place for place, name in enumerate(names) if directory and has_begun(Path(expanded(directory)) / name)]
    return names[: max(begun, default=0)]


def check_place(directory, phases=(), sources=(), others=OTHERS):
    """Raise `ValueError` if a directory is none for a training: another one's, one that lends its own model, or none's.

    What somebody else has left there under a name of a training's files would be lost.

    Args:
        directory: where the training is to go; None for nowhere.
        phases: the names of those of a fine-tuning; none: a training without phases.
        sources: paths of models and weights that it starts from, as `weights.zoo.paths_of` gives them.
        others: files that mean somebody else's, where no training has begun.
    """
    if directory is None:
        return
    place = Path(expanded(directory))
    for source in (Path(os.path.realpath(expanded(source))) for source in sources):
        folder = source.parent if source.name == MODEL else source
        if folder == Path(os.path.realpath(place)):
            raise ValueError(f"`directory` must be another one than the model's. Received: {os.fspath(directory)!r}")
    if phases and os.path.exists(place / HISTORY):
        raise ValueError(f"`directory` {place} holds a training that is no fine-tuning. {ADVICE}")
    for name in (name for name in PHASES if name not in phases and os.path.exists(place / name / HISTORY)):
        this = f"its phase {name} is none of this one's" if phases else "this training is none"
        raise ValueError(f"`directory` {place} holds {'another' if phases else 'a'} fine-tuning: {this}. {ADVICE}")
    begun = {name for name in phases or ("",) if os.path.exists(place / name / HISTORY)}
    folders = [] if begun else [(place, others)]
    for folder, files in folders + [(place / name, ()) for name in phases if name not in begun]:
        if file := _not_trained(folder, files):
            rule = "which no training there has written. Choose another directory, or move the file away"
            raise ValueError(f"`directory` {folder} holds {file}, {rule}")


def _not_trained(folder, files):
    """What in a folder without a history is not what a training leaves, the name of one of some files; or None."""
    if name := next((name for name in files if os.path.lexists(folder / name)), None):
        return name
    try:
        if os.path.lexists(folder / FILE):
            read_record(folder)
    except ValueError:
        return FILE
    return None


def directory_of(model):
    """The directory in which a model's training may have left what it knew: the model's own, or that of its file.

    None for a network of the zoo, which has left nothing: what lies in a folder that is called so is of another one.
    """
    if zoo_name(model):
        return None
    path = Path(expanded(model))
    return path if path.is_dir() or not path.suffix else path.parent


def known_seed(directory):
    """The seed of the training that made the model in a directory, which its test images follow from; or None."""
    seed = known_of(directory, "seed")
    return seed if type(seed) is int and seed >= 0 else None


def known_names(directory):
    """The names of the classes that the training in a directory learns, a tuple, or None."""
    names = known_of(directory, "classes")
    return tuple(names) if isinstance(names, list) else None


def known_of(directory, what):
    """What the training in a directory, or the first phase of its fine-tuning, is known by; or None."""
    if directory is None:
        return None
    directory = Path(expanded(directory))
    places = (directory, *(directory / name for name in PHASES))
    return next((found for place in places if (found := _state(place)["identity"].get(what)) is not None), None)


def is_used(directory):
    """Whether a training has left anything in a directory that it could go on from, or a model; in None it has not."""
    if directory is None:
        return False
    directory = Path(expanded(directory))
    places = [directory / MODEL, directory / HISTORY, *(directory / name / HISTORY for name in PHASES)]
    return any(os.path.exists(place) for place in places)


def is_from_training(directory):
    """Whether a directory with a model says how that was trained, or that a search did it; None says nothing."""
    if directory is None:
        return False
    return known_seed(directory) is not None or os.path.exists(Path(expanded(directory)) / "result.json")


def best_of(epochs, patience, since=1):
    """Number of the best of some epochs, counted from 1: by validation accuracy, then by loss.

    Args:
        epochs: a history, one dict an epoch, at least one.
        patience: None: the last one is the best.
        since: the first that counts.
    """
    numbers = range(min(since, len(epochs)), len(epochs) + 1)
    return numbers[-1] if not patience else max(numbers, key=lambda number: (*_quality(epochs[number - 1]), -number))


def has_ended(epochs, patience, since=1):
    """Whether there has been no better epoch for so long that more are not worth it."""
    return bool(patience and epochs) and len(epochs) - best_of(epochs, patience, since) >= patience


def _quality(epoch):
    """(validation accuracy, minus the validation loss) of an epoch of the history."""
    # Other figures that end in accuracy may stand beside the package's own.
    accuracy = epoch.get("val_predictions_accuracy", epoch.get("val_accuracy", 0.0))
    return accuracy, -epoch.get("val_loss", 0.0)


def _failure(directory):
    """Why the training in a folder, or another phase of its fine-tuning, came to an end before its time; or None."""
    directory = Path(expanded(directory))
    places = [directory, *(directory.parent / name for name in PHASES if directory.name in PHASES)]
    return next((state["failure"] for state in map(_state, places) if state["failure"]), None)


def _state(directory):
    """What a folder's history says; nothing where it is new, or damaged: that is for those to say who read it all."""
    kinds = {"identity": dict, "epochs": list, "settings": dict, "failure": str, "best from": int, "inside": dict}
    try:
        state = read_object(Path(expanded(directory)) / HISTORY)
    except (OSError, ValueError):
        state = {}
    found = {name: value for name in kinds if isinstance(value := state.get(name), kinds[name])}
    return {"identity": {}, "epochs": [], "settings": {}, "failure": None, "best from": 1, "inside": {}, **found}
