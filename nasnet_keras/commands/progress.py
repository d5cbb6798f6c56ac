"""Progress bars on stderr for whatever lasts; silent where stderr is no terminal."""

import sys
from collections import deque
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def bar():
    """An empty `rich.progress.Progress` in the house's style."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    )


class SearchProgress:
    """A search's bar: the current trial, the best reward, the mean of the last 20, time left; and one for its workers.

    Args:
        max_trials: trials in all.
    """

    def __init__(self, max_trials):
        self.bar = bar()
        self.task = self.bar.add_task("search", total=max_trials, note="")
        self.rewards, self.best, self.seen = deque(maxlen=20), float("-inf"), 0
        self.stale, self.workers, self.dashboard, self.trouble = deque(maxlen=20), None, None, None

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def update(self, trials):
        """Show how things stand after these finished trials; only those that are new are looked at."""
        for trial in trials[self.seen :]:
            self.stale.append(trial.get("staleness") or 0)
            if trial["reward"] is not None:
                self.rewards.append(trial["reward"])
                self.best = max(self.best, trial["reward"])
        self.seen = len(trials)
        note = f"trial {len(trials)}"
        if self.rewards:
            mean = sum(self.rewards) / len(self.rewards)
            note += f"  best {self.best:.4f}  mean of last {len(self.rewards)} {mean:.4f}"
        self.bar.update(self.task, completed=len(trials), note=note)

    def place(self, state):
        """Show the workers elsewhere, see `running.run_trials`; the page of their cluster is named once."""
        if self.workers is None:
            self.workers = self.bar.add_task("workers", total=None, note="")
        if state["dashboard"] and not self.dashboard:
            self.dashboard = state["dashboard"]
            self.bar.console.print(f"Ray's dashboard: {self.dashboard}", highlight=False, markup=False, soft_wrap=True)
        if state["trouble"] != self.trouble:
            self.trouble = state["trouble"]
            self.bar.console.print(self.trouble, highlight=False, markup=False, soft_wrap=True)
        nodes = state["nodes"] if state["nodes"] > 1 else 0
        counts = (("nodes", nodes), ("starting", state["starting"]), ("runs lost", state["lost"]))
        counts = [f"{count} {name}" for name, count in (*counts, ("trials wait", state["waiting"])) if count]
        if any(self.stale):
            counts.append(f"rewards {sum(self.stale) / len(self.stale):.1f} updates old")
        note = "  ".join(counts)
        self.bar.update(self.workers, completed=state["working"], total=state["workers"], note=note)


@contextmanager
def decoding(what="read images", least=2000):
    """A bar for decoding image files, if there are more than `least`: gives a function of (decoded, all)."""
    with bar() as shown:
        task = shown.add_task(what, total=None, visible=False, note="")
        yield lambda done, total: shown.update(task, completed=done, total=total, visible=total > least)


@contextmanager
def epoch_progress(title, epochs):
    """A bar for a training, a step for each batch: gives the Keras callback that moves it.

    The callback's `features` is a function of (done, all), with a bar of its own, for what is computed before epochs.

    Args:
        title: what is trained.
        epochs: epochs in all, or a function of nothing that gives them as far as they are known.
    """
    from keras.callbacks import LambdaCallback

    in_all = epochs if callable(epochs) else lambda: epochs
    with bar() as shown:
        task = shown.add_task(title, total=None, note="")
        other = shown.add_task("features of images", total=None, visible=False, note="")

        def begin_epoch(epoch, logs=None):  # also after a resumption
            steps = callback.params["steps"]
            shown.update(task, completed=epoch * steps, total=in_all() * steps)

        def end_epoch(epoch, logs=None):
            figures = "  ".join(f"{key} {value:.3f}" for key, value in (logs or {}).items() if "accuracy" in key)
            shown.update(task, note=f"epoch {epoch + 1}/{in_all()}  {figures}")

        callback = LambdaCallback(
            on_epoch_begin=begin_epoch,
            on_train_batch_end=lambda batch, logs=None: shown.advance(task),
            on_epoch_end=end_epoch,
        )
        callback.features = lambda done, total: shown.update(other, completed=done, total=total, visible=done < total)
        yield callback
