"""`nasnet-keras serve` for a long time under load, while new versions take over: is a request lost, does memory grow?

    python benchmarks/serve_soak.py [--minutes 20] [--swaps 60] [--load 0.7] [--network small]

Exports a network twice, with other random weights, serves it, measures what the server can do, and sends a share of
that as JPEG files, evenly, from sixteen connections. A new version appears at even intervals, the one before the last
vanishes. Prints what was sent and lost, and the server's memory; exit code 1 if a request was lost or memory rose by 3%
and more after the first quarter, which in 20 minutes is the fifth minute.
"""

import argparse
import http.client
import io
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from serve_load import Server, export

CLIENTS = 16
RISE = 0.03


class Load:
    """Clients that send at a rate.

    Args:
        port: the server's.
        bodies: JPEG files.
    """

    def __init__(self, port, bodies):
        self.times, self.lost, self.late = [], [], 0
        self._port, self._bodies = port, bodies

    def send(self, seconds, rate=None):
        """Send for so long, at a rate a second, or as fast as answers come; returns answers a second."""
        start, lock, numbers = time.monotonic(), threading.Lock(), iter(range(10**9))
        before = len(self.times)

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            while True:
                with lock:
                    number = next(numbers)
                due = start + (number / rate if rate else 0.0)
                if max(due, time.monotonic()) >= start + seconds:
                    break
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                elif rate and wait < -1:
                    self.late += 1
                self._ask(connection, self._bodies[number % len(self._bodies)])
            connection.close()

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (len(self.times) - before) / (time.monotonic() - start)

    def _ask(self, connection, body):
        start = time.perf_counter()
        try:
            connection.request("POST", "/v1/models/net:predict", body, {"content-type": "image/jpeg"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200 or b"top_classes" not in content:
                self.lost.append(f"{answer.status}: {content[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.lost.append(repr(error))
        self.times.append(time.perf_counter() - start)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--swaps", type=int, default=60)
    parser.add_argument("--load", type=float, default=0.7, help="share of what the server can do")
    parser.add_argument("--network", choices=("small", "NASNetMobile"), default="small")
    options = parser.parse_args()
    chance, bodies = np.random.default_rng(0), []
    for _ in range(100):
        pixels = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((300, 200))
        pixels.save(content := io.BytesIO(), "JPEG")
        bodies.append(content.getvalue())
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for name in ("a", "b"):
            export(options.network, place / name)
        served = place / "net"
        shutil.copytree(place / "a" / "1", served / "1")
        server = Server(served, ["--log", "none"])
        load, memory, done = Load(server.port, bodies), [], threading.Event()
        load.send(5)
        rate = options.load * load.send(10)
        load.times.clear()
        start, seconds = time.monotonic(), 60 * options.minutes

        def swap():
            for number in range(1, options.swaps + 1):
                done.wait(max(0, start + number * seconds / (options.swaps + 1) - time.monotonic()))
                shutil.copytree(place / "ba"[number % 2] / "1", served / ".new")
                os.rename(served / ".new", served / str(number + 1))
                if number > 1:
                    shutil.rmtree(served / str(number - 1))

        def watch():
            while not done.wait(min(10, seconds / 30)):
                metrics = server.metrics()
                now = (time.monotonic() - start, metrics["process_resident_memory_bytes"] / 1e6)
                memory.append((*now, int(metrics["nasnet_model_version"])))

        helpers = [threading.Thread(target=what) for what in (swap, watch)]
        for helper in helpers:
            helper.start()
        achieved = load.send(seconds, rate)
        done.set()
        for helper in helpers:
            helper.join()
        server.process.terminate()
        code = server.process.wait()
    times, versions = sorted(load.times), {version for *_, version in memory}
    early = [size for at, size, _ in memory if seconds / 4 <= at <= seconds / 4 + max(60, seconds / 10)]
    rise = memory[-1][1] / max(early) - 1
    print(
        f"{options.network}, {options.minutes:g} minutes, {options.swaps} new versions, {max(versions)} the last: "
        f"{len(times)} requests at {achieved:.1f} of {rate:.1f}/s wanted, {len(load.lost)} lost, {load.late} late, "
        f"p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {times[len(times) * 99 // 100] * 1e3:.1f} ms, exit code {code}"
    )
    sizes = ", ".join(f"{size:.0f}" for _, size, _ in memory[:: max(1, len(memory) // 12)])
    print(f"memory in MB: {sizes}, at the end {memory[-1][1]:.0f}: {100 * rise:+.2f}% since the first quarter")
    for line in load.lost[:5]:
        print(f"lost: {line}")
    sys.exit(bool(load.lost) or rise >= RISE or code != 0)


if __name__ == "__main__":
    main()
