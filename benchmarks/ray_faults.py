"""Loses nodes of a local Ray cluster, or kills the driver, and looks whether a trial is lost or counted twice.

    python benchmarks/ray_faults.py nodes --losses 5 --trials 400
    python benchmarks/ray_faults.py driver --kills 10 --trials 80
    python benchmarks/ray_faults.py cost --trials 400

The cluster has three nodes of one CPU each on this machine, the head among them, which is never killed.

`nodes`: a search of children that compute nothing, and wait for half a second; at random instants one of the other
nodes is killed and another one takes its place after 5 to 20 seconds, and once a fourth node joins. In the end each
trial must have been counted once.

`driver`: the process that searches is killed (`kill -9`) at a random instant after up to ten new trials, and started
again, with one child at a time. Its trajectory must be that of a search in one process that nobody disturbed.

`cost`: what a free trial costs when nothing is killed: time, CPU of the driver, and its resident size above what it was
after `import keras_tuner`, early and late.

Rewards are functions of the genotype. Exit code 1 if anything is wrong.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import QuickChild, faults_of, lines

WITHOUT = ("seconds", "worker")
SLOW = 0.5  # seconds of a child that computes nothing: else all have ended before a new node is there


def drive(address, folder, trials, workers, seconds=0.0, on_trial=None):
    """The search, from this process."""
    import nasnet_keras
    from nasnet_keras.data.loading import load_data
    from nasnet_keras.search.distributed.ray_pool import Engine
    from nasnet_keras.search.strategies.controller import ControllerSettings

    nasnet_keras.search(
        load_data("digits", limit=50), trials, folder, "rl", 0, child=QuickChild(float(seconds)),
        settings=ControllerSettings(hidden_units=20, embedding_size=10, batch_size=5),
        engine="here" if address is None else Engine(address, workers), on_trial=on_trial,
    )  # fmt: skip


def driver(address, folder, trials, workers, seconds=0.0):
    """`drive` in a process of its own."""
    words = [sys.executable, __file__, "drive", str(address), str(folder), str(trials), str(workers), str(seconds)]
    return subprocess.Popen(words, stderr=open(f"{folder}.log", "ab"))


def cluster():
    """Three nodes."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    return made


def nodes(root, losses, trials, rng):
    """Lose nodes during one search; true if nothing is lost or doubled."""
    made = cluster()
    process, lost = driver(made.address, root / "nodes", trials, None, SLOW), 0
    steps = [trials * (number + 1) // (losses + 2) for number in range(losses)]
    joins = trials * (losses + 1) // (losses + 2)
    due = []  # when nodes take the places of lost ones; Ray starts nodes from the main thread only
    while process.poll() is None:
        time.sleep(0.05)
        if due and time.monotonic() >= due[0]:
            due.pop(0)
            made.add_node(num_cpus=1)
        done = len(lines(root / "nodes"))
        if lost < losses and done >= steps[lost] and len(made.worker_nodes) > 1:
            made.remove_node(rng.choice(list(made.worker_nodes)), allow_graceful=False)
            lost += 1
            due = sorted([*due, time.monotonic() + rng.uniform(5, 20)])
        if joins is not None and done >= joins:
            made.add_node(num_cpus=1)
            joins = None
    again = Path(root / "nodes/controller/attempts.jsonl")
    rows = map(json.loads, again.read_text().splitlines() if again.exists() else ())
    count = sum(row["worker"] is not None for row in rows)
    gone, doubled = faults_of(root / "nodes", trials)
    workers = len({line["worker"] for line in lines(root / "nodes")})
    told = f"{trials} trials by {workers} actors, {count} given out again"
    print(f"nodes: {lost} killed, {told}: {gone} lost, {doubled} twice")
    made.shutdown()
    return process.returncode == 0 and lost == losses and not gone and not doubled


def kills(root, count, trials, rng):
    """Kill the driver; true if its trajectory is the undisturbed one's."""
    straight, killed = root / "straight", root / "killed"
    if driver(None, straight, trials, 1).wait():
        return False
    made, done = cluster(), 0
    while True:
        before = len(lines(killed))
        process = driver(made.address, killed, trials, 1)
        if done == count:
            code = process.wait()
            break
        wanted = min(before + 1 + rng.randrange(max(1, trials // (count + 1))), trials - 1)
        while len(lines(killed)) < wanted and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
    made.shutdown()
    gone, doubled = faults_of(killed, trials)
    same = lines(killed, WITHOUT) == lines(straight, WITHOUT)
    told = "identical" if same else "ANOTHER ONE"
    print(f"driver: {done} kills, trajectory of {trials} trials {told}: {gone} lost, {doubled} twice")
    return code == 0 and same and not gone and not doubled


def resident():
    """Resident size of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def measured(address, folder, trials):
    """`drive`, and print what a trial costs, from the first tenth to the end."""
    import keras_tuner

    assert keras_tuner
    marks, before = [], resident()

    def note(finished):
        now = (time.perf_counter(), time.process_time(), resident())
        marks.extend([now] * (len(finished) + 1 - len(marks)))

    drive(address, folder, trials, None, on_trial=note)
    start = trials // 10
    seconds, cpu = ((marks[-1][place] - marks[start][place]) / (trials - start) * 1e3 for place in (0, 1))
    above = ", ".join(f"{marks[at][2] - before:.0f} MB after {at}" for at in (start, trials // 2, trials))
    print(
        f"cost: {seconds:.0f} ms a trial, {cpu:.1f} ms of the driver's CPU; above `import keras_tuner`: {above} trials"
    )


def main():
    """Lose nodes or kill drivers."""
    if sys.argv[1:2] == ["measured"]:
        return measured(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    if sys.argv[1:2] == ["drive"]:
        address, folder, trials, workers, seconds = (None if word == "None" else word for word in sys.argv[2:])
        return drive(address, Path(folder), int(trials), workers and int(workers), seconds)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("nodes", "driver", "cost"))
    parser.add_argument("--losses", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])  # of the nodes, too
    with tempfile.TemporaryDirectory() as root:
        rng = random.Random(options.seed)
        if options.what == "nodes":
            good = nodes(Path(root), options.losses, options.trials or 400, rng)
        elif options.what == "cost":
            made = cluster()
            words = [sys.executable, __file__, "measured", made.address, f"{root}/cost", str(options.trials or 400)]
            good = subprocess.run(words).returncode == 0
            made.shutdown()
        else:
            good = kills(Path(root), options.kills, options.trials or 80, rng)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
