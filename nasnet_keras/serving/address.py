"""Where a server listens, and under which name a model is asked for."""

import errno
import ipaddress
import socket

BACKLOG = 2048  # connections that may wait to be accepted


def check_name(name):
    """Raise `ValueError` unless a model's name can stand in an address."""
    if not name or set(name) & set("/:?#%"):
        raise ValueError(f"`name` must go into an address: no /, :, ?, # or %. Received: {name!r}")


def listen(host, port):
    """A socket that listens at an address; port 0 is any that is free.

    Raises:
        ValueError: an address that does not exist or is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"`port` must be in 0 to 65535. Received: {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        argument, value = ("port", port) if error.errno in (errno.EADDRINUSE, errno.EACCES) else ("host", host)
        raise ValueError(f"`{argument}` cannot be listened on: {error.strerror}. Received: {value}") from None


def is_loopback(address):
    """Whether an address of a socket can be reached from this machine alone."""
    return ipaddress.ip_address(address.split("%")[0]).is_loopback
