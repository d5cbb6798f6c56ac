"""Where a server listens, with which certificate, and under which name a model is asked for."""

import errno
import socket
import ssl
from pathlib import Path

BACKLOG = 2048  # connections that may wait to be accepted


def check_name(name):
    """Raise `ValueError` unless a model's name can stand in an address."""
    if not name or set(name) & set("/:?#%"):
        raise ValueError(f"`name` must go into an address: no /, :, ?, # or %. Received: {name!r}")


def check_address(host, port):
    """The address that a host's name stands for; raises `ValueError` where `listen` would. Nobody can connect."""
    with _bound(host, port) as bound:
        return bound.getsockname()[0]


def check_certificate(certificate, private_key):
    """Raise `ValueError` unless two files are a certificate and its key, or both are None."""
    if certificate is None and private_key is None:
        return
    for name, path in (("certificate", certificate), ("private_key", private_key)):
        if path is None:
            raise ValueError("`certificate` and `private_key` must be given together. Received: one of them")
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"`{name}` must be a file that can be read: {error.strerror}. Received: {path}") from None

    def password():
        raise ValueError(f"`private_key` must not need a password. Received: {private_key}")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password)
    except ssl.SSLError as error:
        reason = (error.reason or "no certificate or key in PEM").lower().replace("_", " ")
        received = f"Received: {certificate} and {private_key}: {reason}"
        raise ValueError(
            f"`certificate` and `private_key` must be PEM files that belong together. {received}"
        ) from None


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
