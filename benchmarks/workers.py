"""One chief and many workers on the loopback, with a reward that costs nothing: throughput, slowest answer, errors.

    python benchmarks/workers.py --workers 200 --trials 4000

The chief is a process of its own. The workers are threads in a few others, each with a channel and signs of life of its
own, as if it were a machine: they do what KerasTuner's loop does for a trial, four calls (`create_trial`, `get_trial`,
`update_trial`, `end_trial`), and without `--pause` ask for the next at once, which no real worker does.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
VERBS = ("create_trial", "get_trial", "update_trial", "end_trial")


def chief(folder, strategy, trials, ports):
    """Serve until the search is done, then report what it cost."""
    from nasnet_keras.search.distributed.chief import serve
    from nasnet_keras.search.distributed.roles import Role
    from nasnet_keras.search.oracle import NASNetOracle

    oracle = NASNetOracle(trials, strategy=strategy, seed=0)
    oracle._set_project_dir(str(folder), "search")
    start = time.process_time()
    serve(oracle, Role("chief", port=0), {}, on_ready=ports.put)
    ports.put((time.process_time() - start, len(oracle.finished_trials())))


def work(port, names, pause, results):
    """Some workers in threads; puts the seconds of every call and the errors."""
    from nasnet_keras.search.distributed.roles import Role
    from nasnet_keras.search.distributed.worker import Client
    from nasnet_keras.search.oracle import NASNetOracle

    own, seconds, errors, span = NASNetOracle(1), {verb: [] for verb in VERBS}, [], []

    def run(name):
        client = Client(own, Role(name, port=port), {}, patience=60.0)

        def timed(verb, *arguments):
            start = time.perf_counter()
            result = getattr(client, verb)(*arguments)
            if verb != "create_trial" or result.status == "RUNNING":  # the last one waits for the others to end
                seconds[verb].append(time.perf_counter() - start)
                span.append(time.time())
            return result

        try:
            while (trial := timed("create_trial", name)).status == "RUNNING":
                timed("get_trial", trial.trial_id)
                time.sleep(pause)
                timed("update_trial", trial.trial_id, {"reward": int(trial.trial_id) % 97 / 97})
                trial.status = "COMPLETED"
                timed("end_trial", trial)
        except Exception as error:
            errors.append(f"{name}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((seconds, errors, min(span), max(span)))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2, help="that the workers share")
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a child takes")
    parser.add_argument("--strategy", default="random")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ports, results = context.Queue(), context.Queue()
    names = [f"worker-{number}" for number in range(options.workers)]
    with tempfile.TemporaryDirectory() as folder:
        server = context.Process(target=chief, args=(Path(folder), options.strategy, options.trials, ports))
        server.start()
        port = ports.get()
        processes = [
            context.Process(target=work, args=(port, names[part :: options.processes], options.pause, results))
            for part in range(options.processes)
        ]
        for process in processes:
            process.start()
        parts = [results.get() for _ in processes]
        cpu, finished = ports.get()
        for process in (*processes, server):
            process.join()
        log = (Path(folder) / "search" / "trials.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in log]
    errors = [error for _, found, *_ in parts for error in found]
    numbers = [line["number"] for line in lines]
    seconds = {verb: sorted(one for part, *_ in parts for one in part[verb]) for verb in VERBS}
    calls = sum(len(times) for times in seconds.values())
    span = max(part[3] for part in parts) - min(part[2] for part in parts)
    print(f"{options.workers} workers, {options.trials} trials, strategy {options.strategy}, pause {options.pause} s")
    print(f"finished {finished}, counted once {len(set(numbers))}, counted twice {len(numbers) - len(set(numbers))}")
    print(f"errors {len(errors)}" + "".join(f"\n  {error}" for error in errors[:5]))
    each = f"chief's CPU {cpu / finished * 1e3:.2f} ms a trial"
    print(f"{options.trials / span:.0f} trials/s, {calls / span:.0f} calls/s; {each}")
    for verb, times in seconds.items():
        median, high = statistics.median(times), times[int(0.99 * (len(times) - 1))]
        print(f"  {verb:14} median {median * 1e3:7.1f} ms, 99% {high * 1e3:7.1f} ms, slowest {times[-1] * 1e3:7.1f} ms")
    stale = [line["staleness"] for line in lines]
    print(f"staleness: mean {statistics.mean(stale):.2f}, most {max(stale)} versions")
    return 1 if errors or len(set(numbers)) != options.trials else 0


if __name__ == "__main__":
    sys.exit(main())
