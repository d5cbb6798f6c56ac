"""Children in processes of this machine, and what of a machine a child's process gets."""

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.reduction import ForkingPickler

from nasnet_keras.checks import as_integer, check_integer
from nasnet_keras.search.distributed.pool import Actor, Gone, Pool

THREADS = ("TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MOST = 4  # processes for each processor: more only wait, and each holds a framework in memory
USABLE = 0.9  # of a GPU's memory; the rest is for what its libraries take beside the children's arrays
UNGUARDED = (
    '`workers` must be used below `if __name__ == "__main__":` in a script, as every worker imports the script. '
    "Received: a call outside of that"
)


class Machine:
    """This machine as a `pool.Pool` sees it: a number of processes with a share of it each.

    A process has a number, the lowest that is free. Of each there is one answer at a time.

    Args:
        workers: how many.
        logs: `Path` of the folder where each writes a log.

    Raises:
        ValueError: `workers` is no integer above 0, or more than this machine can do anything with; or this process is
            one of them, which still imports the script that was started.
    """

    dashboard = None

    def __init__(self, workers, logs):
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ValueError(UNGUARDED)
        workers = as_integer(workers)
        check_integer("workers", workers, least=1)
        if workers > (most := MOST * len(os.sched_getaffinity(0))):
            rule = f"at most {most} on this machine, {MOST} for each processor; Ray takes more machines"
            raise ValueError(f"`workers` must be {rule}. Received: {workers}")
        self.workers, self.logs, self._processes = workers, logs, {}  # number: (process, pipe, where its words begin)

    @contextmanager
    def place(self, children, data):
        """A `pool.Pool` for a search; ValueError for what cannot be sent to another process.

        Args:
            children: a `running.Children`.
            data: a `Data`.
        """
        try:
            self._parts = ForkingPickler.dumps((children, data))
        except Exception as error:
            rule = "of classes and functions that another process can import, where there are `workers`"
            raise ValueError(f"`child`, `cost` and `data` must be {rule}. Received: {error}") from None
        self.logs.mkdir(parents=True, exist_ok=True)
        atexit.register(self._end_all)  # Python by itself would wait for them
        try:
            with Pool(self, data=data) as pool:  # `room` says how many
                yield pool
        finally:
            if not self._processes:  # else a second Ctrl-C has come while they were ended
                atexit.unregister(self._end_all)

    def start(self, _):
        """The name of a new worker, and the number of its process."""
        number = min(set(range(self.workers)) - set(self._processes))
        (here, there), log = multiprocessing.Pipe(), self._log(number)
        parts = there, share_of_machine(number, self.workers)
        begin = log.stat().st_size if log.exists() else 0
        # No daemon, or a child could have no processes of its own, such as those of a loader of data.
        process = multiprocessing.get_context("spawn").Process(target=_work, args=parts)
        with _apart(log):
            process.start()
        there.close()
        self._processes[number] = process, here, begin
        return f"worker-{number}", number

    def ask(self, number, verb, *words):
        """A future of what a worker answers: its number."""
        pipe = self._processes[number][1]
        with suppress(OSError):  # of one that has died already; that is seen when it should answer
            pipe.send((verb, words))
        if verb == "load":  # which may take long; nothing else is sent before the answer
            threading.Thread(target=self._send_parts, args=(pipe,), daemon=True).start()
        return number

    def _send_parts(self, pipe):
        with suppress(OSError, TypeError):  # of one that has died, or whose pipe is closed meanwhile
            pipe.send_bytes(self._parts)

    def ready(self, numbers, seconds):
        """The workers that have answered or died, after at most so many seconds."""
        pipes = {self._processes[number][1]: number for number in numbers}
        found = [pipes[one] for one in connection.wait(pipes, seconds)]
        # A process that a child has forked keeps the pipe of a dead one open.
        dead = [number for number in numbers if number not in found and not self._is_alive(number)]
        for number in dead:
            self._kill(number)
        return found + dead

    def _is_alive(self, number):
        return self._processes[number][0].exitcode is None

    def _kill(self, number):
        """Kill a worker and whatever processes its children have begun."""
        process = self._processes[number][0]
        with suppress(ProcessLookupError, PermissionError):  # it has not come to have a group, or nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()

    def answer(self, number):
        """A worker's answer; raises `pool.Gone` of one that has died."""
        process, pipe, begin = self._processes[number]
        try:
            return pipe.recv()
        except (EOFError, OSError):
            process.join(10)
            words = self._last_words(number, begin)
            if UNGUARDED in words:  # as it would be with the next
                raise ValueError(UNGUARDED) from None
            raise Gone(f"its process has ended with code {process.exitcode}; {words}") from None

    def _last_words(self, number, begin):
        """What a process has written last, one line; it may have died before it could, and the log be an earlier's."""
        log, said = self._log(number), b""
        with suppress(OSError), log.open("rb") as file:
            file.seek(begin)
            said = file.read()
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        return f"{log} ends in: {lines[-1][:300]}" if lines else f"it has written nothing to {log}"

    def end(self, number):
        """End a worker."""
        self._kill(number)
        process, pipe, _ = self._processes.pop(number)
        process.join()
        pipe.close()

    def _end_all(self):
        for number in [*self._processes]:
            self.end(number)

    def room(self):
        """{node: how many processes it has room for} of the one node, which has no name."""
        return {"": self.workers}

    def lack(self):
        """Why there may be no worker."""
        return f"the processes are being started; their words are in {self.logs}"

    def _log(self, number):
        return self.logs / f"worker-{number}.log"


@contextmanager
def _apart(log):
    """A process that is started inside writes to a file from its first word on, and hears no Ctrl-C."""
    resource_tracker.ensure_running()  # for it that is not meant; and it would let Ctrl-C through
    streams = [(stream, os.dup(stream)) for stream in (1, 2)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with open(log, "ab") as file:
            for stream, _ in streams:
                os.dup2(file.fileno(), stream)
        yield
    finally:
        for stream, kept in streams:
            os.dup2(kept, stream)
            os.close(kept)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(pipe, environment):
    """What the process of a worker does until it is ended, or has lost its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    os.setpgrp()  # which ends with it, whatever processes its children begin
    threading.Thread(target=_end_with_parent, daemon=True).start()
    take_environment(environment)
    actor = Actor(lambda: ForkingPickler.loads(pipe.recv_bytes()))
    while True:
        verb, words = pipe.recv()
        pipe.send(getattr(actor, verb)(*words))


def _end_with_parent():
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)


def share_of_machine(number, count):
    """The environment of one of some processes that train side by side, a dict.

    Where there are GPUs each process gets one, in turn, and its share of that one's memory, see `share_of_gpu`. On CPUs
    each gets its share of threads, for operations that run side by side: one operation of a child has one thread in any
    case. What of all that is set in this process's environment stays as it is there.

    Args:
        number: of the process, from 0.
        count: how many there are.
    """
    gpus = visible_gpus()
    if gpus:
        place, here = number % len(gpus), len(range(number % len(gpus), count, len(gpus)))
        share = {"CUDA_VISIBLE_DEVICES": gpus[place], **share_of_gpu(1 / here)}
    else:
        share = dict.fromkeys(THREADS, str(max(1, len(os.sched_getaffinity(0)) // count)))
    return {name: value for name, value in share.items() if name == "CUDA_VISIBLE_DEVICES" or name not in os.environ}


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
        names = chosen.split(",")
        return [name for name in names[: names.index("-1") if "-1" in names else None] if name]  # CUDA stops there
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def environment_of_child(cpus, gpus, backend=None):
    """What a process on another machine is told beside its work, a dict: the backend, its threads and memory.

    Args:
        cpus, gpus: what of them is its own.
        backend: Keras', which a file of this machine may have named; None for KERAS_BACKEND.
    """
    kept = {name: os.environ[name] for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL") if name in os.environ}
    kept |= {"KERAS_BACKEND": backend} if backend else {}
    return {**kept, **dict.fromkeys(THREADS, str(max(1, int(cpus)))), **(share_of_gpu(min(1, gpus)) if gpus else {})}


def take_environment(environment):
    """Set this process's environment variables."""
    os.environ.update(environment)


def known_cluster():
    """The address of the Ray cluster that RAY_ADDRESS names; else `"local"`, which is a new one on this machine.

    Ray by itself would take any that happens to run here.
    """
    return os.environ.get("RAY_ADDRESS") or "local"
