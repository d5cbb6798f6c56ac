"""Connections on which nothing comes any longer, in this process and with a short patience."""

import asyncio
import socket

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


def unread(size, read=0, pause=0.0):
    """Seconds until a client that reads so many bytes a time, or nothing, is sent away; None if it is not.

    Args:
        size: bytes of the answer.
        read: bytes of each read, 0: it reads nothing.
        pause: seconds between two.
    """

    async def large(scope, receive, send):
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def main():
        config = uvicorn.Config(large, http=Patient, ws="none", lifespan="off", log_config=None)
        config.patience = PATIENCE
        config.load()
        made, lost = [], asyncio.Event()

        class Watched(Patient):
            def connection_made(self, transport):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                super().connection_made(transport)

            def connection_lost(self, exc):
                super().connection_lost(exc)
                lost.set()

        def protocol():
            made.append(Watched(config=config, server_state=ServerState(), app_state={}))
            return made[0]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, "127.0.0.1", 0)
        client = socket.socket()
        if not read:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        start = loop.time()
        await loop.sock_sendall(client, GET)
        try:
            seen = 0
            while read and seen < size:
                part = await loop.sock_recv(client, read)
                assert part, f"sent away after {seen:,} bytes"
                seen += len(part)
                await asyncio.sleep(pause)
            if read:
                return None
            await asyncio.wait_for(lost.wait(), 10 * PATIENCE)
            return loop.time() - start
        finally:
            client.close()
            server.close()

    return asyncio.run(main())


@pytest.mark.parametrize("size", [40_000, 5_000_000])  # less than what asyncio lets wait unseen, and more
def test_who_does_not_read_its_answer_is_sent_away(size):
    assert PATIENCE <= unread(size) <= 3 * PATIENCE


def test_who_reads_slowly_gets_all():
    """Longer than the patience in all, and never nothing for as long as that."""
    assert unread(1_000_000, read=100_000, pause=PATIENCE / 5) is None


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
