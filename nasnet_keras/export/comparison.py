"""What a file costs beside the network that it was written of: accuracy lost, and milliseconds an image."""

import time

import numpy as np

LIMIT = 1.0  # points of accuracy, beyond which it is said that a file has lost them
BATCH = 32  # images at a time, for the accuracy
RUNS = 30  # of one image, or of a batch, for the latency


class LossError(ValueError):
    """A file has lost more accuracy than it may."""


class Comparison:
    """Accuracy and latency of a network and of what is written of it, on the same images.

    Args:
        images: uint8 images of one size, which `[array of places]` gives.
        places: of those that count, integers [n].
        score: a function from probabilities [n, classes] to the figure that counts, at most 1.
        measure: the key of `training.figures.MEASURES` of this figure.
        called: what the figure is called.
        most: points of it that may be lost, None: any, and it is said.
        batch: images of a call, which is timed.

    Attributes:
        images: how many count.
        rows: a dict for the network and for each file, in the order of their measuring: `name`, `bytes`, the figure
            under its key, `milliseconds` an image, and `drop`, the points lost.
        notes: lines on what was lost.
    """

    def __init__(self, images, places, score, measure, called, most=None, batch=1):
        self._source, self._places, self._score, self.images = images, places, score, len(places)
        self.measure, self.called, self.batch = measure, called, batch
        self._most, self.rows, self.notes = most, [], []

    def begin(self, probabilities, call):
        """The network's own row.

        Args:
            probabilities: its answers to all images that count.
            call: does once what is timed.
        """
        self.rows.append({"name": "the model", "bytes": None, **self._figures(probabilities, call), "drop": 0.0})

    def add(self, name, run):
        """Measure a file by a function from pixels to probabilities; raises `LossError` where it has lost too much."""
        parts = [self._places[start : start + BATCH] for start in range(0, len(self._places), BATCH)]
        outputs = [run(np.asarray(self._source[part], "float32")) for part in parts]
        images = np.asarray(self._source[np.resize(self._places, self.batch)], "float32")
        figures = self._figures(np.concatenate(outputs), lambda: run(images))
        # A loss that is just allowed is not refused because of how numbers are rounded.
        own = self.rows[0][self.measure]
        drop = round(100 * (own - figures[self.measure]), 6)
        if self._most is not None and drop > self._most:
            self.rows.append({"name": f"{name}, not written", "bytes": None, **figures, "drop": drop})
            lost = f"{drop:.2f} points of {100 * own:.2f}%" + ("" if self.measure == "accuracy" else f" {self.called}")
            raise LossError(f"`max_drop` is {self._most:g}, and {name} loses {lost}, so nothing was written of it")
        if self._most is None and drop > LIMIT:
            self.notes.append(f"{name} loses {drop:.2f} points of {self.called}: more, and typical, images may help")
        self.rows.append({"name": name, "bytes": None, **figures, "drop": drop})

    def give_up(self, name):
        """What was measured of a file that does not appear after all."""
        row = self.rows[-1]
        if row["name"] == name and row["bytes"] is None:
            row["name"] = f"{name}, not written"

    def _figures(self, probabilities, call):
        for _ in range(3):
            call()
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) / self.batch)
        return {self.measure: self._score(probabilities), "milliseconds": 1000 * float(np.median(times))}
