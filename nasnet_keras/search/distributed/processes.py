"""The worker processes of a search on this machine: their start, their restarts, and their end with the chief."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from nasnet_keras.checks import check_integer

logger = logging.getLogger(__name__)

RESTARTS = 10  # of one worker; a trial that kills workers is given up long before
THREADS = ("TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
USABLE = 0.9  # of a GPU's memory; the rest is for what its libraries take beside the children's arrays


class NoWorkers(ConnectionError):
    """All workers have ended, and starting them again is of no use."""


class Workers:
    """A number of worker processes with a share of this machine each; a context manager that stops them.

    Where there are GPUs each worker gets one, in turn, and its share of that one's memory, see `share_of_gpu`. On CPUs
    each gets its share of threads, for operations that run side by side: one operation of a child has one thread in any
    case.

    Args:
        count: how many.
        words: the words of the command `search` that they take part in.
        folder: where each writes its log.

    Raises:
        ValueError: `count` is no integer above 0.
    """

    def __init__(self, count, words, folder):
        check_integer("workers", count, least=1)
        self.count, self.words, self.folder = count, list(words), folder
        self.processes, self._restarts, self._port = {}, dict.fromkeys(range(count), 0), None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, port):
        """Start all of them for a chief at this port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port = port
        for number in range(self.count):
            self._start(number)

    def look_after(self):
        """Start those again that have died; raises `NoWorkers` if none is left and that is of no use."""
        ended = {number: process.poll() for number, process in self.processes.items()}
        hopeless = {number for number, code in ended.items() if code in (0, 2) or self._restarts[number] >= RESTARTS}
        for number in (number for number, code in ended.items() if code is not None and number not in hopeless):
            self._restarts[number] += 1
            logger.warning("worker-%d has ended with code %d and is started again", number, ended[number])
            self._start(number)
        if all(code is not None and number in hopeless for number, code in ended.items()):
            raise NoWorkers(
                f"all workers have ended. The last lines of {self.folder}/worker-0.log: {self._last_words()}"
            )

    def _start(self, number):
        address = ["--address", f"127.0.0.1:{self._port}", "--name", f"worker-{number}", "--parent", str(os.getpid())]
        part = [*self.words, "--workers", "0", "--role", "worker", *address]
        command = [sys.executable, "-m", "nasnet_keras.cli", *part]
        with open(self.folder / f"worker-{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self._share(number)}
            )

    def _share(self, number):
        gpus = visible_gpus()
        if gpus:
            place, here = number % len(gpus), len(range(number % len(gpus), self.count, len(gpus)))
            return {"CUDA_VISIBLE_DEVICES": gpus[place], **share_of_gpu(1 / here)}
        threads = str(max(1, len(os.sched_getaffinity(0)) // self.count))
        return dict.fromkeys(THREADS, threads)

    def _last_words(self):
        lines = (self.folder / "worker-0.log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-2:]) or "none"


def share_of_gpu(share):
    """The environment of a process that has a GPU for itself or together with others, a dict.

    TensorFlow takes memory as it needs it. JAX does, too, up to its share; both would take all or most of it at once
    otherwise, and the second process none.

    Args:
        share: of the GPU that is this process's, above 0, at most 1.
    """
    return {
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{USABLE * share:.3f}",
    }


def visible_gpus():
    """Names of the GPUs that a process started from here may use, as CUDA knows them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def follow(parent):
    """Interrupt this process when the one with the id `parent`, which started it, has died."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def environment_of_child(cpus, gpus):
    """What a process on another machine is told beside its work, a dict: the backend, its threads and memory.

    Args:
        cpus, gpus: what of them is its own.
    """
    kept = {name: os.environ[name] for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL") if name in os.environ}
    return {**kept, **dict.fromkeys(THREADS, str(max(1, int(cpus)))), **(share_of_gpu(min(1, gpus)) if gpus else {})}


def take_environment(environment):
    """Set this process's environment variables."""
    os.environ.update(environment)


def known_cluster():
    """The address of the Ray cluster that RAY_ADDRESS names; else `"local"`, which is a new one on this machine.

    Ray by itself would take any that happens to run here.
    """
    return os.environ.get("RAY_ADDRESS") or "local"
