"""Every kind of file is the same image wherever it is read: the short form of `pixels.py`."""

import pixels
import pytest
from checks import randomize
from pixels import KINDS, RANGE, Network, compared, drawn, faults

from nasnet_keras.models.network import NASNet


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A network without and with a range of deep greys."""
    found = {}
    for grey_range in (None, RANGE):
        model = NASNet("tiny", repeats=1, filters=4, stem="cifar", classes=3, grey_range=grey_range)
        randomize(model)
        found[grey_range] = Network(model, tmp_path_factory.mktemp("pixels"))
    return found


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    """Large enough to be reduced while it is decoded."""
    monkeypatch.setattr(pixels, "LARGE", (400, 300))


def test_every_way_sees_the_same_in_every_kind(networks):
    """One test, since a graph is optimised anew in each."""
    photographs, wrong = drawn(3), {}
    for name, kind in KINDS.items():
        table = compared(kind, networks[kind.grey_range], photographs)
        exact = table["training"][0] == table["evaluate"][0] == table["predict"][0] == 0
        close = table["serve"][0] < 0.05  # the same, but for halves that are rounded
        if list(faults(kind, table)) or not (exact and close) or (table["graph"] is not None) != kind.in_graph:
            wrong[name] = table
    assert not wrong


@pytest.mark.parametrize("row", [(2.0, 0.0, 3, 0), (0.1, -0.2, 3, 0), (0.1, 0.0, 9, 0), (0.1, 0.0, 3, 1)])
def test_a_difference_is_a_fault(row):
    right = (0.1, 0.05, 1, 0)
    assert list(faults(KINDS["PNG"], {"serve": right, "graph": right})) == []
    assert list(faults(KINDS["PNG"], {"serve": right, "graph": row})) == ["graph"]
    assert list(faults(KINDS["PNG"], {"serve": row, "graph": None})) == ["serve", "graph"]
    assert list(faults(KINDS["TIFF"], {"serve": row, "graph": None})) == ["serve"]
