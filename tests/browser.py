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
KEYS = {"Tab": (9, None), "Enter": (13, "\r"), " ": (32, " ")}  # their numbers, and what they write
# Texts with less contrast to what is behind them than WCAG 2.2 asks for (1.4.3), pictures left out.
PALE = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, share = 1], below) =>
    [r, g, b].map((value, index) => value * share + below[index] * (1 - share));
  const linear = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = colour => colour.map(value => linear(value / 255)).reduce(
    (sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), own = walker.currentNode.parentElement;
    if (!text || own.closest("svg, script, style, noscript") || !own.checkVisibility()) continue;
    const around = [];
    for (let element = own; element; element = element.parentElement) around.unshift(getComputedStyle(element));
    const behind = around.reduce((below, style) => over(numbers(style.backgroundColor), below), [255, 255, 255]);
    const style = around.at(-1), seen = around.reduce((share, one) => share * one.opacity, 1);
    const colour = numbers(style.color);
    const lights = [light(over([...colour.slice(0, 3), (colour[3] ?? 1) * seen], behind)), light(behind)];
    const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) found.push([text.slice(0, 40), contrast]);
  }
  return found;
})()"""


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

    def press(self, key):
        """Press a key of `KEYS` and let it go."""
        number, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            written = {"text": text} if text and kind == "keyDown" else {}
            self("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=number, **written)

    def names(self):
        """What a screen reader calls each thing that has the focus in turn."""
        self("Accessibility.enable")
        nodes = [node for node in self("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
        focused = [node for node in nodes if {"focusable"} & {one["name"] for one in node.get("properties", ())}]
        kinds = ("RootWebArea", "generic", "ScrollArea")
        return [node["name"]["value"] for node in focused if node["role"]["value"] not in kinds]

    def pale(self):
        """Texts that are hard to read, with their contrast."""
        return self.evaluate(PALE)

    def screenshot(self, path, width=1000, height=720, dark=False):
        """Save what is seen as PNG."""
        self.screen(width, height, dark)
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def screen(self, width, height, dark=False):
        """Have a window of another size, and a light or a dark scheme."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def close(self):
        """End the browser."""
        os.close(self._to)
        os.close(self._from)
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
