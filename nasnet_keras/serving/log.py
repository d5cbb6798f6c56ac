"""What the server logs: a line for each request, as text or as JSON."""

import logging
from datetime import UTC, datetime

import orjson

MAX_PATH = 200  # characters of an address in a line
log = logging.getLogger(__name__)


def log_request(scope, status, seconds, size, number):
    """Log a request in one line.

    Args:
        scope: the ASGI scope; of its address only the path, for the rest is nobody's business.
        status: the code of the answer.
        seconds: from the request's head to the answer's end.
        size: bytes of the answer's body.
        number: the request's id.
    """
    client, method = (scope.get("client") or ("-",))[0], scope["method"]
    path = scope["raw_path"].decode("ascii", "backslashreplace")[:MAX_PATH]  # as it was sent: without line ends
    fields = {"client": client, "method": method, "path": path, "status": status}
    fields |= {"milliseconds": round(1000 * seconds, 3), "bytes": size, "request_id": number}
    text = "%s %s %s %d in %.1f ms, %d bytes, request %s"
    log.info(text, client, method, path, status, 1000 * seconds, size, number, extra={"request": fields})


class JsonLines(logging.Formatter):
    """Each record as a JSON object on a line: of a request its fields, of anything else the message."""

    def format(self, record):
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        what = getattr(record, "request", None) or {
            "message": super().format(record).encode("utf-8", "replace").decode()
        }
        return orjson.dumps({"time": time, "level": record.levelname.lower(), **what}).decode()
