"""The rules for arguments: what passes, and the one line about what does not."""

import numpy as np
import pytest

from nasnet_keras.checks import check_integer, check_one_of, check_positive


@pytest.mark.parametrize(
    ("check", "fine", "wrong", "message"),
    [
        (check_integer, [0, 7], [-1, 1.0, True, None, "1"], "`x` must be an integer from 0. Received: "),
        (
            lambda name, value: check_integer(name, value, least=2, most=4, optional=True),
            [2, 4, None],
            [1, 5, 3.0],
            "`x` must be None or an integer from 2 to 4. Received: ",
        ),
        (
            lambda name, value: check_positive(name, value, "seconds"),
            [1, 0.5, np.float32(2)],
            [0, -1, float("nan"), float("inf"), True, None, "1"],
            "`x` must be a number of seconds above 0. Received: ",
        ),
        (
            lambda name, value: check_one_of(name, value, {"a": 1, "b": 2}, optional=True),
            ["a", None],
            ["c", [], 1],
            "`x` must be None or one of a, b. Received: ",
        ),
    ],
)
def test_rules(check, fine, wrong, message):
    for value in fine:
        check("x", value)
    for value in wrong:
        with pytest.raises(ValueError) as error:
            check("x", value)
        assert str(error.value) == f"{message}{value!r}"
