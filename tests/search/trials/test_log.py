"""The files that survive: what was appended is there, what was cut off is not."""

import errno
import json
import os

import pytest

from nasnet_keras.search.trials import log as log_module
from nasnet_keras.search.trials.log import Log, read_trials, write_atomically


def test_objects_come_back_in_order(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    assert log.read() == []
    objects = [{"number": number, "text": "ü\n", "value": 0.1 + number / 3} for number in range(5)]
    for value in objects:
        log.append(value)
    assert Log(log.path).read() == objects
    assert len(log.path.read_text().splitlines()) == 5


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_cut_last_line_is_dropped_and_the_next_one_stands_alone(tmp_path, kept):
    log = Log(tmp_path / "log.jsonl")
    for number in range(3):
        log.append({"number": number})
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    log = Log(log.path)
    assert [value["number"] for value in log.read()] == [0, 1]
    log.append({"number": 7})
    assert [value["number"] for value in Log(log.path).read()] == [0, 1, 7]


def test_damaged_lines_are_set_aside_and_the_others_kept(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    content = b'{"a": 1}\n\x00\x00\xff\n[2]\n' + b"[" * 100_000 + b'\n{"a": 3}\n{"a": '
    path.write_bytes(content)
    assert Log(path).read() == [{"a": 1}, {"a": 3}]
    assert "3 of 5 lines cannot be read" in caplog.text
    assert (tmp_path / "log.jsonl.damaged").read_bytes() == content
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.append({"a": 1})
    with pytest.raises(ValueError):
        log.append({"a": float("nan")})
    assert Log(log.path).read() == [{"a": 1}]


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    log.append({"a": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_module.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.append({"a": 2})
    assert log.path.read_bytes() == b'{"a": 1}\n'
    log.append({"a": 3})
    assert Log(log.path).read() == [{"a": 1}, {"a": 3}]


def test_atomic_writing_replaces_or_leaves(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.stat(path).st_mode & 0o777 == 0o644

    def broken(source, target):
        raise OSError("broken off")

    monkeypatch.setattr(log_module.os, "replace", broken)
    with pytest.raises(OSError, match="broken off"):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_is_compact_json(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.append({"text": "line\nbreak"})
    assert json.loads(log.path.read_bytes()) == {"text": "line\nbreak"}


def test_reading_trials(tmp_path):
    path = tmp_path / "trials.jsonl"
    trials = [{"trial_id": f"{number:05d}", "reward": number / 7, "text": "ü"} for number in range(3)]
    path.write_text("".join(json.dumps(trial) + "\n" for trial in trials), encoding="utf-8")
    assert read_trials(path) == read_trials(str(path)) == trials
    whole = path.read_bytes()
    for cut in range(1, len(whole), 3):
        lines = whole[:cut].count(b"\n")
        read = read_trials_of(path, whole[:cut])
        assert read == trials[:lines] or (whole[:cut].endswith(b"}") and read == trials[: lines + 1])
    assert read_trials_of(path, b"") == []
    assert read_trials_of(path, whole + b"\n\n") == trials
    assert read_trials_of(path, whole + b'{"trial_id": "\xc3') == trials
    assert read_trials_of(path, whole + b"[" * 100_000) == trials


def read_trials_of(path, content):
    path.write_bytes(content)
    return read_trials(path)


@pytest.mark.parametrize("line", ['{"trial_id": ', "12", "[]", "\x00"])
def test_a_broken_line_inside_is_named(tmp_path, line):
    path = tmp_path / "trials.jsonl"
    path.write_text(f"{{}}\n{line}\n{{}}\n")
    with pytest.raises(ValueError, match=r"trials\.jsonl, line 2: a trial must be a JSON object\. Received: "):
        read_trials(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read the trials in .*none\.jsonl: No such file"):
        read_trials(tmp_path / "none.jsonl")
