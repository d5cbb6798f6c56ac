"""Connections on which nothing comes any longer, in this process and with a short patience."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from nasnet_keras.serving.server import Patient

PATIENCE = 0.2


async def answer(scope, receive, send):
    """Says yes without looking at the body."""
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"yes"})


def talk(*parts):
    """What comes after the answer to the first part, when the others are sent, until the server ends it."""

    async def main():
        config = uvicorn.Config(answer, http=Patient, ws="none", lifespan="off", log_config=None)
        config.patience = PATIENCE
        config.load()

        def protocol():
            return Patient(config=config, server_state=ServerState(), app_state={})

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(parts[0])
        await reader.readuntil(b"yes")
        for part in parts[1:]:
            writer.write(part)
            await asyncio.sleep(PATIENCE / 10)
        try:
            return await asyncio.wait_for(reader.read(), 2)
        finally:
            writer.close()
            server.close()

    return asyncio.run(main())


GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((GET, b"\r\n"), id="an empty line"),
        pytest.param((GET, b"\n", b"\r\n", b"\n"), id="empty lines"),
        pytest.param((POST, b"ab"), id="a body that nobody waited for"),
        pytest.param((POST, b"a", b"b\r\n"), id="in pieces"),
        pytest.param((GET, b"GET / HT"), id="half a request"),
    ],
)
def test_an_idle_connection_ends(parts):
    assert talk(*parts) == b""


def test_an_empty_line_before_a_request_does_no_harm():
    assert talk(GET, b"\r\n", GET, b"\r\n").endswith(b"yes")
