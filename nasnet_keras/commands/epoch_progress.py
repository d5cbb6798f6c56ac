"""The progress bar of a training."""

import keras

from nasnet_keras.commands.progress import bar


class EpochProgress(keras.callbacks.Callback):
    """One bar for a training, a step for each batch.

    Args:
        title: what is trained.
        epochs: epochs in all.
    """

    def __init__(self, title, epochs):
        super().__init__()
        self.bar, self.epochs = bar(), epochs
        self.task = self.bar.add_task(title, total=None, note="")

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def on_train_begin(self, logs=None):
        """Learn how many steps there are."""
        self.bar.update(self.task, total=self.params["steps"] * self.epochs)

    def on_epoch_begin(self, epoch, logs=None):
        """Stand where the epoch begins, also after a resumption."""
        self.bar.update(self.task, completed=epoch * self.params["steps"])

    def on_train_batch_end(self, batch, logs=None):
        """One step more."""
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's figures."""
        figures = "  ".join(f"{key} {value:.3f}" for key, value in (logs or {}).items() if "accuracy" in key)
        self.bar.update(self.task, note=f"epoch {epoch + 1}/{self.epochs}  {figures}")
