"""Rows that wait for a busy model run together; a row that finds it idle runs at once.

Nothing is held back in the hope of company: a row starts as soon as a runner is free, and those that come while all
are busy are the next batch. Under load batches grow by themselves, and without load there is no delay.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

# Sizes that batches have. A few, because the first batch of a size costs more: oneDNN prepares its kernels for
# each shape. The rest of a queue waits for the next batch, so nothing is computed in vain.
SIZES = (1, 2, 4, 8, 16)


class QueueFull(Exception):
    """No room for these rows."""


@dataclass(eq=False)
class _Job:
    key: Any
    row: Any
    most: int
    future: asyncio.Future


class Batcher:
    """Runs rows in batches. Used from one event loop.

    Args:
        runners: batches that run at a time, each in a thread.
        sizes: the sizes that a batch may have, ascending, the first of them 1.
        limit: greatest number of rows that wait.
        observe: called with the size of each batch.
    """

    def __init__(self, runners=1, sizes=SIZES, limit=256, observe=None):
        self._sizes = sizes
        self._limit = limit
        self._observe = observe or (lambda size: None)
        self._queue = deque()
        self._free = runners
        self._threads = ThreadPoolExecutor(runners, "batches")

    def __len__(self):
        """The number of rows that wait."""
        return len(self._queue)

    async def run(self, function, rows, *, kind=None, most=None):
        """Results of `rows`, in their order, as soon as the model comes to them.

        Args:
            function: takes a list of rows and returns a list of as many results.
            rows: the rows; they may be run in several batches, beside those of other calls.
            kind: rows of one function share a batch only where this is equal, their shape for example.
            most: greatest size of a batch of such rows.

        Raises:
            QueueFull: more rows would wait than the limit allows; none was taken.
            Exception: whatever `function` raises for one of the rows alone.
        """
        if len(self._queue) + len(rows) > self._limit:
            raise QueueFull
        most = min(most or self._sizes[-1], self._sizes[-1])
        loop = asyncio.get_running_loop()
        jobs = [_Job((function, kind), row, most, loop.create_future()) for row in rows]
        self._queue.extend(jobs)
        self._start(loop)
        return await asyncio.gather(*(job.future for job in jobs))

    def close(self):
        """Wait for the batches that run."""
        self._threads.shutdown()

    def _start(self, loop):
        while self._free and self._queue:
            self._free -= 1
            batch = self._take()
            self._observe(len(batch))
            running = loop.run_in_executor(self._threads, _results, batch[0].key[0], [job.row for job in batch])
            running.add_done_callback(lambda done, batch=batch: self._finish(loop, batch, done.result()))

    def _take(self):
        """The first of the queue and those of its kind, as many as the largest size that they fill."""
        first = self._queue[0]
        alike = [job for job in self._queue if job.key == first.key][: first.most]
        batch = alike[: max(size for size in self._sizes if size <= len(alike))]
        taken = set(map(id, batch))
        self._queue = deque(job for job in self._queue if id(job) not in taken)
        return batch

    def _finish(self, loop, batch, results):
        self._free += 1
        self._start(loop)
        for job, result in zip(batch, results, strict=True):
            if job.future.cancelled():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)


def _results(function, rows):
    """A result, or the exception, of each row: one that fails spoils none of its neighbours."""
    try:
        return list(function(rows))
    except Exception as error:  # it goes to whoever sent the row
        return [error] if len(rows) == 1 else [result for row in rows for result in _results(function, [row])]
