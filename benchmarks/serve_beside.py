"""`nasnet-keras serve` beside LitServe and BentoML, around the same SavedModel: latency, throughput, memory.

    python benchmarks/serve_beside.py [--network NASNetMobile] [--requests 2000] [--rounds 2] [--environments DIR]

Exports a network with random weights, and serves its signature `image_bytes` by each server in turn, in a process of
its own, batches of at most 16 and no wait for company. JPEG photographs are uploaded as files in a form, over
connections that stay open: one client, then sixteen. The other two servers come from the package index into
environments of their own below DIR, with this environment's version of TensorFlow, made on the first run. TensorFlow's
threads are set as `nasnet-keras serve` sets them, in all three.
"""

import argparse
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PEERS = {"litserve": ("litserve", "python-multipart"), "bentoml": ("bentoml",)}
PATHS = {"ours": "/v1/models/net:predict", "litserve": "/predict", "bentoml": "/predict"}
MOST = 16
RESULTS = Path(__file__).with_suffix(".json")

# What a peer runs, with the environment's Python; MODEL and PORT are put in.
PROGRAMS = {
    "litserve": """
import litserve
import tensorflow as tf


class Classifier(litserve.LitAPI):
    def setup(self, device):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(CORES)
        self.model = tf.saved_model.load("MODEL")
        self.run = self.model.signatures["image_bytes"]

    def decode_request(self, request):
        return request["image"].file.read()

    def batch(self, inputs):
        return inputs

    def predict(self, contents):
        outputs = {key: value.numpy() for key, value in self.run(image_bytes=tf.constant(contents)).items()}
        return [{key: value[row] for key, value in outputs.items()} for row in range(len(contents))]

    def unbatch(self, output):
        return output

    def encode_response(self, row):
        names = [name.decode() for name in row["top_classes"]]
        scores = {key: row[key].tolist() for key in ("probabilities", "top_scores")}
        return {**scores, "top_classes": names}


if __name__ == "__main__":
    api = Classifier(max_batch_size=MOST, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="error")
""",
    "bentoml": """
from pathlib import Path

import bentoml
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(CORES)


@bentoml.service(workers=1, traffic={"timeout": 60, "concurrency": 64})
class Classifier:
    def __init__(self):
        self.model = tf.saved_model.load("MODEL")
        self.run = self.model.signatures["image_bytes"]

    @bentoml.api(batchable=True, max_batch_size=MOST, max_latency_ms=60000)
    def predict(self, image: list[Path]) -> list[dict]:
        contents = [path.read_bytes() for path in image]
        outputs = {key: value.numpy() for key, value in self.run(image_bytes=tf.constant(contents)).items()}
        return [
            {
                "probabilities": outputs["probabilities"][row].tolist(),
                "top_scores": outputs["top_scores"][row].tolist(),
                "top_classes": [name.decode() for name in outputs["top_classes"][row]],
            }
            for row in range(len(contents))
        ]
""",
}


def environment(name, place):
    """The Python of an environment that has a peer, made if need be."""
    python = place / name / "bin" / "python"
    if not python.exists():
        import tensorflow

        subprocess.run([sys.executable, "-m", "venv", place / name], check=True)
        packages = [*PEERS[name], f"tensorflow=={tensorflow.__version__}"]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


def start(name, model, port, place):
    """A server's process; it has its own group, for some start others."""
    folder = Path(tempfile.mkdtemp(dir=place))
    if name == "ours":
        return _process([sys.executable, "-m", "nasnet_keras.cli", "serve", "--model", model, "--port", port], folder)
    values = {"MODEL": model / "1", "PORT": port, "MOST": MOST, "CORES": len(os.sched_getaffinity(0))}
    program = PROGRAMS[name]
    for word, value in values.items():
        program = program.replace(word, str(value))
    (folder / "service.py").write_text(program)
    command = [environment(name, place), "service.py"]
    if name == "bentoml":
        command[1:] = ["-m", "bentoml", "serve", "service:Classifier", "--host", "127.0.0.1", "--port", port]
    return _process(command, folder)


def _process(command, folder):
    with open(folder / "log", "w") as log:  # each logs as it does by itself
        return subprocess.Popen(list(map(str, command)), cwd=folder, stdout=log, stderr=log, start_new_session=True)


def family(process):
    """The ids of a process and all that it has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {process.pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory(process):
    """Megabytes of a process and all that it has started; pages that they share count once."""
    total = 0
    for number in family(process):
        try:
            rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
            total += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
        except OSError:
            continue
    return total / 1000


def form(content):
    """A form with one file, as (content type, body)."""
    head = b'--between\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    head += b"Content-Type: image/jpeg\r\n\r\n"
    return "multipart/form-data; boundary=between", head + content + b"\r\n--between--\r\n"


def load(port, path, bodies, clients, requests):
    """Send requests from so many threads; returns seconds of each, seconds in all, and what went wrong."""
    times, errors, numbers, lock = [], [], iter(range(requests)), threading.Lock()

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            kind, body = bodies[number % len(bodies)]
            begin = time.perf_counter()
            try:
                connection.request("POST", path, body, {"content-type": kind})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200 or b"top_classes" not in content:
                    errors.append(content[:200])
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                errors.append(repr(error))
            times.append(time.perf_counter() - begin)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times), time.perf_counter() - begin, errors


def measure(name, model, bodies, options):
    """Start a server, send it requests, and end it; returns a row for each number of clients."""
    import signal
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(name, model, port, options.environments)
    rows = []
    try:
        end = time.monotonic() + 180
        while load(port, PATHS[name], bodies, 1, 1)[2]:
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{name} does not answer")
            time.sleep(1)
        load(port, PATHS[name], bodies, MOST, 200)  # what comes first is slow in every part of it
        for clients in (1, MOST):
            count = options.requests
            times, seconds, errors = load(port, PATHS[name], bodies, clients, count)
            row = {"server": name, "clients": clients, "requests": count, "rate": count / seconds}
            row |= {"p50": 1000 * times[count // 2], "p99": 1000 * times[count * 99 // 100]}
            rows.append({**row, "errors": len(errors), "megabytes": memory(process)})
            print(
                f"{name}, {clients} clients, {count} requests: {row['rate']:.1f}/s, p50 {row['p50']:.1f} ms, "
                f"p99 {row['p99']:.1f} ms, {len(errors)} errors {errors[:1]}, {rows[-1]['megabytes']:.0f} MB",
                flush=True,
            )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return rows


def table():
    """Lines of the table in RESULTS.md: medians over the rounds that were measured."""
    rows = json.loads(RESULTS.read_text())["rows"]
    lines = ["| server | clients | rounds | requests a second | p50 | p99 | MB |", "|---|---|---|---|---|---|---|"]
    for clients in sorted({row["clients"] for row in rows}):
        for server in PATHS:
            those = [row for row in rows if (row["server"], row["clients"]) == (server, clients)]
            rate, p50, p99, size = (median(row[key] for row in those) for key in ("rate", "p50", "p99", "megabytes"))
            times = f"{p50:.1f} ms | {p99:.1f} ms"
            lines.append(f"| {server} | {clients} | {len(those)} | {rate:.1f} | {times} | {size:.0f} |")
    return lines


def main():
    """Measure and print."""
    import numpy as np
    from PIL import Image
    from serve_load import export

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=("NASNetMobile", "small"), default="NASNetMobile")
    parser.add_argument("--images", type=Path, help="a folder of JPEGs (default: 100 made-up ones)")
    parser.add_argument("--requests", type=int, default=2000, help="of one client, and of sixteen")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", nargs="+", choices=tuple(PATHS), default=list(PATHS))
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name}, which RESULTS.md shows")
    parser.add_argument("--environments", type=Path, default=Path(".benchmarks"))
    options = parser.parse_args()
    options.environments = options.environments.absolute()
    options.environments.mkdir(parents=True, exist_ok=True)
    for name in set(options.servers) - {"ours"}:
        environment(name, options.environments)
    if options.images:
        files = [file.read_bytes() for file in sorted(options.images.rglob("*.jpg"))[:500]]
    else:
        chance, files = np.random.default_rng(0), []
        for _ in range(100):
            picture = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
            picture.save(content := io.BytesIO(), "JPEG")
            files.append(content.getvalue())
    bodies, rows = [form(content) for content in files], []
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "net"
        export(options.network, model)
        for number in range(1, options.rounds + 1):
            for name in options.servers:
                rows += [{"round": number, **row} for row in measure(name, model, bodies, options)]
    made = {"network": options.network, "rows": rows}
    print(json.dumps(made))
    if options.keep:
        RESULTS.write_text(json.dumps(made, indent=0) + "\n")


if __name__ == "__main__":
    main()
