"""Trials that share their weights, and how these survive a kill."""

import numpy as np

from nasnet_keras.children.screening import check
from nasnet_keras.children.settings import sizes
from nasnet_keras.children.sharing import SharedWeights
from nasnet_keras.data.loading import normalize
from nasnet_keras.files import write_atomically
from nasnet_keras.training import fitting as training


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

    A reward is the accuracy on the validation images, with each batch's own statistics. It is not what the
    child would reach alone: later trials profit from earlier ones, and an operation that many children use is trained
    better than a rare one. The ranking is the less certain for it.

    After each trial the weights are saved under its number; the file of the trial before it stays, so that a trial
    that was trained but not logged starts again from the same weights.

    Args:
        child: a `ChildSettings`.
        directory: the folder of the files.
    """

    def __init__(self, child, directory):
        self.child, self.directory, self.steps = child, directory, child.shared_steps

    def evaluate(self, genotype, data, seed, trial, on_epoch=None):
        """As `ChildSettings.evaluate`; `trial` is the trial's number, from 0, and there are no epochs.

        Raises:
            FloatingPointError: the loss is not finite; the shared weights stay as they were.
            screen.ScreenedOut: the child is not worth training; likewise.
        """
        if self.child.screen:
            check(self.child, genotype, data, seed)
        shared, before = self._load(trial)
        batches = self.child.batches(data, 0)
        child = self.child.start(genotype, data, seed, None)
        shared.give(child)
        for number in range(before * self.steps, (before + 1) * self.steps):
            batches.epoch, index = divmod(number, len(batches))
            loss = child.train_step(*batches[index])
        training.check_loss(float(loss), 0)
        shared.take(child)
        images = normalize(data.validation.images[:])
        reward = training.reward(child.evaluate(images, data.validation.labels, batch_statistics=True))
        self._save(shared, trial, before + 1)
        return {"reward": reward, **sizes(child, data)}

    def _files(self):
        return {int(path.stem.removeprefix("trial-")): path for path in self.directory.glob("trial-*.npz")}

    def _load(self, trial):
        """(the weights that this trial starts from, how many trials have trained them)."""
        states = [SharedWeights.from_file(path) for number, path in self._files().items() if number != trial]
        if not states:
            return SharedWeights(), 0
        shared, about = max(states, key=lambda state: state[1]["trials"])
        return shared, about["trials"]

    def _save(self, shared, trial, trials):
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.directory / f"trial-{trial:05d}.npz", shared.to_bytes(trials=np.int64(trials)))
        for number in sorted(self._files())[:-2]:
            self._files()[number].unlink()
