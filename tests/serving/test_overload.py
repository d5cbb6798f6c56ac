"""A server that is asked for too much at a time: what it refuses, and that it does so before the work is done."""

import asyncio
import json
import threading

import numpy as np
import pytest
from images_of_all_kinds import encode, noise
from servers import PREDICT, form
from test_service import Model, Versions, serve

from nasnet_keras.serving import rest
from nasnet_keras.serving.limits import BODIES, Bodies, Limits
from nasnet_keras.serving.rest import LARGEST_IMAGES, Refusal, Spec


class Images(Model):
    """A version that takes image files and gives their sizes."""

    def __init__(self):
        super().__init__()
        self.signatures = {"image_bytes": {"image_bytes": Spec("string", ())}}
        self.metadata = {}
        self.runs = {"image_bytes": self.run}

    def run(self, rows):
        """[({"size": [batch]}, index)]."""
        return [({"size": np.float32([len(row["image_bytes"]) for row in rows])}, index) for index in range(len(rows))]


class Folder(Versions):
    """A folder that holds it."""

    async def refresh(self):
        """Load it."""
        self.current = Images()


@pytest.fixture
def recoding(monkeypatch):
    """What has been re-coded; `begin` lets it go on."""
    done, begin = [], threading.Event()

    def as_png(content, **reading):
        begin.wait(10)
        done.append(content)
        return b"png"

    monkeypatch.setattr(rest, "as_png", as_png)
    return done, begin


def test_a_full_queue_refuses_before_images_are_recoded(recoding, rng):
    done, begin = recoding
    content = encode(noise(rng), "GIF")

    async def scenario(ask, service):
        asked = [asyncio.create_task(ask("POST", PREDICT, content, {"content-type": "image/gif"})) for _ in range(8)]
        try:
            async with asyncio.timeout(2):  # two are read, one waits for that, and nobody else is kept waiting
                while sum(one.done() for one in asked) < 5:
                    await asyncio.sleep(0.001)
        finally:
            begin.set()
        answers = [await one for one in asked]
        assert sorted(code for code, *_ in answers) == [200] * 3 + [503] * 5 and len(done) == 3
        refusals = [answer for answer in answers if answer[0] == 503]
        assert all("the queue is full: 3 rows wait" in text["error"] for _, text, _ in refusals)
        assert all(headers["retry-after"] for *_, headers in refusals)
        assert service._reading == service._bodies._files == 0
        assert (await ask("POST", PREDICT, content, {"content-type": "image/gif"}))[1] == {"predictions": [3.0]}

    serve(scenario, Folder(), queue=3)


@pytest.mark.parametrize("way", ["form", "json"])
def test_all_rows_of_a_request_are_counted_before_they_are_read(way, recoding, rng):
    done, begin = recoding
    begin.set()
    content_type, files = form(*[encode(noise(rng), "GIF")] * 3)
    if way == "json":
        content_type, files = "application/json", json.dumps({"signature_name": "image_bytes", "inputs": ["x"] * 3})

    async def scenario(ask, service):
        body = files if isinstance(files, bytes) else files.encode()
        service._reading = 1
        code, answer, _ = await ask("POST", PREDICT, body, {"content-type": content_type})
        assert code == 503 and "the queue is full: 1 rows wait" in answer["error"] and done == []
        assert service._reading == 1
        service._reading = 0
        assert (await ask("POST", PREDICT, body, {"content-type": content_type}))[0] == (200 if way == "form" else 400)
        assert service._reading == 0

    serve(scenario, Folder(), queue=3)


def test_files_that_wait_are_counted_as_they_are_recoded():
    bodies = Bodies(Limits(body=10, pixels=2))
    most = BODIES * 10 + 3 * LARGEST_IMAGES * 2
    with bodies.hold([{"a": b"x" * most}]):  # what one request can bring is always taken
        with pytest.raises(Refusal, match="too many large requests") as caught, bodies.hold([{"a": b"x"}]):
            pass
        assert caught.value.code == 503
        with bodies.hold([{"a": np.zeros(1000)}]):
            pass
    assert bodies._files == 0
