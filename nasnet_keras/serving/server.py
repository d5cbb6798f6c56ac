"""A small local server that speaks TF Serving's REST. The extra `serve` brings what it needs."""

import logging
import signal
from dataclasses import replace
from pathlib import Path

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nasnet_keras.checks import is_loopback
from nasnet_keras.files import expanded
from nasnet_keras.serving.access import Access
from nasnet_keras.serving.address import BACKLOG, check_address, check_certificate, check_name, listen
from nasnet_keras.serving.limits import Limits
from nasnet_keras.serving.servable import Versions
from nasnet_keras.serving.service import Service

DRAIN = 30  # seconds that requests get to be answered after SIGTERM
MAX_HEAD = 65_536  # bytes of a request's address and headers
LEAST_READ = 32_768  # bytes of an answer that a client must read within its patience, or all that are left
LOOKS = 8  # how often it is looked at in that time: the system takes the first bytes itself
log = logging.getLogger(__name__)


def serve(
    path,
    host="127.0.0.1",
    port=8501,
    *,
    name=None,
    limits=None,
    access=None,
    certificate=None,
    private_key=None,
    on_ready=lambda url, version: None,
):
    """Serve the newest version of an exported model until SIGTERM or Ctrl-C.

    A newer version that appears in the folder takes over, without a pause, once it is loaded and warmed up. One that
    cannot be loaded is logged and ignored. After SIGTERM no connection is accepted, requests that have come are
    answered, and the function returns.

    Args:
        path: the folder that `export_saved_model` wrote to, which holds `<version>/`.
        host: the address to listen on; any other than a loopback address can be reached from other machines, so it
            needs a key, or `access` that says that it needs none.
        port: 0 for any that is free.
        name: the model's name in addresses; by default the folder's.
        limits: a `limits.Limits`.
        access: an `access.Access`; by default nobody is asked for a key.
        certificate, private_key: files in PEM, for HTTPS; both or none. The first holds the chain as well.
        on_ready: called with the address and the version when predictions are given.

    Raises:
        ValueError: no such folder, no version that can be served, an address that cannot be used, or not without a
            key; no such certificate.
        KeyboardInterrupt: Ctrl-C, after requests that had come were answered.
    """
    limits, access = limits or Limits(), access or Access()
    check_certificate(certificate, private_key)
    path = expanded(path)
    versions = Versions(path, limits.sizes)
    name = Path(path).resolve().name if name is None else name
    check_name(name)
    address = check_address(host, port)
    access.check_reach(address)
    listener = listen(host, port)
    scheme = "https" if certificate else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    is_near = is_loopback(address)
    if is_near or access.hosts is not None:
        access = replace(access, hosts=("localhost", host, *(access.hosts or ())))
    if not is_near and access.key is None:
        log.warning("%s can be reached from other machines, and whoever reaches it may ask it: there is no key", url)
    elif not (is_near or certificate):
        log.warning("%s can be reached from other machines, and the key goes there unencrypted: no certificate", url)
    failures = []

    def failed(error):
        failures.append(error)
        server.should_exit = True

    service = Service(name, versions, limits, lambda version: on_ready(url, version), failed, access)
    config = uvicorn.Config(
        service.application(),
        http=Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
        backlog=BACKLOG,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    config.patience = limits.seconds + 1  # the application's own limit, which answers, comes first
    server = _Server(config)
    with listener:
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """SIGTERM is how a server ends: it drains and returns. Ctrl-C drains and is a KeyboardInterrupt."""

    def handle_exit(self, sig, frame):
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)


class Patient(HttpToolsProtocol):
    """A connection on which nothing may take too long to come or to be read; errors are TF Serving's JSON as well."""

    _timer = _reading = None
    _head = 0

    def connection_made(self, transport):
        """Wait for a first request."""
        super().connection_made(transport)
        # `pause_writing` is called for whatever is not read at once; at 0 TLS would wait with nothing left to send.
        transport.set_write_buffer_limits(high=1)
        self._wait()

    def pause_writing(self):
        """Wait until the client has read what was sent to it, also where the connection is being closed."""
        super().pause_writing()
        self._wait_for_reader(self.transport.get_write_buffer_size(), 0)

    def resume_writing(self):
        """It has."""
        self._reading.cancel()
        super().resume_writing()

    def data_received(self, data):
        """Take what has come. What begins no request, such as an empty line, does not keep the connection open."""
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._timer is None and self.timeout_keep_alive_task is None:
            self._wait()

    def connection_lost(self, exc):
        """Wait no longer."""
        self._wait_no_longer()
        if self._reading:
            self._reading.cancel()
        super().connection_lost(exc)

    def on_message_begin(self):
        """Wait for the rest of this request."""
        super().on_message_begin()
        self._head = 0
        self._wait()

    def on_url(self, url):
        """Take a part of the address."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name, value):
        """Take a header."""
        self._count(name + value)
        super().on_header(name, value)

    def on_message_complete(self):
        """It is here."""
        self._wait_no_longer()
        super().on_message_complete()

    def send_400_response(self, msg):
        """Refuse what is not HTTP."""
        body = orjson.dumps({"error": msg})
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _count(self, part):
        self._head += len(part)
        if self._head > MAX_HEAD:
            raise ValueError("the head of a request is too long")  # the parser makes a 400 of it

    def _wait(self):
        self._wait_no_longer()
        self._timer = self.loop.call_later(self.config.patience, self.transport.close)

    def _wait_for_reader(self, before, looks):
        """Look again and again whether enough is read; `before` were left so many looks ago."""
        left = self.transport.get_write_buffer_size()
        if left <= before - LEAST_READ:
            before, looks = left, 0
        if looks > LOOKS:
            self.transport.abort()  # `close` would wait for the client as well
        else:
            pause = self.config.patience / LOOKS
            self._reading = self.loop.call_later(pause, self._wait_for_reader, before, looks + 1)

    def _wait_no_longer(self):
        if self._timer:
            self._timer.cancel()
            self._timer = None
