"""`nasnet-keras serve` under load: real JPEGs from one client, then from sixteen, and what batching makes of it.

    python benchmarks/serve_load.py --images photos [--requests 2000] [--clients 16] [--rounds 2]

Exports networks with random weights, serves each in a process of its own, and sends the files below `--images`, base64
in JSON, over connections that stay open. Prints throughput, latencies, batch sizes, errors and the server's memory.
The clients run in this process and share the machine's cores with the server: their share is printed as well.
"""

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def export(name, folder):
    """Write a SavedModel of a network with random weights."""
    import nasnet_keras

    networks = {
        "NASNetMobile": lambda: nasnet_keras.NASNetMobile(weights=None),
        "small": lambda: nasnet_keras.NASNetCIFAR(weights=None, repeats=2, filters=16),
    }
    nasnet_keras.export_saved_model(networks[name](), folder)


class Server:
    """A serving process."""

    def __init__(self, folder, options):
        command = [sys.executable, "-m", "nasnet_keras.cli", "serve", "--model", str(folder), "--name", "net"]
        self.process = subprocess.Popen([*command, "--port", "0", *options], stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r"http://[^:]+:(\d+)", self.process.stdout.readline())[1])

    def metrics(self):
        """{name: value} of what it counts."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def load(port, bodies, clients, requests):
    """Send requests from so many threads; returns seconds of each, seconds in all, and what went wrong."""
    times, errors, numbers, lock = [], [], iter(range(requests)), threading.Lock()

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            start = time.perf_counter()
            connection.request("POST", "/v1/models/net:predict", bodies[number % len(bodies)])
            answer = connection.getresponse()
            content = answer.read()
            times.append(time.perf_counter() - start)
            if answer.status != 200 or b'"top_classes"' not in content:
                errors.append(content[:200])
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times), time.perf_counter() - start, errors


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEGs, at any depth")
    parser.add_argument("--networks", nargs="+", default=["NASNetMobile", "small"])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--requests", type=int, default=2000, help="from all clients together; one client sends a fifth"
    )
    parser.add_argument("--rounds", type=int, default=2)
    options, further = parser.parse_known_args()  # what is left goes to `serve`
    files = sorted(options.images.rglob("*.jpg"))[:: max(1, len(list(options.images.rglob("*.jpg"))) // 500)]
    bodies = [
        json.dumps(
            {
                "signature_name": "image_bytes",
                "instances": [{"image_bytes": {"b64": base64.b64encode(file.read_bytes()).decode()}}],
            }
        ).encode()
        for file in files
    ]
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            export(name, folder)
            server = Server(folder, further)
            load(server.port, bodies, options.clients, 200)  # what comes first is slow in every part of it
            rates = {}
            for _ in range(options.rounds):
                for clients, count in ((1, options.requests // 5), (options.clients, options.requests)):
                    before, start = server.metrics(), time.process_time()
                    times, seconds, errors = load(server.port, bodies, clients, count)
                    after, used = server.metrics(), time.process_time() - start
                    rates.setdefault(clients, []).append(count / seconds)
                    delta = {key: after[key] - before.get(key, 0) for key in after}
                    rows = delta["nasnet_batch_rows_sum"] / delta["nasnet_batch_rows_count"]
                    print(
                        f"{name}, {clients} clients, {count} requests: {count / seconds:.1f}/s, "
                        f"p50 {times[count // 2] * 1e3:.1f} ms, p99 {times[count * 99 // 100] * 1e3:.1f} ms, "
                        f"{len(errors)} errors, batches of {rows:.1f}, cores: server "
                        f"{delta['process_cpu_seconds_total'] / seconds:.2f}, clients {used / seconds:.2f}, "
                        f"memory {before['process_resident_memory_bytes'] / 1e6:.0f} to "
                        f"{after['process_resident_memory_bytes'] / 1e6:.0f} MB",
                        flush=True,
                    )
            ratios = [many / one for one, many in zip(*rates.values(), strict=True)]
            print(f"{name}: {options.clients} clients against one: " + ", ".join(f"{ratio:.2f}" for ratio in ratios))
            server.process.terminate()
            print(f"{name}: exit code {server.process.wait()}", flush=True)


if __name__ == "__main__":
    main()
