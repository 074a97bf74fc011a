import sys
import unicodedata

import pytest

from lookalike.index.items.ids import check_ids, id_problem
from lookalike.training.errors import DataError


def test_refuses_exactly_control_characters_and_halves_of_surrogate_pairs() -> None:
    """These categories never change: https://www.unicode.org/policies/stability_policy.html."""
    refused = {code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in {"Cc", "Cs"}}
    assert {code for code in range(sys.maxunicode + 1) if id_problem(chr(code))} == refused
    assert len(refused) == 32 + 33 + 2048


@pytest.mark.parametrize(
    "name",
    [
        "12\N{NARROW NO-BREAK SPACE}h.png",
        "\N{IDEOGRAPHIC SPACE}",
        "\U0001f468\N{ZERO WIDTH JOINER}\U0001f469",
        "\N{ZERO WIDTH NO-BREAK SPACE}\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}",
        "\U0001fae8\U00011f00",  # newer than the Unicode tables of some Python releases
        "\ue000\ufffe\U0010ffff",  # private use, and noncharacters
        "x" * 256,
    ],
)
def test_accepts_any_other_text(name: str) -> None:
    assert id_problem(name) is None
    check_ids([name, "a"], "made")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "0 characters"),
        ("x" * 257, "257 characters"),
        ("abc\a", "U+0007 at position 3"),
        ("\x85\n", "U+0085 at position 0"),
        ("a\x7f", "U+007F at position 1"),
        ("\U0001f600\udc00", "U+DC00 at position 1"),
    ],
)
def test_names_the_problem_of_an_id(name: str, found: str) -> None:
    assert id_problem(name) == found
    with pytest.raises(DataError) as caught:
        check_ids(["a", name], "made")
    assert (caught.value.field, caught.value.found) == (f"made, id {name[:40]!r}", found)


def test_halves_of_a_pair_in_two_ids_are_refused() -> None:
    with pytest.raises(DataError, match=r"U\+D83D at position 1"):
        check_ids(["a\ud83d", "\ude00"], "made")
