"""Weights that children have in common: an operation between the same two states has one set of weights for all.

Pham et al. 2018 (arXiv 1802.03268), ENAS: each child trains for a few steps from what those before it have left.
What reads a cell's output has its rows for each state apart, so that children with other
concatenations share them too. The moving statistics belong to one child and are not shared.
"""

import io
import logging
import re

import numpy as np

from nasnet_keras.children.screening import check
from nasnet_keras.children.settings import AT_ONCE, accuracy, judged_at_once, reward, sizes_of
from nasnet_keras.data.batches import readable
from nasnet_keras.files import write_atomically
from nasnet_keras.training.fitting import check_loss

logger = logging.getLogger(__name__)

CELL = re.compile(r"(stem_cell|reduction_cell|cell)_\d+")
OPERATION = re.compile(rf"{CELL.pattern}/block_(\d+)/(left|right)/")


class SharedWeights:
    """The weights of all children that have been trained so far.

    Attributes:
        tables: {key: array}; empty at first, a child adds what no other had.
    """

    def __init__(self, tables=None):
        self.tables = dict(tables or {})

    def give(self, child):
        """Set the shared weights in a child; what nobody has trained yet stays as it is.

        Args:
            child: a `child.BaseChild`.
        """
        weights = list(child.get_weights())
        for number, axis, parts in keys(child):
            weights[number] = np.array(weights[number])  # a framework's own arrays cannot be written
            start = 0
            for key, length in parts:
                piece = _piece(weights[number], axis, start, length)
                if key in self.tables:
                    piece[...] = self.tables[key]
                start += length
        child.set_weights(weights)

    def take(self, child):
        """Keep a child's weights as the shared ones."""
        weights = child.get_weights()
        for number, axis, parts in keys(child):
            start = 0
            for key, length in parts:
                self.tables[key] = _piece(weights[number], axis, start, length).copy()
                start += length

    def to_bytes(self, **about):
        """An `.npz` file of the weights, with further numbers about them."""
        stream = io.BytesIO()
        np.savez(stream, **{f"weights {key}": table for key, table in self.tables.items()}, **about)
        return stream.getvalue()

    @classmethod
    def from_file(cls, path):
        """(the weights, {name: number}) of a file that holds what `to_bytes` gave."""
        # Through memory: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            names = [name for name in stored.files if name.startswith("weights ")]
            about = {name: stored[name].item() for name in stored.files if name not in names}
            return cls({name.removeprefix("weights "): stored[name] for name in names}), about


def keys(child):
    """For each trained weight (its number, the axis that is cut, [(key, length), …]): what it is called among all.

    Args:
        child: a `child.BaseChild`.
    """
    sources, number, result = _sources(child), 0, []
    for step in child.program.steps:
        for weight in step.weights:
            states = sources.get(step.reads[0].number)
            if states and weight.fan_out:
                axis, length = len(weight.shape) - 2, step.reads[0].channels // len(states)
                parts = [(f"{weight.name} of state {state}", length) for state in states]
            else:
                axis, parts = 0, [(f"{weight.name}{_operation(child, weight.name)}", weight.shape[0])]
            if weight.trainable:
                shape = ["*" if place == axis and states else str(side) for place, side in enumerate(weight.shape)]
                result.append((number, axis, [(f"{key} {'x'.join(shape)}", length) for key, length in parts]))
            number += 1
    return result


def _sources(child):
    """{value: the states that a cell has joined in it}, for cells' outputs and what keeps their channels."""
    outputs = {step.layer: step.result.number for step in child.program.steps if CELL.fullmatch(step.layer)}
    sources = {number: _cell(child, layer).concat for layer, number in outputs.items()}
    for step in child.program.steps:
        if step.primitive.kind in ("relu", "subsample", "shift", "mean") and step.reads[0].number in sources:
            sources[step.result.number] = sources[step.reads[0].number]
    return sources


def _cell(child, layer):
    genotype = child.architecture.genotype
    return genotype.normal if layer.startswith("cell") else genotype.reduction


def _operation(child, name):
    """Which operation on which state a weight belongs to, if it belongs to one."""
    found = OPERATION.match(name)
    if not found:
        return ""
    block, side = _cell(child, name).blocks[int(found[2])], found[3] == "right"
    return f" of {block.operations[side]} on {block.inputs[side]}"


def _piece(array, axis, start, length):
    return array[(slice(None),) * axis + (slice(start, start + length),)]


def shared_evaluation(child, role, folder):
    """The `SharedEvaluation` of a search, with its files in a folder, or None for children that share nothing.

    Raises:
        ValueError: several workers search, and nobody hands the weights from one to the other.
    """
    if getattr(child, "evaluation", "independent") != "shared":
        return None
    if role is not None:
        raise ValueError("`evaluation` must be independent where several workers search. Received: 'shared'")
    return SharedEvaluation(child, folder)


class SharedEvaluation:
    """Children that train for a few steps from the weights that those before them left, one after another.

    A reward is the accuracy on the validation images, with each batch's own statistics, so a search keeps the size of
    these batches beside the weights. It is not what the child would reach alone: later trials profit from earlier ones,
    and an operation that many children use is trained better than a rare one. The ranking is the less certain for it.

    After each trial the weights are saved under its number; the file of the trial before it stays, so that a trial
    that was trained but not logged starts again from the same weights.

    Args:
        child: a `ChildSettings`.
        directory: the folder of the files.
    """

    def __init__(self, child, directory):
        self.child, self.directory, self.steps = child, directory, child.shared_steps

    def evaluate(self, genotype, data, seed, trial, on_epoch=None, among=None):
        """As `ChildSettings.evaluate`; `trial` is the trial's number, from 0, and there are no epochs.

        Raises:
            FloatingPointError: the loss is not finite; the shared weights stay as they were.
            screening.ScreenedOut: the child is not worth training; likewise.
        """
        if self.child.screen:
            check(self.child, genotype, data, seed, among)
        shared, before, at_once = self._load(trial)
        at_once = at_once or judged_at_once(data.validation)
        batches = self.child.batches(data, 0)
        child = self.child.start(genotype, data, seed, None)
        shared.give(child)
        for number in range(before * self.steps, (before + 1) * self.steps):
            batches.epoch, index = divmod(number, len(batches))
            loss = child.train_step(*readable(batches[index]))
        check_loss(float(loss), 0)
        shared.take(child)
        found = reward(accuracy(child, data.validation, at_once, batch_statistics=True))
        self._save(shared, trial, before + 1, at_once)
        return {"reward": found, **sizes_of(child.program, data)}

    def _files(self):
        return {int(path.stem.removeprefix("trial-")): path for path in self.directory.glob("trial-*.npz")}

    def _load(self, trial):
        """(the weights that this trial starts from, how many trials have trained them, validation images at once).

        The last is None in a search that has no weights yet.
        """
        states = [self._read(path) for number, path in self._files().items() if number != trial]
        states = [state for state in states if state is not None]
        if not states:
            return SharedWeights(), 0, None
        return max(states, key=lambda state: state[1])

    def _read(self, path):
        """What `_load` gives, of one file; None if it is damaged, and then it is set aside."""
        try:
            shared, about = SharedWeights.from_file(path)
            return shared, about["trials"], about.get("at_once", AT_ONCE)  # an earlier version's have none
        except (OSError, MemoryError):  # of the machine, not of the file: it may be there the next time
            raise
        except Exception as error:  # damaged bytes make NumPy's and zipfile's readers raise almost anything
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            logger.warning(
                "%s cannot be read (%s) and is kept as %s; the weights go on from an earlier trial's",
                path, error, aside.name,
            )  # fmt: skip
            return None

    def _save(self, shared, trial, trials, at_once):
        self.directory.mkdir(parents=True, exist_ok=True)
        content = shared.to_bytes(trials=np.int64(trials), at_once=np.int64(at_once))
        write_atomically(self.directory / f"trial-{trial:05d}.npz", content)
        for number in sorted(self._files())[:-2]:
            self._files()[number].unlink()
