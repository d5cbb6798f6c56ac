"""Who may ask the server: a key, the names that it answers to, and for each request an id and a line in the log."""

import hmac
import ipaddress
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from nasnet_keras.checks import check_one_of, is_loopback
from nasnet_keras.serving.log import log_request
from nasnet_keras.serving.responses import error_response

OPEN = ("health", "metrics", "all")
# An id that a request brings is taken over if it can neither fill a log nor break its lines.
REQUEST_ID = re.compile(r"[\w.:=+/@-]{1,128}", re.ASCII)
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::[0-9]*)?")


def _host_name(text):
    """A server's name as `Host` is compared with it; raises `ValueError` for one with a port, a scheme or a path."""
    name = text.lower().rstrip(".") if isinstance(text, str) else ""
    if not (_is_address(name) or re.fullmatch(r"[^\s/:@\[\]]+|\[[0-9a-f:.]+\]", name)):
        raise ValueError(f"`hosts` must be names alone, such as models.example.org. Received: {text!r}")
    return name


def _is_address(host):
    """Whether this is an IP address, to which no name leads."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Args:
        key: visible ASCII, bytes or text, kept as bytes, that a request must bring as `Authorization: Bearer KEY`;
            None: nobody is asked.
        open: what is answered without the key: of `"health"` and `"metrics"`; `"all"` where there is none.
        hosts: names that the `Host` of a request may have beside the server's own; None where any will do, which it
            never does on the loopback address: a web page cannot reach the server there by a name of its own (DNS
            rebinding). An IP address will always do, for no name leads to it.

    Raises:
        ValueError: naming the argument at fault.
    """

    key: bytes | str | None = field(default=None, repr=False)
    open: tuple = ()
    hosts: tuple | None = None

    def __post_init__(self):
        if isinstance(self.key, str):
            object.__setattr__(self, "key", self.key.encode("utf-8", "surrogatepass"))
        if self.key is not None and not (isinstance(self.key, bytes) and re.fullmatch(rb"[!-~]+", self.key)):
            raise ValueError("`key` must be visible ASCII characters, for it stands in a header")
        for name in self.open:
            check_one_of("open", name, OPEN)
        needless = set(self.open) - {"all"} if self.key is None else set(self.open) & {"all"}
        if needless:
            what = "only be all without a key" if self.key is None else "not be all where there is a key"
            raise ValueError(f"`open` must {what}. Received: {', '.join(sorted(needless))}")
        if self.hosts is not None:
            hosts = self.hosts if isinstance(self.hosts, tuple | list | set) else (self.hosts,)
            object.__setattr__(self, "hosts", tuple(map(_host_name, hosts)))

    def check_reach(self, address):
        """Raise `ValueError` where other machines reach an address of a socket, and nothing says that they may."""
        if self.key is None and "all" not in self.open and not is_loopback(address):
            raise ValueError(
                "`host` can be reached from other machines, so it needs a key, on the command line --key-file FILE; or "
                f"--open all, where a proxy asks for one. Received: {address} and no key"
            )


class Gate:
    """Passes requests on to an application: those whose `Host` is known, and that bring the key.

    Args:
        app: the ASGI application behind it.
        access: an `Access`, its `hosts` complete.
        free: paths that are answered without the key.
        on_refusal: called with the code of each request that is not passed on.
    """

    def __init__(self, app, access, free, on_refusal):
        self._app, self._access, self._free, self._on_refusal = app, access, frozenset(free), on_refusal

    async def __call__(self, scope, receive, send):
        """Answer a request of whatever kind, or have it answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status, size, headers = time.perf_counter(), 0, 0, Headers(scope=scope)
        told = headers.get("x-request-id", "")
        number = told if REQUEST_ID.fullmatch(told) else uuid.uuid4().hex
        scope["state"]["request_id"] = number

        async def answer(message):
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", number.encode())]}
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            refusal = self._refusal(scope["path"], headers)
            if refusal:
                self._on_refusal(refusal.status_code)
            await (refusal or self._app)(scope, receive, answer)
        finally:
            log_request(scope, status, time.perf_counter() - start, size, number)

    def _refusal(self, path, headers):
        """The answer to a request that is not passed on, else None."""
        key, hosts = self._access.key, headers.getlist("host")
        if self._access.hosts is not None and not (len(hosts) == 1 and self._knows(hosts[0])):
            received = ", ".join(hosts)[:100] or "none"
            return error_response(421, f"`Host` must be a name of this server. Received: {received}")
        if key is None or path in self._free:
            return None
        scheme, _, told = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(told.strip().encode(), key):
            return None
        received = "another one" if "authorization" in headers else "none"
        return error_response(401, f"the key must come as `Authorization: Bearer KEY`. Received: {received}")

    def _knows(self, host):
        """Whether a `Host` is one of the server's names, or an IP address."""
        found = HOST.fullmatch(host.lower())
        name = found[1].rstrip(".") if found else ""
        return name in self._access.hosts or _is_address(name.strip("[]"))
