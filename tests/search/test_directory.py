"""The paths of a search's directory, and of what kind its children are."""

import pytest

from nasnet_keras.search.directory import SearchDirectory, compare_children, keep_children

NAMES = {
    "header": "search.json",
    "children": "children.json",
    "trials": "trials.jsonl",
    "imported": "imported.jsonl",
    "controller": "controller",
    "proposals": "controller/proposals.jsonl",
    "attempts": "controller/attempts.jsonl",
    "updates": "controller/updates.jsonl",
    "snapshot": "controller/state.npz",
    "lock_file": "controller/lock",
    "preference": "preference.json",
    "best_genotype": "best_genotype.json",
    "best_normal": "best_normal.svg",
    "best_reduction": "best_reduction.svg",
    "report": "report.html",
    "retrained": "retrained.json",
    "retrained_models": "retrained",
    "final": "final",
    "tensorboard": "tensorboard",
    "shared": "shared",
    "logs": "logs",
    "chief_log": "chief.log",
}


def test_the_names_are_those_of_earlier_versions(tmp_path):
    directory = SearchDirectory(tmp_path)
    found = {name for name, value in vars(SearchDirectory).items() if isinstance(value, property)}
    assert {name: str(getattr(directory, name).relative_to(tmp_path)) for name in found} == NAMES
    assert SearchDirectory(str(tmp_path)).report == tmp_path / "report.html"
    assert not list(tmp_path.iterdir())


def test_children_of_another_kind_are_refused(tmp_path):
    compare_children(tmp_path, {"epochs": 1})  # nothing is known yet
    keep_children(tmp_path, {"epochs": 1, "filters": [4]}, "jax/1")
    keep_children(tmp_path, {"epochs": 1, "filters": [4]}, "jax/1")
    compare_children(tmp_path, {"epochs": 1})
    for other, message in (
        ({"epochs": 2}, "another `epochs`: 1. Received: 2. Choose another directory"),
        ({"epochs": 1, "filters": [8]}, r"another `filters`: \[4\]. Received: \[8\]"),
        ({"data": "x"}, "another `data`: None. Received: 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_children(tmp_path, other)
    (tmp_path / "children.json").write_text("{")
    keep_children(tmp_path, {"epochs": 2}, "jax/1")
    assert (tmp_path / "children.json.damaged").read_text() == "{"


def test_other_numerics_are_told(tmp_path, caplog):
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    assert not caplog.messages
    keep_children(tmp_path, {"epochs": 1}, "jax/1")
    assert "begun with numerics tensorflow/2 and goes on with jax/1" in caplog.text
    (tmp_path / "children.json").write_text('{"epochs": 1}')  # as it was before they were written down
    keep_children(tmp_path, {"epochs": 1}, "tensorflow/2")
    assert "begun with numerics tensorflow/1 and goes on with tensorflow/2" in caplog.text
    caplog.clear()
    keep_children(tmp_path, {"epochs": 1}, "jax/1")
    assert not caplog.messages
