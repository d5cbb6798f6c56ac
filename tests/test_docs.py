"""What the documentation shows runs: the pages' Python snippets, and the examples in docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import nasnet_keras

ROOT = Path(__file__).parents[1]
PAGES = ("docs/keras.md",)  # whose snippets stand for themselves
NOT_RUN = "<!-- not run"
SNIPPET = re.compile(rf"(?P<mark>{NOT_RUN}[^\n]*\n)?```python\n(?P<code>.*?)```", re.S)


def snippets():
    for page in PAGES:
        for number, found in enumerate(SNIPPET.finditer((ROOT / page).read_text("utf-8"))):
            if not found["mark"]:
                yield pytest.param(found["code"], id=f"{page}-{number}")


@pytest.mark.parametrize("code", list(snippets()))
def test_snippets_of_the_pages_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("module", sorted({*nasnet_keras._HOMES.values(), "data.images"}))
def test_examples_in_docstrings(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"nasnet_keras.{module}"))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", sorted(set(nasnet_keras.__all__) - {"RECIPES"}))  # a plain dict
def test_everything_public_has_an_example(name):
    assert ">>>" in (getattr(nasnet_keras, name).__doc__ or "")
