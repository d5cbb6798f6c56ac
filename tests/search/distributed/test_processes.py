"""Workers on this machine: from the command line, their shares, their ends."""

import json
import subprocess
import sys
import time

import pytest

from nasnet_keras.search.distributed import processes as launch
from nasnet_keras.search.distributed.processes import NoWorkers, Workers, visible_gpus


def test_a_search_with_two_workers(tmp_path):
    words = ["search", "--limit", "60", "--max-trials", "5", "--blocks", "1", "--repeats", "1", "--filters", "2"]
    words += ["--workers", "2", "--no-final", "--json", "--directory", str(tmp_path / "s")]
    done = subprocess.run([sys.executable, "-m", "nasnet_keras.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["trials"] == 5
    lines = [json.loads(line) for line in (tmp_path / "s" / "trials.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(5))
    assert {line["worker"] for line in lines} <= {"worker-0", "worker-1"}
    assert "INFO worker worker-" in (tmp_path / "s" / "chief.log").read_text()
    assert (tmp_path / "s" / "report.html").exists() and (tmp_path / "s" / "best_genotype.json").exists()


def instead(monkeypatch, command):
    """Let each worker be this shell command."""

    def start(self, number):
        with open(self.folder / f"worker-{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stderr=log)

    monkeypatch.setattr(Workers, "_start", start)


def look_after(workers, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        workers.look_after()
        time.sleep(0.01)


def test_workers_that_cannot_work_end_the_chief(tmp_path, monkeypatch):
    instead(monkeypatch, "/bin/ls --nonsense")  # code 2: bad input, of no use again
    with Workers(2, [], tmp_path / "logs") as workers:
        workers.start(9)
        with pytest.raises(NoWorkers, match="all workers have ended.*--nonsense"):
            look_after(workers)
        assert set(workers._restarts.values()) == {0}


def test_a_worker_that_dies_is_started_again_but_not_for_ever(tmp_path, monkeypatch, caplog):
    instead(monkeypatch, "/bin/false")
    with Workers(2, [], tmp_path / "logs") as workers:
        workers.start(9)
        with pytest.raises(NoWorkers):
            look_after(workers)
        assert set(workers._restarts.values()) == {launch.RESTARTS}
    assert "worker-1 has ended with code 1 and is started again" in caplog.text


def test_workers_are_stopped_with_their_chief(tmp_path, monkeypatch):
    instead(monkeypatch, "/bin/sleep 100")
    with pytest.raises(KeyboardInterrupt), Workers(3, [], tmp_path) as workers:
        workers.start(9)
        workers.look_after()
        raise KeyboardInterrupt
    assert [process.poll() for process in workers.processes.values()] == [-15] * 3


def test_each_gets_its_share(tmp_path, monkeypatch):
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert set(Workers(3, [], tmp_path)._share(0).values()) == {"4"}
    assert set(Workers(50, [], tmp_path)._share(0).values()) == {"1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    shares = [Workers(3, [], tmp_path)._share(number)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert shares == ["2", "5", "2"]
    with pytest.raises(ValueError, match="`workers`"):
        Workers(0, [], tmp_path)


def test_workers_on_one_gpu_share_its_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    shares = [Workers(2, [], tmp_path)._share(number) for number in range(2)]
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
    fractions = [Workers(3, [], tmp_path)._share(number)["XLA_PYTHON_CLIENT_MEM_FRACTION"] for number in range(3)]
    assert fractions == ["0.450", "0.900", "0.450"]


def test_the_environment_of_a_started_worker_says_so(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nenv\n")
    script.chmod(0o755)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(launch.sys, "executable", str(script))
    with Workers(2, [], tmp_path / "logs") as workers:
        workers.start(9)
        assert [process.wait(30) for process in workers.processes.values()] == [0, 0]
    for number in range(2):
        said = (tmp_path / "logs" / f"worker-{number}.log").read_text().splitlines()
        assert {"CUDA_VISIBLE_DEVICES=0", "TF_FORCE_GPU_ALLOW_GROWTH=true"} <= set(said)
        assert {"XLA_PYTHON_CLIENT_PREALLOCATE=false", "XLA_PYTHON_CLIENT_MEM_FRACTION=0.450"} <= set(said)


def test_a_process_follows_its_parent():
    code = (
        "import os, time\n"
        "from nasnet_keras.search.distributed.processes import follow\n"
        "try:\n"
        "    follow(os.getppid() + 1)\n"  # as if that had been the parent, which is gone
        "    time.sleep(60)\n"
        "except KeyboardInterrupt: print('gone too')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "gone too\n"
