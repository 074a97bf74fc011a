import pytest

from lookalike.index import errors
from lookalike.index.errors import QueryError, StoreError, UnknownItemError
from lookalike.training.errors import LookalikeError


@pytest.mark.parametrize("kind", [QueryError, StoreError, UnknownItemError])
def test_an_error_contains_field_expected_found_and_remedy(kind: type[LookalikeError]) -> None:
    with pytest.raises(LookalikeError) as caught:
        raise kind("limit", expected="from 1 to 10", found="11", remedy="Ask for less.")
    assert str(caught.value) == "limit: expected from 1 to 10, found 11. Ask for less."


def test_the_error_tree_is_complete() -> None:
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {*errors.__all__, "LookalikeError"}
