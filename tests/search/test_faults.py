"""The short form of `benchmarks/faults.py`: kill -9 at any instant loses and doubles nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["alone", "--kills", "6", "--controllers", "rl", "--trials", "60"], "trajectory identical over 60 trials"),
        pytest.param(["team", "--kills", "3", "--trials", "400"], "team: 3 kills", marks=pytest.mark.long),
    ],
)
def test_kills(words, seen):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert seen in done.stdout and done.stdout.count("0 lost, 0 twice") == len(done.stdout.splitlines())
