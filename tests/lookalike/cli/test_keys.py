from pathlib import Path

import pytest

from lookalike.service.security.keys import Caller, KeyRing
from tests.lookalike.helpers import refused, run


def test_prints_a_key_once_and_lists_it_by_name(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    added = run("keys", "add", "shop", "--keys", file)
    assert (added.code, added.out.count("\n")) == (0, 1)
    key = added.out.strip()
    assert key not in added.err
    wrote = run("keys", "add", "night-job", "--keys", file, "--scope", "write").out.strip()
    listed = run("keys", "list", "--keys", file).out.splitlines()
    assert [line.split()[:2] for line in listed] == [["shop", "read"], ["night-job", "write"]]
    assert key not in "".join(listed)
    ring = KeyRing(None, file)
    assert ring.find(key.encode()) == Caller("shop", "read")
    assert ring.find(wrote.encode()) == Caller("night-job", "write")

    assert run("keys", "remove", "shop", "--keys", file).code == 0
    assert KeyRing(None, file).find(key.encode()) is None
    assert [line.split()[0] for line in run("keys", "list", "--keys", file).out.splitlines()] == ["night-job"]


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("list", "--keys", "{0}/none.json"), "lookalike keys add"),
        (("add", "a b", "--keys", "{0}/keys.json"), "NAME"),
        (("add", "shop", "--keys", "{0}/none/keys.json"), "none"),
        (("remove", "shop", "--keys", "{0}/none.json"), "no keys"),
    ],
)
def test_a_user_error_prints_one_line_and_creates_no_file(
    arguments: tuple[str, ...], about: str, tmp_path: Path
) -> None:
    refused(run("keys", *(argument.format(tmp_path) for argument in arguments)), about)
    assert list(tmp_path.iterdir()) == []
