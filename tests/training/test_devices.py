"""Several devices: two of a CPU on TensorFlow and on JAX, and two JAX processes that train as one.

Devices have to be there before a framework starts, so functions of `on_devices.py` run in processes of their own.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nasnet_keras import cli
from nasnet_keras.training.recipes import check_devices

BACKENDS = ("tensorflow", pytest.param("jax", marks=pytest.mark.long))
SCRIPT = Path(__file__).with_name("on_devices.py")


def environment(backend, devices=2):
    """The environment of a process with so many devices of the CPU."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    paths = os.pathsep.join([str(SCRIPT.parent), *filter(None, sys.path)])
    flags = f"--xla_force_host_platform_device_count={devices}"
    own = {"KERAS_BACKEND": backend, "PYTHONPATH": paths, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return {**os.environ, **own, "TF_CPP_MIN_LOG_LEVEL": "3"}


def start(words, backend, devices=2):
    """A process of these words."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], env=environment(backend, devices), **streams)


def ended(processes, seconds=900):
    """(Exit code, stdout, stderr) of processes that run side by side."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """TensorFlow, and for the longer selection JAX, on which XLA compiles for minutes."""
    return request.param


class Found(dict):
    """{function of `on_devices.py`: {what it found: array}}; each is run when it is first asked for."""

    def __init__(self, backend, folder):
        super().__init__()
        self.backend, self.folder = backend, folder

    def __missing__(self, name):
        output = self.folder / f"{name}.npz"
        ((code, _, said),) = ended([start([str(SCRIPT), name, str(output)], self.backend)])
        assert code == 0, said[-3000:]
        with np.load(output) as stored:
            self[name] = {key.removeprefix(f"{name}: "): value for key, value in stored.items()}
        return self[name]


@pytest.fixture(scope="module")
def found(backend, tmp_path_factory):
    return Found(backend, tmp_path_factory.mktemp(backend))


def test_a_step_on_two_devices_is_that_of_one(found):
    assert found["steps"]["moved"] > 1e-4
    assert found["steps"]["apart"] < 1e-5


@pytest.mark.long
def test_moving_statistics_are_the_mean_of_those_of_each_device(found, backend):
    if backend == "jax":
        pytest.skip("batch norms learn from the whole batch there")
    assert found["statistics"]["differ"] > 1e-3
    assert found["statistics"]["apart"] < 1e-6


@pytest.mark.long
def test_copies_stay_equal_and_are_evaluated_as_one_device_does(found, backend):
    results = found["copies"]
    np.testing.assert_array_equal(results["apart"], np.zeros(4))
    np.testing.assert_array_equal(*results["steps"])
    np.testing.assert_array_equal(*results["accuracy"])
    np.testing.assert_allclose(*results["loss"], rtol=1e-5)
    if backend == "tensorflow":  # each has seen other images, until the epoch ends, and drops other paths
        assert results["statistics"] > 1e-4
        assert len({tuple(row) for row in results["draws"]}) == 2


@pytest.mark.long
def test_a_validation_that_devices_do_not_divide_is_that_of_one_device(found):
    np.testing.assert_array_equal(*found["watched"]["accuracy"].astype("float32"))
    np.testing.assert_allclose(*found["watched"]["loss"], rtol=1e-5)


@pytest.mark.long
def test_going_on_after_a_kill_and_on_another_number_of_devices(found):
    results = found["going_on"]
    assert results["killed apart"] == 0
    assert 0 < results["changed apart"] < 0.5
    for name in ("whole", "killed", "changed"):
        np.testing.assert_array_equal(results[f"{name} epochs"], [1, 2, 3])


@pytest.mark.long
def test_going_on_within_an_epoch_with_averages(found):
    results = found["within"]
    assert results["inside"] == 2
    assert results["apart"] == 0
    np.testing.assert_allclose(results["whole"], results["killed"], rtol=1e-6)


@pytest.mark.long
def test_the_validation_of_averages_is_that_of_the_model_in_the_end(found):
    np.testing.assert_array_equal(*found["within"]["accuracy"].astype("float32"))
    np.testing.assert_allclose(*found["within"]["loss"], rtol=1e-5)


@pytest.mark.long
def test_frozen_cells_stand_still_on_all_devices(found):
    assert found["tuned"]["cells"] == 0 < found["tuned"]["head"]
    assert found["tuned"]["saved"]
    standing, spread, every = found["tuned"]["learning"]
    assert standing == spread < every


def test_what_is_refused(found, backend):
    said = {name: str(text) for name, text in found["refused"].items()}
    assert said["too many"] == "`devices` must be at most 2, as many as there are. Received: 3"
    assert said["undivided"] == "`batch_size` must be a multiple of the 2 `devices`. Received: 15"
    assert said["half a number"] == "`devices` must be None, 'all' or an integer from 1. Received: 1.5"
    assert said["changed"].startswith("`model` must be one that can be made again on `devices`. Received: cell_0.call")
    if backend == "tensorflow":
        rule = "`model` must be built, and given, outside of a scope of several devices: `devices` spreads it."
        assert said["spread"] == f"{rule} Received: 'nasnet' on 2 devices"
        assert "mixed_bfloat16" in said["half precision"]
        rule = "`gradient_accumulation` must be 1 on several devices with TensorFlow."
        assert said["accumulated"] == f"{rule} Received: 2"
        assert said["hosts"].startswith("`hosts` must be left out unless KERAS_BACKEND=jax")


@pytest.mark.parametrize("value", [None, "all", 1, 4])
def test_devices_that_divide_a_batch(value):
    check_devices(value, 32)


def test_few_images_are_one_batch_that_devices_divide():
    """Nobody has given their number as a batch size."""
    check_devices(3, 32, 21)
    rule = "`batch_size` must be a multiple of the 2 `devices` up to 21, the number of images for training"
    with pytest.raises(ValueError, match=rule + ". Received: 32"):
        check_devices(2, 32, 21)
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of the 2 `devices`. Received: 21"):
        check_devices(2, 21, 21)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--devices", "0"], "must be a number from 1, or all"),
        (["--devices", "few"], "must be a number from 1, or all"),
        (["--devices", "3"], "`batch_size` must be a multiple of the 3 `devices`. Received: 32"),
        (["--hosts", "here"], "must be auto or ADDRESS:PORT,COUNT,NUMBER"),
        (["--hosts", "a:1,2,2"], "must number the 2 processes from 0"),
        (["--hosts", "a:1,2,1"], "`hosts` must be left out unless KERAS_BACKEND=jax"),
    ],
)
def test_the_command_line_refuses(options, says, tmp_path, capsys):
    try:
        code = cli.main(["train", "--genotype", "tiny", "--directory", str(tmp_path / "new"), *options])
    except SystemExit as ending:
        code = ending.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and says in lines[0]


def free_place():
    """An address of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def train(place, directory):
    """The command `train`, as one of several hosts, with a network of few operations."""
    block = {"inputs": [1, 0], "operations": ["max_pool_3x3", "max_pool_3x3"], "combine": "add"}
    cell = {"blocks": [block], "concat": [2]}
    genotype = {"format": "nasnet-genotype/1", "name": "pools", "source": "", "normal": cell, "reduction": cell}
    file = directory.with_name("pools.json")
    file.write_text(json.dumps(genotype))
    words = ["train", "--genotype", str(file), "--repeats", "1", "--filters", "4", "--epochs", "1", "--limit", "90"]
    words += ["--json", "--directory", str(directory), "--hosts", place]
    return start(["-m", "nasnet_keras.cli", *words], "jax", 1)


@pytest.mark.long
def test_two_processes_are_one_training(tmp_path):
    """Each has half of the rows: they end with equal weights, which are those of two devices of one process."""
    place, outputs = free_place(), [tmp_path / f"{number}.npz" for number in range(2)]
    words = [[str(SCRIPT), "as_host", str(output), place, str(number)] for number, output in enumerate(outputs)]
    results = ended([start(one, "jax", 1) for one in words])
    assert [code for code, *_ in results] == [0, 0], results
    one, two = (dict(np.load(output)) for output in outputs)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(*one["as_host: accuracy"])
    assert len(list((tmp_path / "net").glob("state-*.weights.h5"))) == 1


@pytest.mark.long
def test_two_processes_leave_one_model_and_end_together(tmp_path):
    place = free_place()
    results = ended([train(f"{place},2,{number}", tmp_path / "net") for number in range(2)])
    assert [code for code, *_ in results] == [0, 0], results
    assert [out.count("test accuracy") for _, out, _ in results] == [1, 0]
    assert (tmp_path / "net" / "model.keras").is_file()


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1])
def test_a_host_that_never_comes(number, tmp_path):
    begin = time.monotonic()
    ended([start(["-c", "import nasnet_keras.training.devices"], "jax")])
    ready = time.monotonic()
    ((code, _, said),) = ended([train(f"{free_place()},2,{number}", tmp_path / "net")], 300)
    assert time.monotonic() - ready < 55 + 2 * (ready - begin)  # on a quiet machine within a minute
    assert code == 2 and len(said.strip().splitlines()) == 1, said
    assert said.startswith("nasnet-keras: `hosts` must all be there within 45 s.")
