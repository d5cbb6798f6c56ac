"""TF Serving's REST as an ASGI application, with health, metrics, a description and a page for people."""

import asyncio
import logging
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from threading import Lock

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from nasnet_keras.serving.access import Access, Gate
from nasnet_keras.serving.batching import Batcher, QueueFull
from nasnet_keras.serving.limits import Bodies
from nasnet_keras.serving.openapi import description
from nasnet_keras.serving.responses import error_response, json_response
from nasnet_keras.serving.rest import Refusal, read_predict, sent_as, write_predict

LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
READ_AT_ONCE = 65_536  # bytes; a larger body is read in a thread, so that others go on meanwhile
BATCH_PIXELS = 4_194_304  # of a model for images of any size: pixels of all images in a batch
POLL = 1.0  # seconds between two looks for a newer version, as TF Serving has it
PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>:classify|:regress|:predict|/metadata|)"
)
HEALTH = ("/healthz", "/livez")
METRICS = ("/metrics", "/monitoring/prometheus/metrics")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Nothing from elsewhere, and no frame around it; the preview of an image is a blob.
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
log = logging.getLogger(__name__)


class Service:
    """Answers requests for one model.

    Args:
        name: the model's name in addresses.
        versions: its `Versions`.
        limits: a `Limits`.
        on_ready: called with the version once the first is warmed up.
        on_failure: called with the exception when no version can be served.
        access: an `Access`; by default whoever reaches the application may ask.
    """

    def __init__(
        self, name, versions, limits, on_ready=lambda version: None, on_failure=lambda error: None, access=None
    ):
        self.name, self.versions, self.limits = name, versions, limits
        self.access = access or Access()
        self._on_ready, self._on_failure = on_ready, on_failure
        self._bodies = Bodies(limits)
        self._readers = ThreadPoolExecutor(2, "bodies")
        self._reading, self._lock = 0, Lock()  # rows of requests that are read, or wait for it
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        metric = {"namespace": "nasnet", "registry": self._registry}
        self._requests = Counter("requests", "Requests answered", ["verb", "code"], **metric)
        self._seconds = Histogram("predict_seconds", "Time from a request to its answer", buckets=LATENCIES, **metric)
        self._rows = Histogram("batch_rows", "Rows in a batch", buckets=limits.sizes, **metric)
        self.batcher = Batcher(limits.runners, limits.sizes, limits.queue, self._rows.observe)
        Gauge("waiting_rows", "Rows that wait for the model", **metric).set_function(lambda: len(self.batcher))
        Gauge("model_version", "The version served, 0 before the first", **metric).set_function(self._version)

    def _version(self):
        return self.versions.current.version if self.versions.current else 0

    def application(self):
        """The ASGI application. It loads the model when it starts, and looks for newer versions until it stops."""
        routes = [
            *(Route(address, self._health) for address in HEALTH),
            *(Route(address, self._metrics) for address in METRICS),
            *(Route(address, self._page) for address in PAGE),
            Route("/openapi.json", self._description),
            Route("/v1/{path:path}", self._rest, methods=["GET", "POST"]),
        ]
        free = {*PAGE, *(HEALTH if "health" in self.access.open else ())}  # the page says nothing, and asks for the key
        free |= set(METRICS if "metrics" in self.access.open else ())
        gate = Middleware(Gate, self.access, free, lambda code: self._requests.labels("refused", code).inc())
        app = Starlette(
            routes=routes,
            middleware=[gate],
            exception_handlers=dict.fromkeys((404, 405), self._no_such_address),
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False  # to wherever `Host` says
        return app

    @asynccontextmanager
    async def _lifespan(self, app):
        watch = asyncio.create_task(self._watch())
        yield
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        self.batcher.close()
        self._readers.shutdown()

    async def _watch(self):
        """Load the model, then newer versions of it, for as long as the server runs."""
        try:
            await self.versions.refresh()
            if self.versions.current is None:
                broken = "; ".join(
                    f"version {version}: {reason}" for version, (_, reason) in self.versions.broken.items()
                )
                raise ValueError(
                    f"`model` must hold a version that can be served. Received: {self.versions.path}: {broken}"
                )
            self._on_ready(self._version())
            while True:
                await asyncio.sleep(POLL)
                try:
                    await self.versions.refresh()
                except OSError as error:  # a folder that changes under our eyes: look again
                    log.warning("cannot read %s: %s", self.versions.path, error)
        except Exception as error:  # nobody else would hear of it
            self._on_failure(error)

    # --- TF Serving's addresses ---

    async def _rest(self, request):
        start = time.perf_counter()
        match = PATH.fullmatch(request.url.path)
        verb = (match["verb"].strip(":/") or "status") if match else "unknown"
        try:
            if not match or request.method not in (("POST",) if match["verb"].startswith(":") else ("GET", "HEAD")):
                raise Refusal(400, f"Malformed request: {request.method} {request.url.path[:200]}")
            if verb == "status":
                answer = self._status(match)
            elif verb == "metadata":
                answer = self._metadata(match)
            else:
                answer = await self._predict(request, match, verb)
            response = json_response(200, answer)
        except Refusal as refusal:
            response = error_response(refusal.code, str(refusal))
        except ClientDisconnect:
            response = error_response(400, "the client has gone")  # nobody reads it; the metrics count it
        except Exception:
            number = request.state.request_id
            log.exception("request %s failed", number)
            response = error_response(500, f"internal error; the server's log says more, at request {number}")
        self._requests.labels(verb, response.status_code).inc()
        if verb == "predict" and response.status_code == 200:
            self._seconds.observe(time.perf_counter() - start)
        return response

    def _servable(self, match):
        """The version that an address asks for."""
        current = self.versions.current
        if match["name"] != self.name:
            raise Refusal(404, f"Servable not found for request: Latest({match['name'][:100]})")
        if match["label"]:
            raise Refusal(400, f"Unrecognized servable version label: {match['label'][:100]}")
        if current is None:
            raise Refusal(503, f"the model {self.name} is loading")
        if match["version"] and not _is_number(match["version"], current.version):
            raise Refusal(404, f"Servable not found for request: Specific({self.name}, {match['version'][:20]})")
        return current

    async def _predict(self, request, match, verb):
        servable = self._servable(match)
        if verb != "predict":
            raise Refusal(400, f"Expected {verb} signature method_name. Was: tensorflow/serving/predict")
        async with self._bodies.read(request) as body:
            sent = sent_as(body, request.headers.get("content-type", ""))
            limits = self.limits
            with self._places() as admit:
                arguments = servable.signatures, limits.pixels, limits.queue, servable.reading, sent, admit
                # A small body may hold an image that takes long: its key is told even from one that hides it.
                if sent.kind == "json" and len(body) <= READ_AT_ONCE and b"b64" not in body and b"\\u" not in body:
                    name, rows, row_form = read_predict(body, *arguments)
                else:
                    loop = asyncio.get_running_loop()
                    name, rows, row_form = await loop.run_in_executor(self._readers, read_predict, body, *arguments)
            specs = servable.signatures[name]
            with self._bodies.hold(rows):
                try:
                    results = await self.batcher.run(servable.runs[name], rows, **_together(specs, rows[0]))
                except QueueFull:
                    raise _full(len(self.batcher)) from None
        return write_predict(results, row_form)

    @contextmanager
    def _places(self):
        """Places in the queue for a request while it is read: one, until the function given is told its rows.

        So a full queue costs nobody the work of a request that would then be refused. Raises `Refusal`.
        """
        held = 0

        def take(rows):
            nonlocal held
            with self._lock:
                waiting = len(self.batcher) + self._reading - held
                if waiting + rows > self.limits.queue:
                    raise _full(waiting)
                self._reading += rows - held
                held = rows

        take(1)
        try:
            yield take
        finally:
            with self._lock:
                self._reading -= held

    def _status(self, match):
        versions, current = self.versions, self.versions.current
        if match["name"] != self.name or match["label"]:
            raise Refusal(404, f"Could not find any versions of model {match['name'][:100]}")
        rows = {version: ("END", "UNKNOWN", reason) for version, (_, reason) in versions.broken.items()}
        rows |= {} if versions.loading is None else {versions.loading: ("LOADING", "OK", "")}
        rows |= {current.version: ("AVAILABLE", "OK", "")} if current else {}  # whatever becomes of its files
        if match["version"]:
            rows = {version: row for version, row in rows.items() if _is_number(match["version"], version)}
            if not rows:
                raise Refusal(404, f"Could not find version {match['version'][:20]} of model {self.name}")
        states = [
            {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}
            for version, (state, code, message) in sorted(rows.items(), reverse=True)
        ]
        return orjson.dumps({"model_version_status": states}, option=orjson.OPT_INDENT_2)

    def _metadata(self, match):
        servable = self._servable(match)
        spec = {"name": self.name, "signature_name": "", "version": str(servable.version)}
        signatures = {"signature_def": {"signature_def": servable.metadata}}
        return orjson.dumps({"model_spec": spec, "metadata": signatures}, option=orjson.OPT_INDENT_2)

    # --- for probes and people ---

    async def _health(self, request):
        """`/healthz`: whether predictions are given; `/livez`: whether the process answers at all."""
        ready = self.versions.current is not None
        answer = {"status": "ready" if ready else "loading", "model": self.name, "version": self._version()}
        return json_response(200 if ready or request.url.path == "/livez" else 503, orjson.dumps(answer))

    async def _metrics(self, request):
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _description(self, request):
        """`/openapi.json`: what is served, for programs that make clients."""
        if self.versions.current is None:
            return error_response(503, f"the model {self.name} is loading")
        return json_response(200, orjson.dumps(description(self.name, self.versions.current, self.limits, self.access)))

    async def _page(self, request):
        name, kind = PAGE[request.url.path]
        return Response(
            (files("nasnet_keras.serving") / "page" / name).read_bytes(), media_type=kind, headers=PAGE_HEADERS
        )

    async def _no_such_address(self, request, error):
        response = error_response(error.status_code, f"Malformed request: {request.method} {request.url.path[:200]}")
        if error.status_code == 405:
            match = PATH.fullmatch(request.url.path)
            response.headers["allow"] = "POST" if match and match["verb"].startswith(":") else "GET, HEAD"
        return response


def _is_number(text, version):
    """Whether digits, of which there may be thousands, are the number of a version."""
    return (text.lstrip("0") or "0") == str(version)


def _full(waiting):
    return Refusal(503, f"the queue is full: {waiting} rows wait. Try again later")


def _together(specs, row):
    """What rows must have in common to share a batch, and how many may: only raw images of any size differ."""
    if not any(None in spec.shape for spec in specs.values()):
        return {}
    shapes = tuple(value.shape for value in row.values())
    return {"kind": shapes, "most": max(1, BATCH_PIXELS // max(math.prod(shape[:2]) for shape in shapes))}
