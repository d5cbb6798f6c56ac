"""Workers on this machine: from the command line, their shares, their ends, what they lose."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import keras_tuner
import pytest

from nasnet_keras.children.settings import child_seed
from nasnet_keras.search.distributed import pool, processes
from nasnet_keras.search.distributed.processes import Machine, environment_of_child, share_of_machine, visible_gpus
from nasnet_keras.search.oracle import NASNetOracle
from nasnet_keras.search.rules import MedianStop, Replay
from nasnet_keras.search.running import Children, Here, run_trials
from nasnet_keras.search.space import SearchSpace

SPACE, RULES = SearchSpace(blocks=1), (Replay(), MedianStop(trials=100))


def test_a_search_with_two_workers(tmp_path):
    words = ["search", "--limit", "60", "--max-trials", "5", "--blocks", "1", "--repeats", "1", "--filters", "2"]
    words += ["--workers", "2", "--no-final", "--json", "--directory", str(tmp_path / "s")]
    done = subprocess.run([sys.executable, "-m", "nasnet_keras.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["trials"] == 5
    lines = [json.loads(line) for line in (tmp_path / "s" / "trials.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(5))
    assert all(line["worker"].startswith(("worker-0", "worker-1")) for line in lines)
    assert "INFO worker-0 is there" in (tmp_path / "s" / "chief.log").read_text()
    assert (tmp_path / "s" / "report.html").exists() and (tmp_path / "s" / "best_genotype.json").exists()


def test_what_is_there_before_a_worker_s_threads_are_set_loads_no_numpy():
    """OpenBLAS reads the variables of `environment_of_child` when it is loaded, and never again."""
    code = f"import sys, {pool.__name__}, {processes.__name__}; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


class Quick:
    """A child whose reward is its seed, and which tells what its process was told; one takes its process with it."""

    def __init__(self, folder, seconds=0, fatal=None):
        self.folder, self.seconds, self.fatal = str(folder), seconds, fatal

    def evaluate(self, genotype, data, seed, on_epoch):
        for epoch in (1, 2):
            if on_epoch(epoch, seed / 2**32):
                break
        begun = len(os.listdir(self.folder))
        open(os.path.join(self.folder, f"{begun}-{seed}-{os.getpid()}"), "w").close()
        if begun == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        print("said by a child", flush=True)
        time.sleep(self.seconds)
        share = float(os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])
        gpu, grows = os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]
        return {"reward": seed / 2**32, "share": share, "gpu": float(gpu), "grows": float(grows == "true")}


class Parallel(Quick):
    """A child with a process of its own, as of a loader of data, which outlives it and holds what it has inherited."""

    def evaluate(self, genotype, data, seed, on_epoch):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
        process.start()
        open(os.path.join(self.folder, f"0-{seed}-{process.pid}"), "w").close()
        return super().evaluate(genotype, data, seed, on_epoch)


class Unknown:
    """Nothing that can be had in another process."""

    def __reduce__(self):
        return _import, ()


def _import():
    raise ImportError("no module of that name here")


def oracle_in(folder, trials):
    oracle = NASNetOracle(trials, space=SPACE, strategy="evolution", seed=3, rules=RULES)
    oracle._set_project_dir(str(folder), ".")
    return oracle


def search_in(folder, child, trials=8, on_look=lambda state: None, workers=1):
    oracle = oracle_in(folder / "s", trials)
    with Machine(workers, folder / "logs").place(Children(child, SPACE, RULES, 3), [1, 2, 3]) as place:
        run_trials(oracle, place, on_look=on_look)
    oracle.close()


def lines(folder, keys):
    text = (folder / "trials.jsonl").read_text().splitlines()
    return [[json.loads(line)[key] for key in keys] for line in text]


@pytest.fixture
def marks(tmp_path, monkeypatch):
    """A folder for what children leave; their processes find this module, and have a GPU by name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for name in processes.share_of_gpu(1):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def pids_of(marks):
    return [int(name.split("-")[2]) for name in os.listdir(marks)]


def are_gone(pids):
    places = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return not any(place.exists() and place.read_bytes() for place in places)  # a zombie has no words


def test_a_process_that_is_killed_changes_nothing_in_the_trajectory(tmp_path, marks):
    seen = []
    search_in(tmp_path, Quick(marks, fatal=2), on_look=seen.append)
    alone = oracle_in(tmp_path / "alone", 8)

    def run(trial):
        alone.update_trial(trial.trial_id, {"reward": child_seed(3, trial.trial_id) / 2**32})
        trial.status = "COMPLETED"

    run_trials(alone, Here("here", run))
    keys = ("trial_id", "genotype", "reward", "status")
    assert lines(tmp_path / "s", keys) == lines(tmp_path / "alone", keys)
    assert seen[-1]["lost"] == 1 and seen[-1]["nodes"] == 1 and {state["workers"] for state in seen} == {0, 1}
    told = [metrics for (metrics,) in lines(tmp_path / "s", ("metrics",)) if metrics.get("share")]
    assert told and all(metrics == {"share": 0.9, "gpu": 0.0, "grows": 1.0} for metrics in told)
    assert len(set(pids_of(marks))) == 2 and are_gone(pids_of(marks))
    assert "said by a child" in (tmp_path / "logs/worker-0.log").read_text()


@pytest.mark.parametrize("fatal", [False, True])
def test_a_child_may_have_processes_of_its_own(fatal, tmp_path, marks):
    """And they end with the worker, also with one that is killed while they hold its pipe open."""
    begun = time.monotonic()
    search_in(tmp_path, Parallel(marks, fatal=3 if fatal else None), trials=2)
    assert [status for (status,) in lines(tmp_path / "s", ("status",))] == ["COMPLETED"] * 2
    assert time.monotonic() - begun < 60
    end = time.monotonic() + 10  # they are killed, and nobody waits for it
    while not are_gone(pids_of(marks)) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(set(pids_of(marks))) == (5 if fatal else 3) and are_gone(pids_of(marks))


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_that_cannot_work_end_the_search_with_their_last_words(workers, tmp_path, marks, monkeypatch):
    monkeypatch.setattr(pool, "STARTS", 2)
    words = r"no worker can be started: its process has ended with code 1; .*worker-[01].log ends in: ImportError: no"
    with pytest.raises(ConnectionError, match=words):
        search_in(tmp_path, Unknown(), workers=workers)


def test_what_cannot_travel_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`child`, `cost` and `data` must be of classes and functions that another"):
        search_in(tmp_path, lambda: None)


@pytest.mark.parametrize("earlier", [None, "words of an earlier run\n"])
def test_a_process_that_dies_before_it_can_write_is_lost_as_any_other(earlier, tmp_path):
    """As one that the system ends while it is being started."""
    machine = Machine(1, tmp_path)
    if earlier:
        (tmp_path / "worker-0.log").write_text(earlier)
    _, number = machine.start(1)
    machine._processes[number][0].kill()
    assert machine.ready([machine.ask(number, "about")], 60) == [number]
    with pytest.raises(pool.Gone, match="its process has ended with code -9; it has written nothing to .*worker-0.log"):
        machine.answer(number)
    machine.end(number)
    assert earlier is None or (tmp_path / "worker-0.log").read_text() == earlier


def test_a_process_that_is_started_hears_no_ctrl_c_and_says_nothing_here(tmp_path, capfd):
    machine = Machine(1, tmp_path)
    _, number = machine.start(1)
    os.kill(machine._processes[number][0].pid, signal.SIGINT)
    machine.ask(number, "about")
    assert machine.ready([number], 60) == [number] and json.loads(machine.answer(number))["host"]
    machine.end(number)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert capfd.readouterr() == ("", "")


def test_nobody_waits_until_a_process_takes_what_it_needs(tmp_path):
    machine = Machine(1, tmp_path)
    machine._parts = ForkingPickler.dumps((None, bytes(10 << 20)))  # more than a pipe holds
    _, number = machine.start(1)
    pid = machine._processes[number][0].pid
    os.kill(pid, signal.SIGSTOP)
    for verb in ("about", "load"):
        machine.ask(number, verb)
    os.kill(pid, signal.SIGCONT)
    for answer in ("host", "{}"):
        assert machine.ready([number], 60) == [number] and answer in machine.answer(number)
    machine.ask(number, "load")
    machine.end(number)  # while it is sent


UNGUARDED = """
import pathlib, sys
from nasnet_keras.search.distributed.processes import Machine
with Machine(2, pathlib.Path(sys.argv[1])).place(None, None) as place:
    while True:
        place.resize(2)
        place.events(1.0, None)
"""


def test_a_script_that_runs_its_search_again_in_each_worker_is_told_of_the_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    paths = os.pathsep.join([str(Path(processes.__file__).parents[3]), *sys.path[1:]])
    words, further = [sys.executable, script, tmp_path / "logs"], {"env": {**os.environ, "PYTHONPATH": paths}}
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, **further)
    told = done.stderr.splitlines()
    assert done.returncode == 1 and told.count("Traceback (most recent call last):") == 1
    assert told[-1] == f"ValueError: {processes.UNGUARDED}" and '`if __name__ == "__main__":`' in told[-1]


def test_an_interruption_ends_the_processes_at_once(tmp_path, marks):
    def interrupt(state):
        if os.listdir(marks):
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path, Quick(marks, 300), on_look=interrupt)
    assert time.monotonic() - start < 200 and are_gone(pids_of(marks))


@pytest.mark.long
def test_the_processes_end_with_the_one_that_started_them(tmp_path, marks):
    code = "import pathlib as p, sys, test_processes as t; t.search_in(p.Path(sys.argv[1]), t.Quick(sys.argv[2], 300))"
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(marks)])
    deadline = time.monotonic() + 120
    while not os.listdir(marks) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    while not are_gone(pids_of(marks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids_of(marks) and are_gone(pids_of(marks))


@pytest.fixture
def _nothing_exported(monkeypatch):
    for name in (*processes.THREADS, *processes.share_of_gpu(1)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_nothing_exported")
def test_what_a_user_has_exported_stays(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert share_of_machine(0, 3) == {"TF_NUM_INTEROP_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    assert share_of_machine(1, 2) == {"CUDA_VISIBLE_DEVICES": "5", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@pytest.mark.usefixtures("_nothing_exported")
def test_each_gets_its_share(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert set(share_of_machine(0, 3).values()) == {"4"}
    assert set(share_of_machine(0, 50).values()) == {"1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,-1,5")
    assert visible_gpus() == ["2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [share_of_machine(number, 3)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["2", "5", "2"]
    with pytest.raises(ValueError, match="`workers`"):
        Machine(0, None)
    with pytest.raises(ValueError, match="`workers` must be at most 48 on this machine, .* Received: 49"):
        Machine(49, None)


@pytest.mark.usefixtures("_nothing_exported")
def test_workers_on_one_gpu_share_its_memory(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    shares = [share_of_machine(number, 2) for number in range(2)]
    assert (
        shares[0]
        == shares[1]
        == {
            "CUDA_VISIBLE_DEVICES": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450",
        }
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    fractions = [share_of_machine(number, 3)["XLA_PYTHON_CLIENT_MEM_FRACTION"] for number in range(3)]
    assert fractions == ["0.450", "0.900", "0.450"]


def test_children_elsewhere_take_the_backend_of_the_search(monkeypatch):
    """Which a file of this machine may have named, and no variable."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert environment_of_child(1, 0, "jax")["KERAS_BACKEND"] == "jax"
    assert environment_of_child(1, 0)["KERAS_BACKEND"] == "torch"
    monkeypatch.delenv("KERAS_BACKEND")
    assert "KERAS_BACKEND" not in environment_of_child(1, 0)


def run_in_actor(run, data=None, times=1):
    """What an actor tells of its first trials, dicts."""
    actor = pool.Actor(lambda: (SimpleNamespace(run=run), data))
    actor.load()
    return [json.loads(actor.begin(f"{number:05}", {})) for number in range(times)]


def test_an_error_that_ends_a_search_travels_as_such():
    def run(trial_id, values, data, report):
        raise keras_tuner.errors.FatalValueError("no such machine")

    assert run_in_actor(run) == [{"fatal": "no such machine", "kind": "FatalValueError", "broken": {}}]


def test_files_that_have_turned_out_to_be_broken_are_told_once():
    found = [{"a.png": "it is empty"}, {"a.png": "it is empty", "b.png": "truncated"}, {"b.png": "truncated"}]
    data = SimpleNamespace(found_broken=lambda: found.pop(0))
    told = run_in_actor(lambda trial_id, values, data, report: {"reward": 0.5}, data, 3)
    assert [event["broken"] for event in told] == [{"a.png": "it is empty"}, {"b.png": "truncated"}, {}]
    assert all(event["metrics"] == {"reward": 0.5} and event["status"] == "COMPLETED" for event in told)


def test_workers_are_asked_for_as_many_trials_as_there_will_be():
    asked, ended = [], iter([False, True])
    oracle = SimpleNamespace(is_done=lambda: next(ended), trials_to_train=lambda: 4, open_trials=lambda: [])
    place = SimpleNamespace(
        resize=asked.append, free=lambda: None, state=lambda: None, events=lambda seconds, report: []
    )
    run_trials(oracle, place)
    assert asked == [4]
