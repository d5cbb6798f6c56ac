"""`nasnet-keras serve` for tests: the process, what it is asked, and HTTP by hand."""

import base64
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time

OLD, NEW = ("ant", "bee", "cat"), ("alder", "birch", "cedar")
PREDICT = "/v1/models/net:predict"
KEY = "0123456789abcdef0123456789abcdef"
# Of a server with a certificate that nobody has signed.
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname, UNCHECKED.verify_mode = False, ssl.CERT_NONE


def export_versions(place):
    """Two versions of a small network, which differ in their weights and in the names of their classes."""
    from checks import randomize

    from nasnet_keras.export.saved_model import export_saved_model
    from nasnet_keras.models.network import NASNet

    folders = []
    for seed, names in enumerate((OLD, NEW)):
        model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=3)
        randomize(model, seed)
        folders.append(export_saved_model(model, place / str(seed) / "net", class_names=names))
    return folders


def key_file(folder):
    """A file that holds the key of the tests."""
    (folder / "key").write_text(f"{KEY}\n")
    return str(folder / "key")


def certificate(folder):
    """(certificate, private key) of localhost, as files."""
    files = [str(folder / name) for name in ("certificate.pem", "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


class Server:
    """`nasnet-keras serve` in a process of its own, on any free port; with a key where `key` says so."""

    def __init__(self, folder, *arguments, key=None):
        command = [sys.executable, "-m", "nasnet_keras.cli", "serve", "--model", str(folder), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        self.greeting = self.process.stdout.readline()
        assert self.greeting, self.log
        self.url = re.search(r"https?://\S+", self.greeting)[0]
        self.address = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    def connect(self):
        """A connection that can be used again and again."""
        if self.url.startswith("https"):
            return http.client.HTTPSConnection(*self.address, timeout=30, context=UNCHECKED)
        return http.client.HTTPConnection(*self.address, timeout=30)

    def open(self):
        """A bare connection, or one that TLS is spoken on."""
        connection = socket.create_connection(self.address, timeout=20)
        return UNCHECKED.wrap_socket(connection) if self.url.startswith("https") else connection

    def ask(self, method, path, body=None, connection=None, headers=()):
        """The code and the JSON of an answer."""
        own = connection or self.connect()
        own.request(method, path, body, {**self.headers, **dict(headers)})
        answer = own.getresponse()
        content = answer.read()
        if connection is None:
            own.close()
        return answer.status, json.loads(content) if content else None

    def end(self, number):
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()
            self.process.stderr.close()

    def memory(self):
        """Resident megabytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1000


def image_request(content, row_form=True):
    """The body of a request for an image file, in JSON."""
    encoded = {"b64": base64.b64encode(content).decode()}
    rows = {"instances": [{"image_bytes": encoded}]} if row_form else {"inputs": {"image_bytes": [encoded]}}
    return json.dumps({"signature_name": "image_bytes", **rows}).encode()


def form(*files, name="image", boundary="between"):
    """A form of files as (content type, body)."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


def raw(server, head, chunks=(), pause=0.0):
    """Speak HTTP by hand; returns the code and what came."""
    with server.open() as connection:
        connection.sendall(head)
        for chunk in chunks:
            try:
                connection.sendall(chunk)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
            if b"}" in answer:
                break
    return int(answer.split()[1]) if answer else None, answer.rpartition(b"\r\n\r\n")[2]
