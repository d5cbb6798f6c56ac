"""A headless Chromium for tests, spoken to in the DevTools protocol over two pipes: no driver, no package."""

import base64
import fcntl
import json
import os
import shutil
import signal
import time

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"


class Browser:
    """One tab of a fresh profile. Skips the test where no browser is installed.

    Args:
        folder: a new folder for the profile.
        *flags: further flags of the browser.
    """

    def __init__(self, folder, *flags):
        name = next(filter(None, map(shutil.which, NAMES)), None)
        if name is None:
            pytest.skip(f"needs a browser, one of {', '.join(NAMES)}")
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        # The browser reads commands from 3 and answers on 4; copies far from these cannot be in each other's way.
        copies = [fcntl.fcntl(place, fcntl.F_DUPFD, 10) for place in (theirs, answers)]
        actions = [(os.POSIX_SPAWN_DUP2, place, number) for number, place in enumerate(copies, 3)]
        actions += [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        arguments = [name, *FLAGS.split(), *flags, f"--user-data-dir={folder}", "about:blank"]
        self._process = os.posix_spawn(name, arguments, os.environ, file_actions=actions)
        for place in (theirs, answers, *copies):
            os.close(place)
        self._count, self._buffer, self._session = 0, b"", None
        self.complaints = []
        target = next(one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        """Send a command and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(message["params"]["exceptionDetails"])
        return message

    def open(self, url):
        """Go to a page."""
        self("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        result = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=20):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.02)
        return value

    def choose(self, selector, path):
        """Pick a file in a file field."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop(self, selector, path):
        """Drag a file onto an element and let it fall."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        x, y = self.evaluate(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path, width=1000, height=720, dark=False):
        """Save what is seen as PNG."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def close(self):
        """End the browser."""
        os.close(self._to)
        os.close(self._from)
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
