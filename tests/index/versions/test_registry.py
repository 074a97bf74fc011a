import shutil
from pathlib import Path
from typing import Any

import pytest

from lookalike.index.errors import StoreError
from lookalike.index.versions.registry import registry
from lookalike.index.versions.store import Store
from lookalike.training.sealed import seal
from tests.factories import retrained


def copy(store: Store, number: int, **told: Any) -> None:
    """Add a copy of version 1 with other fields in its manifest."""
    at = store.versions / f"{number:06d}"
    shutil.copytree(store.path(1), at)
    header = {**store.manifest(1).to_json(), "version": number, **told}
    for name in ("manifest.json", "manifest.sha256"):
        (at / name).unlink()
    seal(at, header.pop("format"), header)


def test_lists_role_origin_and_replaced_version(store_copy: Store) -> None:
    copy(store_copy, 2, **retrained(1, forced=True))
    copy(store_copy, 3, **retrained(2, forced=True, compacted=True))
    copy(store_copy, 4, **retrained(3))
    copy(store_copy, 5, **retrained(3))
    copy(store_copy, 6)
    for number in (2, 3):
        store_copy.promote(number)
    (store_copy.path(6) / "manifest.json").write_text("{}")
    told = [(one.number, one.role, one.created_by, one.replaced) for one in registry(store_copy)]
    assert told == [
        (1, "", "build", None),
        (2, "", "retrain 1, forced", 1),
        (3, "champion", "compact 2", 2),
        (4, "", "retrain 3", None),
        (5, "challenger", "retrain 3", None),
        (6, "", "", None),
    ]
    store_copy.promote(5)
    assert {one.number: one.role for one in registry(store_copy) if one.role} == {4: "challenger", 5: "champion"}
    store_copy.rollback()
    assert {one.number: one.role for one in registry(store_copy) if one.role} == {5: "challenger", 3: "champion"}


def test_a_compacted_version_is_no_challenger(store_copy: Store) -> None:
    copy(store_copy, 2, **retrained(1))
    store_copy.promote(2)
    copy(store_copy, 3, **retrained(2, compacted=True))
    store_copy.promote(3, instead_of=2, renews=True)
    told = [(one.number, one.role, one.replaced) for one in registry(store_copy)]
    assert told == [(1, "", None), (2, "", None), (3, "champion", 1)]


def test_without_a_champion_none_has_a_role(store_copy: Store) -> None:
    (store_copy.folder / "champion").unlink()
    assert [one.role for one in registry(store_copy)] == [""]


def test_a_store_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a folder with versions"):
        registry(Store(tmp_path / "nowhere"))
