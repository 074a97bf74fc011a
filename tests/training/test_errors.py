import copy
import inspect

import pytest

from lookalike.training import errors
from lookalike.training.errors import DataError, LookalikeError


def test_an_error_says_what_it_is_about_what_was_expected_what_was_found_and_what_to_do() -> None:
    error = DataError("rows.csv, row 3", expected="a number", found="'x'", remedy="Fix the row.")
    assert str(error) == "rows.csv, row 3: expected a number, found 'x'. Fix the row."
    assert (error.field, error.expected, error.found, error.remedy) == error.args


def test_an_error_without_a_remedy_ends_after_what_was_found() -> None:
    assert str(LookalikeError("limit", expected="at least 1", found="0")) == "limit: expected at least 1, found 0."


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_in_the_tree_and_in_its_description(name: str) -> None:
    assert issubclass(getattr(errors, name), LookalikeError)
    assert name in (inspect.getdoc(errors) or "")


def test_an_error_survives_pickling() -> None:
    error = DataError("rows.npy", expected="numbers", found="text", remedy="Fix it.")
    again = copy.copy(error)  # copy uses pickle's protocol
    assert type(again) is DataError
    assert (str(again), vars(again)) == (str(error), vars(error))
