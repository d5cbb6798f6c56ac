"""Where a server listens, and under which name a model is asked for."""

import errno
import ipaddress
import socket

BACKLOG = 2048  # connections that may wait to be accepted


def check_name(name):
    """Raise `ValueError` unless a model's name can stand in an address."""
    if not name or set(name) & set("/:?#%"):
        raise ValueError(f"`name` must go into an address: no /, :, ?, # or %. Received: {name!r}")


def check_address(host, port):
    """Raise `ValueError` where `listen` would; nobody can connect meanwhile."""
    _bound(host, port).close()


def listen(host, port):
    """A socket that listens at an address; port 0 is any that is free.

    Raises:
        ValueError: an address that does not exist or is taken.
    """
    listener = _bound(host, port)
    listener.listen(BACKLOG)
    return listener


def _bound(host, port):
    if not 0 <= port <= 65535:
        raise ValueError(f"`port` must be in 0 to 65535. Received: {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        argument, value = ("port", port) if taken else ("host", host)
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise ValueError(f"`{argument}` cannot be listened on: {reason}. Received: {value}") from None


def is_loopback(address):
    """Whether an address of a socket can be reached from this machine alone."""
    return ipaddress.ip_address(address.split("%")[0]).is_loopback
