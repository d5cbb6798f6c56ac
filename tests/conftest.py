"""What every test may use. Frameworks are not imported here: a test of the genotype starts in a blink."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from nasnet_keras.data import findings

SEED = 20180407
REFERENCE = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure():
    """Ctrl-C interrupts, also where a shell started the tests in the background and so had it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _findings(tmp_path_factory):
    """Nothing is kept in the home directory of who runs the tests."""
    findings.PLACE = str(tmp_path_factory.mktemp("findings"))


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state, whatever ran before it."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(SEED)


@pytest.fixture
def rng():
    """A NumPy generator that gives every test the same numbers."""
    return np.random.default_rng(SEED)


def _reference(folder):
    path = REFERENCE / folder
    if not path.is_dir():
        pytest.skip(f"needs the reference data ../shared/{folder}, which are not part of the repository")
    return path


@pytest.fixture
def golden():
    """The folder of network outputs computed by the TF-slim code; skips where it is absent."""
    return _reference("golden")


@pytest.fixture
def shared_data():
    """The folder of packed image data sets; skips where it is absent."""
    return _reference("data")
