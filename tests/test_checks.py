"""The rules for arguments: what passes, and the one line about what does not."""

import math
import os

import numpy as np
import pytest

from nasnet_keras.checks import (
    as_integer,
    as_number,
    as_numbers,
    check_integer,
    check_one_of,
    check_positive,
    check_range,
    check_rate,
    first_difference,
    is_loopback,
    names_of,
)
from nasnet_keras.files import check_file, check_folder, make_folder, read_object

RULES = [
    (check_integer, {}, [0, 7], [-1, 1.0, True, None, "1"], "an integer from 0"),
    (
        check_integer,
        {"least": 2, "most": 4, "optional": True},
        [2, 4, None],
        [1, 5, 3.0],
        "None or an integer from 2 to 4",
    ),
    (
        check_positive,
        {"unit": "seconds"},
        [1, 0.5, math.inf, np.float64(2)],
        [0, -1, math.nan, True, None, "1", np.int64(2)],
        "a number of seconds above 0",
    ),
    (check_positive, {"finite": True}, [1e300], [math.inf, math.nan], "a finite number above 0"),
    (check_rate, {}, [0, 0.9], [1, -0.1, math.nan, True, "0"], "a number from 0 to below 1"),
    (check_one_of, {"allowed": {"a": 1, "b": 2}, "optional": True}, ["a", None], ["c", [], 1], "None or one of a, b"),
]


@pytest.mark.parametrize(("check", "rule", "fine", "wrong", "text"), RULES)
def test_rules(check, rule, fine, wrong, text):
    for value in fine:
        check("x", value, **rule)
    for value in wrong:
        with pytest.raises(ValueError) as error:
            check("x", value, **rule)
        assert str(error.value) == f"`x` must be {text}. Received: {value!r}"


def test_folders_and_files_are_tried_and_nothing_is_left(tmp_path):
    check_folder("x", tmp_path / "new" / "deep")
    check_file("x", tmp_path / "new" / "new.svg", ".svg")
    assert not os.listdir(tmp_path)
    assert make_folder("x", tmp_path / "new" / "deep").is_dir()
    (tmp_path / "file").touch()
    for place in ("file", "file/below", f"other/{300 * 'a'}"):
        with pytest.raises(ValueError, match="`x` must be a folder that can be written. Received: "):
            check_folder("x", tmp_path / place)
    (tmp_path / "folder.svg").mkdir()
    for place in ("folder.svg", "file/below.svg"):
        with pytest.raises(ValueError, match="`x` must be a file that can be written. Received: "):
            check_file("x", tmp_path / place, ".svg")
    with pytest.raises(ValueError, match="`x` must be a .svg file. Received: "):
        check_file("x", tmp_path / "x.png", ".svg")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.svg", "new"]


@pytest.mark.parametrize("content", ["[]", "{", 99999 * "[", "", "\xff"])
def test_a_json_file_holds_an_object(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError):
        read_object(path)
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}


def test_the_first_difference_between_two_descriptions():
    one, other = {"a": 1, "b": [1, 2], "c": None}, {"b": [1], "a": 1, "d": 0}
    assert first_difference(one, dict(one)) is None and first_difference({}, {}) is None
    assert first_difference(one, other) == ("b", [1, 2], [1])
    assert first_difference(one, other, ["a", "c"]) is None  # a missing key is None
    assert first_difference(one, other, ["d", "b"]) == ("d", None, 0)


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), np.array(3), 3])
def test_integers_of_any_make_become_plain_ones(value):
    assert as_integer(value) == 3 and type(as_integer(value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], np.array([3, 4])])
def test_what_is_no_integer_is_left_to_who_checks_it(value):
    assert as_integer(value) is value


@pytest.mark.parametrize(
    "value", [{"a", "b"}, frozenset("ab"), {0: "a"}, {}.items(), "ab", b"ab", None, 2, np.array(2)]
)
def test_what_gives_classes_no_order_is_refused(value):
    with pytest.raises(ValueError, match="^`x` must be a list of names, one for each class. Received: "):
        names_of("x", value)


def test_names_of_classes_are_texts():
    for value in (
        ["0", "1"],
        (0, 1),
        range(2),
        np.arange(2),
        np.array([b"0", b"1"]),
        iter("01"),
        {"0": 5, "1": 3}.keys(),
    ):
        found = names_of("x", value)
        assert found == ("0", "1") and set(map(type, found)) == {str}


def test_numbers_of_numpy_are_plain_ones():
    for given, plain in ((np.int64(3), 3), (np.float32(0.5), 0.5), (np.float64(2), 2.0), (3, 3), (0.5, 0.5)):
        found = as_number(given)
        assert (type(found), found) == (type(plain), plain)
    for other in (True, None, "1", [1], np.bool_(True)):
        assert as_number(other) is other


def test_several_numbers_of_numpy_are_a_tuple_of_plain_ones():
    for given in (np.array([1, 2], "uint16"), [np.uint16(1), np.int64(2)], (1, 2)):
        found = as_numbers(given)
        assert found == (1, 2) and {*map(type, found)} == {int}
        check_range("range", given)
    assert as_numbers(None) is None and as_numbers(3) == 3
    for single in (np.array(5), np.array(0.5), np.float32(5)):
        assert as_numbers(single) is single
        with pytest.raises(ValueError, match="`range` must be .low, high., two finite numbers"):
            check_range("range", single)
    with pytest.raises(ValueError, match="`range` must be .low, high., two finite numbers, the lower one first"):
        check_range("range", (np.uint16(2), np.uint16(1)))


def test_which_addresses_are_this_machine_s_own():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]", "::1%lo")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.0.0.7", "fe80::1%eth0", "127.example.org", "localhost.example.org", ""))
    )
