"""Answers as JSON: those of TF Serving, and its form of an error."""

import orjson
from starlette.responses import Response


def json_response(code, body):
    """An answer of bytes that are JSON."""
    return Response(body, code, media_type="application/json")


def error_response(code, message):
    """`{"error": message}`, with what HTTP wants beside a code."""
    response = json_response(code, orjson.dumps({"error": message.encode("utf-8", "replace").decode()}))
    if code == 503:
        response.headers["retry-after"] = "1"
    if code == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response
