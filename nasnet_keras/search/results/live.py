"""The report of a search that runs: what is running now, by which worker, and how long it will take."""

import logging
import math
import threading
import time
from collections import deque

from nasnet_keras.search.results.publication import write_page

logger = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two pages
SHARE = 0.05  # of the time, that may go into writing them
DAY, YEAR = 86400, 365 * 86400  # seconds; of the time left, from which on a date is named, and no more a time
PACE = 50  # trials that the time left is told by


class LiveReport:
    """Writes `report.html` anew every few seconds as long as something happens; a context manager.

    It knows only what it is told, and writes in a thread of its own. When it ends, also by an exception, the page no
    longer says that anything runs.

    Args:
        directory: the search's directory.
        max_trials: trials in all.
        hours: after so many no trial is begun; None for no limit.
        every: seconds.
    """

    def __init__(self, directory, max_trials, hours=None, every=EVERY):
        self._directory, self._max_trials, self._every = directory, max_trials, every
        limit = math.inf if hours is None else 3600 * hours
        self._until = time.monotonic() + limit if math.isfinite(limit) else None
        self._trials, self._running, self._place = None, {}, None  # trial_id: (trial, when it began)
        self._ends, self._began = deque(maxlen=PACE), time.monotonic()
        self._lock, self._over, self._news = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._news.set()
        self._thread.join()
        self._write(None)

    def began(self, trial):
        """A trial was given to a worker, see `callbacks.SearchCallback`."""
        with self._lock:
            for trial_id, (other, _) in list(self._running.items()):
                if other["worker"] == trial["worker"]:
                    del self._running[trial_id]
            self._running[trial["trial_id"]] = trial, time.monotonic()
        self._news.set()

    def taken_back(self, trial_id):
        """A trial's worker is lost."""
        with self._lock:
            self._running.pop(trial_id, None)
        self._news.set()

    def finished(self, trials):
        """All finished trials; those of the first call are of earlier runs."""
        now = time.monotonic()
        with self._lock:
            for trial in () if self._trials is None else trials[len(self._trials) :]:
                self._running.pop(trial["trial_id"], None)
                self._ends.append(now)
            self._trials = list(trials)
        self._news.set()

    def looked(self, place):
        """What there is to see of workers elsewhere, see `running.run_trials`."""
        with self._lock:
            self._place = place

    def state(self):
        """What `search_report` takes as `live`."""
        now = time.monotonic()
        with self._lock:
            running = [
                {"trial_id": trial["trial_id"], "worker": trial["worker"], "seconds": now - began}
                for trial, began in self._running.values()
            ]
            left, rest = None, self._max_trials - len(self._trials or ())
            if self._ends:
                full = len(self._ends) == PACE
                since = self._ends[0] if full else self._began
                left = rest * (now - since) / (len(self._ends) - full)
            if self._until is not None:
                left = min(self._until - now, self._until - now if left is None else left)
        until = None
        if left is not None and left < YEAR:
            until = time.strftime("%H:%M" if left < DAY else "%Y-%m-%d %H:%M", time.localtime(time.time() + left))
        return {
            "at": time.strftime("%H:%M:%S"), "every": self._every, "running": running, "max_trials": self._max_trials,
            "left": left, "until": until, "place": self._place,
        }  # fmt: skip

    def _keep_writing(self):
        while not self._over.wait(self._every):
            self._news.wait()  # a page that tells how long a child has been running is written while one runs
            if self._over.is_set():
                return
            if not self._running:
                self._news.clear()
            start = time.monotonic()
            self._write(self.state())
            if self._over.wait((time.monotonic() - start) / SHARE):
                return

    def _write(self, state):
        with self._lock:
            trials = self._trials or []
        try:
            write_page(self._directory, trials, state)
        except Exception as error:  # a page ends no search, whatever lies in the directory
            logger.warning("the report could not be written: %s", error)
