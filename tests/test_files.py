"""Paths with a ~, full disks whatever a library makes of them, and one writer in a folder."""

import errno
import os
import subprocess
import sys

import pytest

from nasnet_keras.files import Growing, alone_in, check_free, expanded, take_lock, write_atomically, writing


def test_a_tilde_is_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/net") == f"{tmp_path}/net" == expanded(tmp_path / "net")
    assert expanded("a~b") == "a~b" and expanded("digits") == "digits" and expanded(None) is None
    write_atomically("~/file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_signal_while_a_file_gets_its_name_is_what_is_raised(tmp_path, monkeypatch):
    """It comes when the system call is over, and the name has been given."""
    replace = os.replace

    def interrupted(*paths):
        replace(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"new"


def test_what_grows_appears_in_one_step_with_the_parts_that_are_whole(tmp_path, monkeypatch):
    """A part that a full disk cuts off is not in it."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    growing = Growing(path)
    growing.add(b"one\n")
    growing.add(b"two\n")
    assert path.read_bytes() == b"old"

    class Full:
        """A disk with room for two bytes more."""

        def __init__(self, stream):
            self.stream, self.left = stream, 2

        def write(self, part):
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            written, self.left = self.stream.write(part[: self.left]), 0
            return written

    stream, growing._stream = growing._stream, Full(growing._stream)
    with pytest.raises(OSError, match="No space left"):
        growing.add(b"three\n")
    growing._stream = stream
    growing.put()
    assert path.read_bytes() == b"one\ntwo\n" and list(tmp_path.iterdir()) == [path]
    other = Growing(path)
    other.add(b"more")
    other.drop()
    assert path.read_bytes() == b"one\ntwo\n" and list(tmp_path.iterdir()) == [path]
    other = Growing(path)
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        other.put()
    assert list(tmp_path.iterdir()) == [path]


def wrapped():
    """As zipfile does it: while it closes, it raises something else."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise ValueError("Can't close the ZIP file while there is an open writing handle on it")  # noqa: B904


FULL = {
    "system": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "HDF5": lambda: OSError("Can't write data (file write failed: errno = 28, error message = 'No space …')"),
    "HDF5 at the end": lambda: RuntimeError("Can't decrement id ref count (unable to close file, errno = 28)"),
    "TensorFlow": lambda: RuntimeError("a/b.pb; No space left on device [Op:SaveV2]"),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_error_and_leaves_no_half(name, tmp_path):
    with pytest.raises(OSError, match="No space left on device") as error, writing(tmp_path / "file"):
        (tmp_path / "file").write_bytes(b"half")
        raise FULL[name]()
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_what_lies_behind_an_error_is_found_and_other_errors_stay(tmp_path):
    with pytest.raises(OSError, match="No space left"), writing(tmp_path / "file"):
        wrapped()
    with pytest.raises(RuntimeError, match="differs"), writing(tmp_path / "file"):
        raise RuntimeError("it differs from the network")
    with pytest.raises(OSError, match="No space left"), writing(tmp_path / "file", size=1 << 60):
        pytest.fail("begun without room")


def test_a_folder_has_one_writer(tmp_path):
    check_free("directory", tmp_path / "missing")
    with alone_in("directory", tmp_path):
        with pytest.raises(ValueError, match=f"`directory` {tmp_path} is in use"):
            check_free("directory", tmp_path)
        code = "import sys; from nasnet_keras.files import check_free; check_free('directory', sys.argv[1])"
        other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
        assert other.returncode == 1 and "is in use: another training writes there" in other.stderr
    check_free("directory", tmp_path)
    assert not list(tmp_path.iterdir())  # nothing is left behind
    with pytest.raises(ZeroDivisionError), alone_in("directory", tmp_path):
        raise ZeroDivisionError
    check_free("directory", tmp_path)


def test_a_lock_ends_with_its_handle(tmp_path):
    handle = take_lock(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    with pytest.raises(BlockingIOError):
        take_lock(tmp_path / "lock")
    os.close(handle)
    os.close(take_lock(tmp_path / "lock"))
