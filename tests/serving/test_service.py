"""The application by itself: a model of a few lines behind it, requests without a network."""

import asyncio
import json

import numpy as np
import pytest

from nasnet_keras.serving.limits import Limits
from nasnet_keras.serving.rest import Refusal, Spec
from nasnet_keras.serving.service import Service

METADATA = {"serving_default": {"method_name": "tensorflow/serving/predict"}}


class Model:
    """A version that takes two numbers and gives their sum."""

    version = 5
    grey_range = None

    def __init__(self):
        self.signatures = {"serving_default": {"x": Spec("float32", (2,))}}
        self.metadata = METADATA
        self.runs = {"serving_default": self.run}

    def run(self, rows):
        """[({"sum": [batch]}, index)]; a 7 breaks it, a 13 is refused."""
        values = np.stack([row["x"] for row in rows])
        if (values == 7).any():
            raise ZeroDivisionError("secret")
        if (values == 13).any():
            raise Refusal(400, "unlucky")
        return [({"sum": values.sum(1)}, index) for index in range(len(rows))]


class Versions:
    """A folder that holds one version."""

    path = "folder"
    current = loading = None

    def __init__(self, broken=None):
        self.broken = broken or {}

    async def refresh(self):
        """Load it."""
        if not self.broken:
            self.current = Model()


def serve(scenario, versions=None, ready=True, **limits):
    """Run `scenario(ask, service)` against an application; `ask` returns (code, JSON or text, headers)."""
    called = []
    service = Service(
        "net", versions or Versions(), Limits(**limits), called.append, lambda error: called.append(str(error))
    )
    app = service.application()

    async def ask(method, path, body=b"", headers=(), pause=0.0, part=None):
        parts = [body[i : i + (part or len(body) or 1)] for i in range(0, len(body) or 1, part or len(body) or 1)]
        sent = []

        async def receive():
            await asyncio.sleep(pause)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        pairs = [(name.encode(), value.encode()) for name, value in dict(headers).items()]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": pairs, "http_version": "1.1", "scheme": "http", "server": ("a", 1), "client": ("b", 2)}
        await app({**scope, "root_path": "", "state": {}}, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = json.loads(content) if answered["content-type"] == "application/json" else content.decode()
        return sent[0]["status"], text, answered

    async def main():
        if not ready:
            return await scenario(ask, service)
        async with app.router.lifespan_context(app):
            while not called:
                await asyncio.sleep(0.001)
            return await scenario(ask, service)

    asyncio.run(main())
    return called


PREDICT = "/v1/models/net:predict"


def body(*rows):
    return json.dumps({"instances": rows}).encode()


def test_the_addresses_of_tf_serving():
    async def scenario(ask, service):
        for address in (PREDICT, "/v1/models/net/versions/5:predict"):
            assert (await ask("POST", address, body([1, 2], [3, 4])))[:2] == (200, {"predictions": [3.0, 7.0]})
        state = {"version": "5", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for address in ("/v1/models/net", "/v1/models/net/versions/5"):
            assert (await ask("GET", address))[:2] == (200, {"model_version_status": [state]})
        code, answer, _ = await ask("GET", "/v1/models/net/metadata")
        assert code == 200 and answer["model_spec"] == {"name": "net", "signature_name": "", "version": "5"}
        assert answer["metadata"]["signature_def"]["signature_def"] == METADATA

    assert serve(scenario) == [5]


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", "/v1/models/net/versions/4", 404, "Could not find version 4"),
        ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("POST", "/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("POST", "/v1/models/net/versions/4:predict", 404, "Servable not found for request: Specific(net, 4)"),
        ("POST", f"/v1/models/net/versions/{'9' * 5000}:predict", 404, "Specific(net, 9999"),
        ("GET", f"/v1/models/net/versions/{'9' * 5000}", 404, "Could not find version 9999"),
        ("POST", "/v1/models/net/labels/new:predict", 400, "Unrecognized servable version label: new"),
        ("POST", "/v1/models/net:classify", 400, "Expected classify signature"),
        ("POST", "/v1/models/net", 400, "Malformed request: POST /v1/models/net"),
        ("GET", PREDICT, 400, "Malformed request: GET"),
        ("POST", "/v1/models/net:train", 400, "Malformed request"),
        ("PUT", PREDICT, 405, "Malformed request: PUT"),
        ("GET", "/v2/health/ready", 404, "Malformed request: GET /v2/health/ready"),
        ("GET", "/../etc/passwd", 404, "Malformed request"),
        ("POST", PREDICT, 400, "JSON Parse error"),
    ],
)
def test_wrong_addresses(method, path, code, words):
    async def scenario(ask, service):
        got, answer, _ = await ask(method, path)
        assert got == code and list(answer) == ["error"] and words in answer["error"] and len(answer["error"]) < 400

    serve(scenario)


def test_before_the_model_is_there():
    async def scenario(ask, service):
        code, answer, headers = await ask("POST", PREDICT, body([1, 2]))
        assert code == 503 and "loading" in answer["error"] and headers["retry-after"] == "1"
        assert (await ask("GET", "/healthz"))[0] == 503
        assert (await ask("GET", "/livez"))[0] == 200
        service.versions.loading = 5
        assert (await ask("GET", "/v1/models/net"))[1]["model_version_status"][0]["state"] == "LOADING"

    serve(scenario, ready=False)


def test_a_model_that_cannot_be_loaded():
    async def scenario(ask, service):
        state = (await ask("GET", "/v1/models/net"))[1]["model_version_status"][0]
        assert (state["version"], state["state"], state["status"]["error_message"]) == ("2", "END", "no good")

    assert serve(scenario, Versions({2: ((), "no good")})) == [
        "`model` must hold a version that can be served. Received: folder: version 2: no good"
    ]


def test_a_fault_in_the_model_shows_nothing_of_it(caplog):
    async def scenario(ask, service):
        code, answer, _ = await ask("POST", PREDICT, body([7, 0]))
        assert code == 500 and "secret" not in answer["error"]
        assert (await ask("POST", PREDICT, body([13, 0])))[:2] == (400, {"error": "unlucky"})
        assert (await ask("POST", PREDICT, body([1, 0])))[0] == 200

    serve(scenario)
    assert "ZeroDivisionError" in caplog.text


def test_limits():
    async def scenario(ask, service):
        small = body([1, 2])
        large = b" " * 1001
        code, answer, _ = await ask("POST", PREDICT, large)
        assert code == 413 and "at most 1000 bytes" in answer["error"]
        assert (await ask("POST", PREDICT, b"", {"content-length": "1001"}))[0] == 413
        assert (await ask("POST", PREDICT, small, {"content-encoding": "gzip"}))[0] == 415
        code, answer, _ = await ask("POST", PREDICT, small, pause=0.1, part=2)
        assert code == 408 and "0.3 seconds" in answer["error"]
        assert (await ask("POST", PREDICT, small, pause=0.001, part=2))[0] == 200
        code, answer, _ = await ask("POST", PREDICT, body(*[[1, 2]] * 4))
        assert code == 400 and "between 1 and 3 rows" in answer["error"]
        filling = [asyncio.create_task(ask("POST", PREDICT, b" " * 1000, pause=0.02, part=200)) for _ in range(12)]
        codes = [(await one)[0] for one in filling]
        assert codes.count(503) >= 1 and codes.count(400) >= 1 and len(codes) == 12
        service.batcher._limit = 0
        code, answer, headers = await ask("POST", PREDICT, small)
        assert code == 503 and "queue is full" in answer["error"] and headers["retry-after"]
        assert service._bodies._held == 0

    serve(scenario, body=1000, queue=3, seconds=0.3)


@pytest.mark.parametrize("name", ["body", "pixels", "queue", "batch", "runners", "seconds"])
def test_limits_must_be_above_0(name):
    with pytest.raises(ValueError, match=f"`{name}` must be above 0. Received: 0"):
        Limits(**{name: 0})


def test_metrics_and_page():
    async def scenario(ask, service):
        await ask("POST", PREDICT, body([1, 2], [3, 4]))
        await ask("POST", PREDICT, b"")
        for address in ("/metrics", "/monitoring/prometheus/metrics"):
            code, text, headers = await ask("GET", address)
            assert code == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
            for line in (
                'nasnet_requests_total{code="200",verb="predict"} 1.0',
                'nasnet_requests_total{code="400",verb="predict"} 1.0',
                "nasnet_predict_seconds_count 1.0",
                'nasnet_batch_rows_bucket{le="2.0"} 1.0',
                "nasnet_model_version 5.0",
                "nasnet_waiting_rows 0.0",
                "process_resident_memory_bytes",
            ):
                assert line in text
        for address in ("/", "/page.css", "/page.js"):
            code, text, headers = await ask("GET", address)
            assert code == 200 and "default-src 'none'" in headers["content-security-policy"] and len(text) > 500

    serve(scenario)
