"""Batches form while the model is busy; a lone row never waits; a bad row fails alone."""

import asyncio
import threading
import time

import pytest

from nasnet_keras.serving.batching import Batcher, QueueFull


class Model:
    """Doubles numbers when its gate is open, and keeps the batches that it saw."""

    def __init__(self):
        self.gate = threading.Event()
        self.batches = []

    def __call__(self, rows):
        self.batches.append(rows)
        assert self.gate.wait(5)
        if "bad" in rows:
            raise ValueError("bad row")
        return [2 * row for row in rows]


def run(scenario, **options):
    """Run an async function with a batcher and a model, under a time limit."""

    async def main():
        batcher, model = Batcher(**options), Model()
        try:
            return await asyncio.wait_for(scenario(batcher, model), 10)
        finally:
            model.gate.set()
            batcher.close()

    return asyncio.run(main())


async def started(model, count):
    """Wait until the model has got so many batches."""
    while len(model.batches) < count:
        await asyncio.sleep(0.001)


def test_a_lone_row_runs_at_once():
    async def scenario(batcher, model):
        model.gate.set()
        start = time.perf_counter()
        for number in range(50):
            assert await batcher.run(model, [number]) == [2 * number]
        assert (time.perf_counter() - start) / 50 < 0.02
        assert model.batches == [[number] for number in range(50)]

    run(scenario)


def test_what_waits_is_joined():
    async def scenario(batcher, model):
        calls = [asyncio.create_task(batcher.run(model, [number])) for number in range(8)]
        await started(model, 1)
        assert len(batcher) == 7
        model.gate.set()
        assert await asyncio.gather(*calls) == [[2 * number] for number in range(8)]
        # Sizes are few, and nothing is computed in vain: 7 are 4 and 2 and 1.
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]

    run(scenario)


def test_two_runners_and_long_requests():
    async def scenario(batcher, model):
        calls = [asyncio.create_task(batcher.run(model, list(range(n)))) for n in (1, 1, 20)]
        await started(model, 2)
        assert len(batcher) == 20
        model.gate.set()
        assert (await asyncio.gather(*calls))[2] == [2 * number for number in range(20)]
        assert sorted(map(len, model.batches)) == [1, 1, 4, 8, 8]

    run(scenario, runners=2, sizes=(1, 2, 4, 8))


def test_only_rows_of_a_kind_share_a_batch():
    async def scenario(batcher, model):
        kinds = "x", "a", "b", "a", "b", "c", "c", "c"
        calls = [asyncio.create_task(batcher.run(model, [kind], kind=kind, most={"c": 2}.get(kind))) for kind in kinds]
        await started(model, 1)
        model.gate.set()
        await asyncio.gather(*calls)
        assert model.batches == [["x"], ["a", "a"], ["b", "b"], ["c", "c"], ["c"]]

    run(scenario)


def test_a_bad_row_fails_alone():
    async def scenario(batcher, model):
        calls = [asyncio.create_task(batcher.run(model, [row])) for row in ("w", "a", "bad", "b", "c")]
        await started(model, 1)
        model.gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results.pop(2), ValueError)
        assert results == [["ww"], ["aa"], ["bb"], ["cc"]]
        with pytest.raises(ValueError, match="bad row"):
            await batcher.run(model, ["a", "bad"])

    run(scenario)


def test_a_full_queue_takes_nothing():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher.run(model, ["a"]))
        await started(model, 1)
        waiting = asyncio.create_task(batcher.run(model, ["b", "c"]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.run(model, ["d", "e"])
        assert len(batcher) == 2
        model.gate.set()
        assert await first == ["aa"] and await waiting == ["bb", "cc"]

    run(scenario, limit=3)


def test_a_caller_who_gave_up_disturbs_nobody():
    async def scenario(batcher, model):
        first, second, third = (asyncio.create_task(batcher.run(model, [row])) for row in "abc")
        await started(model, 1)
        second.cancel()
        await asyncio.sleep(0)
        model.gate.set()
        assert await first == ["aa"] and await third == ["cc"]

    run(scenario)
