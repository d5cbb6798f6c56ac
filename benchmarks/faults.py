"""Kills a search again and again, and looks whether a trial is lost or counted twice.

    python benchmarks/faults.py alone --kills 50
    python benchmarks/faults.py team --kills 50 [--controllers predictor --workers 2]

`alone`: one process searches with a child that takes a few milliseconds, and is killed (`kill -9`) at a random instant
after up to five new trials, until it was killed so often; then it may finish. Its trajectory must be that of a search
that nobody disturbed.

`team`: a chief and workers, four unless more or fewer are asked for, each its own process on the loopback; now the
chief, now a worker is killed, and started again. In the end each trial must have been counted once. Before that, unless
a controller is named, four workers of which two are killed for good and one comes late.

Rewards are functions of the genotype, so a trial that ran twice gives the same. Exit code 1 if anything is wrong.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CONTROLLERS = ("rl", "evolution", "random", "local", "predictor")


@dataclass(frozen=True)
class QuickChild:
    """A child that takes some time and no arithmetic; one in twelve fails."""

    seconds: float = 0.0

    def evaluate(self, genotype, data, seed, **_):
        """A reward that the genotype alone decides."""
        time.sleep(self.seconds)
        value = int(genotype.digest, 16)
        if value % 12 == 0:
            raise MemoryError("no room for this child")
        return {"reward": value % 10**6 / 1e6, "parameters": value % 10**5}


def take_part(folder, trials, seconds, controller, role_name, port):
    """What a process of the search runs."""
    import nasnet_keras
    from nasnet_keras.data.loading import load_data
    from nasnet_keras.search.distributed.roles import Role
    from nasnet_keras.search.strategies.controller import ControllerSettings

    settings = ControllerSettings(hidden_units=20, embedding_size=10, batch_size=5) if controller == "rl" else None
    nasnet_keras.search(
        load_data("digits", limit=50), trials, folder, controller, 0, child=QuickChild(seconds), settings=settings,
        **({"role": Role(role_name, port=port), "lease": 3.0, "patience": 60.0} if role_name else {}),
    )  # fmt: skip


def started(folder, trials, seconds, controller, role="", port=0):
    """A process that takes part; forked from this interpreter, so that it need not import everything again."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(Path(folder).parent / f"{role or 'alone'}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        take_part(folder, trials, seconds, controller, role, port)
        code = 0
    finally:
        os._exit(code)


def ended(process, block=False):
    """The exit code of a process, None while it runs."""
    done, status = os.waitpid(process, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def kill(process):
    """Kill a process and see it gone."""
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def lines(folder, without=("seconds",)):
    """The finished trials."""
    try:
        text = (Path(folder) / "trials.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in text.splitlines()]


def faults_of(folder, trials):
    """How many trials are lost, and how many are counted twice."""
    numbers = [line["number"] for line in lines(folder)]
    return trials - len(set(numbers)), len(numbers) - len(set(numbers))


def alone(root, kills, trials, controller, rng):
    """Kill one process; true if its trajectory is the undisturbed one's."""
    straight, killed = root / "straight", root / "killed"
    ended(started(straight, trials, 0.0, controller), block=True)
    done, hit_work = 0, 0
    while True:
        before = len(lines(killed)) if killed.exists() else 0
        process = started(killed, trials, 0.01, controller)
        if done == kills:
            code = ended(process, block=True)
            break
        wanted = before + rng.randrange(6)  # 0: at any instant, also while it starts
        while len(lines(killed)) < wanted and ended(process) is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.01 if wanted > before else 0.6))
        if len(lines(killed)) >= trials:
            sys.exit(f"the search had finished after {done} kills: more trials are needed")
        kill(process)
        done += 1
        hit_work += len(lines(killed)) > before
    lost, twice = faults_of(killed, trials)
    same = lines(killed) == lines(straight)
    print(
        f"alone, {controller}: {done} kills ({hit_work} after new trials), exit code {code}, {lost} lost, "
        f"{twice} twice, trajectory {'identical' if same else 'DIFFERENT'} over {trials} trials",
        flush=True,
    )
    return not (lost or twice or code) and same


class Team:
    """A chief and workers."""

    def __init__(self, folder, trials, seconds, controller="evolution"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.arguments, self.folder, self.trials, self.processes = (
            (folder, trials, seconds, controller),
            folder,
            trials,
            {},
        )

    def start(self, name):
        """Start the chief or a worker."""
        self.processes[name] = started(*self.arguments, name, self.port)

    def finish(self, names, limit=120):
        """Exit codes of these processes once they have ended."""
        until, codes = time.monotonic() + limit, {}
        while set(codes) != set(names) and time.monotonic() < until:
            for name in set(names) - set(codes):
                code = ended(self.processes[name])
                codes |= {} if code is None else {name: code}
            time.sleep(0.05)
        for name in set(names) - set(codes):
            kill(self.processes[name])
            codes[name] = "hangs"
        return codes


def team(root, kills, trials, controller, workers, rng):
    """Kill chief and workers at random; true if every trial was counted once."""
    names = ["chief", *(f"worker-{number}" for number in range(workers))]
    root.mkdir()
    crew, done, of_chief = Team(root / "team", trials, 0.05, controller), 0, 0
    for name in names:
        crew.start(name)
    while done < kills:
        time.sleep(rng.uniform(0.0, 1.2))
        name = rng.choice(names)
        if ended(crew.processes[name]) is not None:
            sys.exit(f"{name} had finished after {done} kills: more trials are needed")
        kill(crew.processes[name])
        done, of_chief = done + 1, of_chief + (name == "chief")
        crew.start(name)
    codes = crew.finish(names)
    lost, twice = faults_of(crew.folder, trials)
    failed = sum("no worker has answered" in (line["reason"] or "") for line in lines(crew.folder))
    print(
        f"team of {workers}, {controller}: {done} kills, {of_chief} of them of the chief; "
        f"exit codes {sorted(map(str, codes.values()))}, "
        f"{lost} lost, {twice} twice, {failed} given up, of {trials} trials",
        flush=True,
    )
    return not (lost or twice or failed) and set(codes.values()) == {0}


def two_die_one_is_late(root, trials):
    """Four workers, of which two are killed for good; a fifth comes later. True if every trial was done."""
    crew = Team(root / "late", trials, 0.1)
    for name in ("chief", "worker-0", "worker-1", "worker-2", "worker-3"):
        crew.start(name)
    while len(lines(crew.folder)) < trials // 4:
        time.sleep(0.05)
    kill(crew.processes["worker-0"])
    kill(crew.processes["worker-1"])
    time.sleep(1)
    crew.start("worker-late")
    codes = crew.finish(["chief", "worker-2", "worker-3", "worker-late"])
    lost, twice = faults_of(crew.folder, trials)
    shares = {}
    for line in lines(crew.folder):
        shares[line["worker"]] = shares.get(line["worker"], 0) + 1
    print(
        f"two die, one is late: exit codes {codes}, {lost} lost, {twice} twice, trials by worker {shares}", flush=True
    )
    return not (lost or twice) and set(codes.values()) == {0} and "worker-late" in shares


def main():
    """Run the chosen faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alone", "team"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, help="default: so many that the kills hit work")
    parser.add_argument("--controllers", nargs="*", help="default: all of them alone, and evolution for a team")
    parser.add_argument("--workers", type=int, default=4, help="of a team")
    parser.add_argument("--seed", type=int, default=0, help="of the times between kills")
    options = parser.parse_args()
    rng, good = random.Random(options.seed), True
    # What forked processes need is imported once, here.
    from nasnet_keras.data.loading import load_data
    from nasnet_keras.search import tuner
    from nasnet_keras.search.distributed import chief, worker

    assert chief and tuner and worker
    load_data("digits", limit=50)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "alone":
            for controller in options.controllers or CONTROLLERS:
                root = Path(folder) / controller
                root.mkdir()
                good &= alone(root, options.kills, options.trials or 20 * options.kills, controller, rng)
        else:
            if not options.controllers:
                good &= two_die_one_is_late(Path(folder), 120)
            for controller in options.controllers or ("evolution",):
                trials = options.trials or 10 * options.workers * options.kills
                good &= team(Path(folder) / controller, options.kills, trials, controller, options.workers, rng)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
