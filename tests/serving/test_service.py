"""The application by itself: a model of a few lines behind it, requests without a network."""

import asyncio
import json
import logging

import numpy as np
import pytest

from nasnet_keras.serving.access import Access
from nasnet_keras.serving.limits import Limits
from nasnet_keras.serving.log import JsonLines
from nasnet_keras.serving.rest import Refusal, Spec
from nasnet_keras.serving.service import Service

METADATA = {"serving_default": {"method_name": "tensorflow/serving/predict"}}


class Model:
    """A version that takes two numbers and gives their sum."""

    version = 5

    def __init__(self):
        self.reading = {}
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


def serve(scenario, versions=None, ready=True, access=None, **limits):
    """Run `scenario(ask, service)` against an application; `ask` returns (code, JSON or text, headers)."""
    called = []
    service = Service(
        "net", versions or Versions(), Limits(**limits), called.append, lambda error: called.append(str(error)), access
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

        headers = headers.items() if isinstance(headers, dict) else headers
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
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
        got, answer, headers = await ask(method, path)
        assert got == code and list(answer) == ["error"] and words in answer["error"] and len(answer["error"]) < 400
        assert ("POST" in headers.get("allow", "")) == (code == 405)

    serve(scenario)


def test_head_and_leading_zeros():
    async def scenario(ask, service):
        for address in ("/v1/models/net", "/v1/models/net/versions/5", "/v1/models/net/metadata", "/livez"):
            assert (await ask("HEAD", address))[0] == 200
        assert (await ask("HEAD", "/v1/models/net/versions/4"))[0] == 404
        assert (await ask("HEAD", PREDICT))[0] == 400
        padded = f"/v1/models/net/versions/{'0' * 30}5"
        assert (await ask("GET", padded))[0] == (await ask("POST", f"{padded}:predict", body([1, 2])))[0] == 200

    serve(scenario)


def test_version_0():
    async def scenario(ask, service):
        service.versions.current.version = 0
        for address in ("/v1/models/net/versions/0", "/v1/models/net/versions/00", "/v1/models/net"):
            assert (await ask("GET", address))[1]["model_version_status"][0]["version"] == "0"
        assert (await ask("POST", "/v1/models/net/versions/0:predict", body([1, 2])))[0] == 200
        assert (await ask("GET", "/v1/models/net/versions/5"))[0] == 404
        service.versions.current, service.versions.loading = None, 0
        (state,) = (await ask("GET", "/v1/models/net"))[1]["model_version_status"]
        assert (state["version"], state["state"]) == ("0", "LOADING")

    serve(scenario)


def test_what_is_served_is_available_whatever_becomes_of_its_files():
    async def scenario(ask, service):
        service.versions.broken, service.versions.loading = {5: ((), "no good"), 4: ((), "no good")}, 5
        states = (await ask("GET", "/v1/models/net"))[1]["model_version_status"]
        assert [(state["version"], state["state"]) for state in states] == [("5", "AVAILABLE"), ("4", "END")]

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
        code, answer, _ = await ask("POST", PREDICT, small, pause=0.2, part=2)
        assert code == 408 and "2 seconds" in answer["error"]
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

    serve(scenario, body=1000, queue=3, seconds=2.0)


@pytest.mark.parametrize("name", ["body", "pixels", "queue", "batch", "runners", "seconds"])
def test_limits_must_be_above_0(name):
    with pytest.raises(ValueError, match=f"`{name}` must be above 0. Received: 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"batch": 129}, "`batch` must be an integer from 1 to 128. Received: 129"),
        ({"batch": 2.5}, "`batch` must be an integer from 1 to 128. Received: 2.5"),
        ({"runners": 1.5}, "`runners` must be an integer from 1. Received: 1.5"),
        ({"batch": 64, "queue": 32}, "`batch` must be at most 32, the number of rows that may wait.* Received: 64"),
    ],
)
def test_limits_that_no_warm_up_would_end_with(limits, says):
    with pytest.raises(ValueError, match=says):
        Limits(**limits)
    assert Limits(batch=128).sizes == (1, 2, 4, 8, 16, 32, 64, 128)
    assert Limits(queue=6).sizes == (1, 2, 4, 6) and Limits(queue=1, batch=1).sizes == (1,)


def test_a_key_may_be_text():
    assert Access("a-secret") == Access(b"a-secret") and Access("a-secret").key == b"a-secret"
    for key in ("two words", "über", "\udcff", "", 5):
        with pytest.raises(ValueError, match="`key` must be visible ASCII characters"):
            Access(key)


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


# --- who may ask ---

KEY = b"0123456789abcdef"
RIGHT = f"Bearer {KEY.decode()}"


def test_a_key():
    async def scenario(ask, service):
        predict = "POST", PREDICT, body([1, 2])
        for told in (RIGHT, f"bearer {KEY.decode()}", f"BEARER   {KEY.decode()} "):
            assert (await ask(*predict, {"authorization": told}))[0] == 200
        for told in (
            "",
            KEY.decode(),
            "Bearer",
            "Bearer ",
            RIGHT[:-1],
            f"{RIGHT}0",
            RIGHT.upper(),
            "Basic abc",
            "Bearer \xe4",
        ):
            code, answer, headers = await ask(*predict, {"authorization": told})
            assert code == 401 and headers["www-authenticate"] == "Bearer"
            assert answer["error"] == "the key must come as `Authorization: Bearer KEY`. Received: another one"
        for method, path in (predict[:2], ("GET", "/healthz"), ("GET", "/livez"), ("GET", "/metrics"), ("GET", "/no")):
            code, answer, _ = await ask(method, path)
            assert code == 401 and answer["error"].endswith("Received: none")
        for path in ("/", "/page.css", "/page.js"):  # which say nothing, and ask for the key
            assert (await ask("GET", path))[0] == 200
        for path in ("//", "/page.js/", "/./page.js", "/PAGE.JS", "/page.js/../v1/models/net"):
            assert (await ask("GET", path))[0] == 401
        code, text, _ = await ask("GET", "/metrics", b"", {"authorization": RIGHT})
        assert code == 200 and 'nasnet_requests_total{code="401",verb="refused"}' in text

    serve(scenario, access=Access(KEY))


def test_what_is_open_without_the_key():
    async def scenario(ask, service):
        for path, code in (("/healthz", 200), ("/livez", 200), ("/metrics", 401), ("/v1/models/net", 401)):
            assert (await ask("GET", path))[0] == code

    serve(scenario, access=Access(KEY, ("health",)))

    async def scenario(ask, service):
        for path, code in (("/healthz", 401), ("/metrics", 200), ("/monitoring/prometheus/metrics", 200)):
            assert (await ask("GET", path))[0] == code

    serve(scenario, access=Access(KEY, ("metrics",)))


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        (["localhost"], 200),
        (["LOCALHOST:8501"], 200),
        (["localhost.:80"], 200),
        (["127.0.0.1"], 200),
        (["127.0.0.1:8501"], 200),
        (["[::1]:8501"], 200),
        (["192.168.1.5"], 200),
        (["models.example.org"], 200),
        (["evil.example.org"], 421),
        (["evil.example.org:8501"], 421),
        (["localhost.evil.example.org"], 421),
        (["127.0.0.1.evil.example.org"], 421),
        (["evil.example.org", "localhost"], 421),
        (["localhost, evil.example.org"], 421),
        (["evil.example.org#localhost"], 421),
        (["localhost:80:80"], 421),
        (["\xe4"], 421),
        ([""], 421),
        ([], 421),
    ],
)
def test_the_names_of_the_server(hosts, code):
    async def scenario(ask, service):
        got, answer, _ = await ask("GET", "/healthz", b"", [("host", host) for host in hosts])
        assert got == code
        if code == 421:
            received = ", ".join(hosts) or "none"
            assert answer["error"].startswith("`Host` must be a name of this server. Received: ")
            assert hosts == [""] or answer["error"].endswith(received)

    serve(scenario, access=Access(hosts=("localhost", "Models.Example.org.")))


def test_any_name_will_do_where_nobody_says_which():
    async def scenario(ask, service):
        assert (await ask("GET", "/healthz", b"", {"host": "evil.example.org"}))[0] == 200

    serve(scenario)


def test_the_id_of_a_request():
    async def scenario(ask, service):
        for told in ("a", "0b1e-17_x.Y", "Root=1-67891233-abcdef012345678912345678", "x" * 128):
            assert (await ask("GET", "/livez", b"", {"x-request-id": told}))[2]["x-request-id"] == told
        given = set()
        for told in ("", "a b", "x" * 129, "a\nb", '"', "\xe4", "a;b"):
            given.add((await ask("GET", "/livez", b"", {"x-request-id": told}))[2]["x-request-id"])
        assert len(given) == 7 and all(len(number) == 32 and int(number, 16) for number in given)
        for path in ("/no/such/address", PREDICT):  # errors have one as well
            assert (await ask("GET", path, b"", {"x-request-id": "mine"}))[2]["x-request-id"] == "mine"
        code, answer, _ = await ask("POST", PREDICT, body([7, 0]), {"x-request-id": "mine"})
        assert code == 500 and answer["error"].endswith("at request mine")

    serve(scenario)


def test_a_line_for_each_request(caplog):
    caplog.set_level(logging.INFO, "nasnet_keras.serving.log")

    async def scenario(ask, service):
        await ask("POST", PREDICT, body([1, 2]), {"x-request-id": "one", "authorization": RIGHT})
        await ask("GET", "/" + "a" * 500, b"", {"x-request-id": "two"})

    serve(scenario, access=Access(KEY))
    first, second = [record for record in caplog.records if record.name == "nasnet_keras.serving.log"]
    assert first.getMessage().startswith(f"b POST {PREDICT} 200 in ")
    assert first.getMessage().endswith(" ms, 21 bytes, request one")
    assert second.getMessage().startswith(f"b GET /{'a' * 199} 401 in ")
    line = json.loads(JsonLines().format(first))
    assert line.pop("milliseconds") > 0 and line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "client": "b",
        "method": "POST",
        "path": PREDICT,
        "status": 200,
        "bytes": 21,
        "request_id": "one",
    }
    assert KEY.decode() not in caplog.text
    other = logging.LogRecord("a", logging.WARNING, "a.py", 1, "a %s\nb", ("\udcff",), None)
    assert json.loads(JsonLines().format(other))["message"] == "a ?\nb"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"key": b"two words"}, "`key` must be visible ASCII"),
        ({"key": b""}, "`key` must be visible ASCII"),
        ({"key": "ä".encode()}, "`key` must be visible ASCII"),
        ({"open": ("health",)}, "`open` must only be all without a key. Received: health"),
        ({"key": KEY, "open": ("all", "health")}, "`open` must not be all where there is a key. Received: all"),
        ({"key": KEY, "open": ("page",)}, "`open` must be one of health, metrics, all. Received: 'page'"),
    ],
)
def test_who_may_ask_must_make_sense(arguments, words):
    with pytest.raises(ValueError, match=words):
        Access(**arguments)


def test_other_machines_need_a_key_or_a_word():
    for address in ("0.0.0.0", "10.0.0.1", "::", "fe80::1%eth0"):
        with pytest.raises(ValueError, match="so it needs a key, on the command line --key-file FILE; or --open all"):
            Access().check_reach(address)
        Access(KEY).check_reach(address)
        Access(open=("all",)).check_reach(address)
    Access().check_reach("127.0.0.1")
    assert KEY.decode() not in repr(Access(KEY))


def test_names_of_a_server_are_taken_as_requests_give_them():
    names = ("Models.Example.ORG.", "[::1]", "::1", "10.0.0.1")
    assert Access(hosts=names).hosts == ("models.example.org", *names[1:])
    assert Access(hosts="Me.example.org").hosts == ("me.example.org",)
    for wrong in (5, "models.example.org:8501", "http://models.example.org", "a b", "", "a/b", "me@host"):
        with pytest.raises(ValueError, match="`hosts` must be names alone"):
            Access(hosts=("localhost", wrong))
