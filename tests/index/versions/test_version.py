import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.ann.candidates import KINDS
from lookalike.index.ann.embeddings import EMBEDDINGS
from lookalike.index.ann.target import Target
from lookalike.index.errors import QueryError, StoreError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.limits import MAX_LIMIT
from lookalike.index.versions.build import build
from lookalike.index.versions.manifest import CANARY_LIMIT, FORMAT, CanaryAnswer
from lookalike.index.versions.store import Alias, Store
from lookalike.index.versions.stored_inputs import INPUTS
from lookalike.index.versions.version import CANARY, HELD, LOCAL_SCALE, NOVELTY, Version, canary_answer, open_version
from lookalike.training.errors import ArtifactError, LookalikeError
from lookalike.training.sealed import read_manifest
from tests.factories import cloud, encoder_at, flip, made_rows, reseal

FILES = (
    "embeddings.npy",
    "encoder/manifest.json",
    "encoder/manifest.sha256",
    "encoder/weights.safetensors",
    "held.npy",
    "index.faiss",
    "inputs.npy",
    "items.arrow",
    "manifest.json",
    "manifest.sha256",
    "novelty.npy",
    "order.npy",
    "canary.npy",
    "local_scale.npy",
)
PARSERS = {"encoder.py", "table.py", "vectors.py", "torch.py", "_npyio_impl.py", "embeddings.py"}
"""The functions that parse encoder, items, index, safetensors and npy files."""


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Versions 1 and 2 of the same rows by different encoders; 1 is the champion. Read only."""
    folder = tmp_path_factory.mktemp("two-versions")
    store = Store(folder / "store")
    for number in (1, 2):
        build(
            made_rows(cloud(40, 6)), encoder_at(folder / f"encoder-{number}", cloud(6, 3, number)), store, device="cpu"
        )
    store.promote(1)
    return store


@pytest.fixture
def store(two_versions: Store, tmp_path: Path) -> Store:
    """A copy to damage."""
    return Store(Path(shutil.copytree(two_versions.folder, tmp_path / "store")))


@pytest.fixture(scope="module")
def version(two_versions: Store) -> Version:
    return two_versions.open(1)


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "first byte": lambda path: flip(path, 0),
    "eighth byte": lambda path: flip(path, 7, bit=7),
    "middle": lambda path: flip(path, path.stat().st_size // 2, bit=4),
    "last byte": lambda path: flip(path, -1),
    "cut by one byte": lambda path: cut(path, -1),
    "cut in half": lambda path: cut(path, path.stat().st_size // 2),
    "emptied": lambda path: cut(path, 0),
    "one byte more": grow,
    "removed": Path.unlink,
}


@contextmanager
def modules_at_work() -> Iterator[set[str]]:
    """Collect the names of the source files whose functions are called."""
    seen: set[str] = set()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen.add(Path(frame.f_code.co_filename).name)

    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def test_these_are_all_files_of_a_version(two_versions: Store) -> None:
    folder = two_versions.path(2)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(FILES)


def test_a_whole_version_is_parsed_by_all_parsers(two_versions: Store) -> None:
    with modules_at_work() as seen:
        open_version(two_versions.path(2))
    assert seen >= PARSERS


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_by_name_before_parsing_and_the_champion_stays(
    store: Store, name: str, damage: Callable[[Path], None]
) -> None:
    damage(store.path(2) / name)
    for act in (store.open, store.promote):
        with modules_at_work() as seen, pytest.raises(ArtifactError) as caught:
            act(2)
        assert name in str(caught.value)
        assert not seen & PARSERS
    assert store.champion() == Alias(1)
    assert store.open_champion().answers_canary()


@given(st.data())
def test_every_flipped_bit_is_noticed(two_versions: Store, data: st.DataObject) -> None:
    folder = two_versions.path(2)
    name = data.draw(st.sampled_from(FILES))
    whole = (folder / name).read_bytes()
    try:
        flip(folder / name, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7)))
        with pytest.raises(ArtifactError) as caught:
            open_version(folder)
    finally:
        (folder / name).write_bytes(whole)
    assert name in str(caught.value)


def resealed(folder: Path, **changes: Any) -> None:
    reseal(folder, FORMAT, {**read_manifest(folder, FORMAT).header, **changes})


@pytest.mark.parametrize("name", ["encoder", "index.faiss", "items.arrow", "embeddings.npy"])
def test_a_part_of_another_version_is_refused_though_all_seals_are_whole(
    store: Store, tmp_path: Path, name: str
) -> None:
    build(made_rows(cloud(30, 5)), encoder_at(tmp_path / "other", cloud(5, 2)), store, device="cpu")
    source = store.path(2 if name == "encoder" else 3) / name
    target = store.path(1) / name
    if target.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    resealed(store.path(1))
    with pytest.raises(ArtifactError, match=str(store.path(1))):
        store.open(1)


def test_resealing_alone_breaks_nothing(store: Store) -> None:
    resealed(store.path(2))
    assert store.open(2).answers_canary()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"version": "two"},
        {"version": None},
        {"items": 41},
        {"encoder": "0" * 64},
        {"index": {"key": "Flat", "metric": "cosine", "new": 1}},
        {"index": {"key": "Flat", "metric": "ip"}},
        {"index": {"key": "HNSW32", "metric": "cosine"}},
        {"index": {"kind": "flat", "metric": "cosine"}},
        {"held": [1]},
        {"index": None},
    ],
    ids=str,
)
def test_a_sealed_manifest_that_does_not_describe_its_files_is_refused(store: Store, changes: dict[str, Any]) -> None:
    resealed(store.path(2), **changes)
    with pytest.raises(ArtifactError, match="000002"):
        store.open(2)


@pytest.mark.parametrize("index", [{"key": "of a later release"}, {"key": "Flat", "search": "nprobe=4"}], ids=str)
def test_an_index_that_this_release_cannot_make_is_refused_too(store: Store, index: dict[str, Any]) -> None:
    resealed(store.path(2), index={"metric": "cosine", **index})
    with pytest.raises(ArtifactError, match="000002"):
        store.open(2)


@pytest.mark.parametrize("content", [b"", b"no array"])
@pytest.mark.parametrize(
    "name", ["index.faiss", "items.arrow", "order.npy", EMBEDDINGS, CANARY, HELD, INPUTS, LOCAL_SCALE, NOVELTY]
)
def test_refuses_a_sealed_file_with_invalid_content(store: Store, name: str, content: bytes) -> None:
    (store.path(2) / name).write_bytes(content)
    resealed(store.path(2))
    with pytest.raises(ArtifactError, match=f"000002/{name}: "):
        store.open(2)


def test_a_folder_of_another_format_is_refused(store: Store) -> None:
    reseal(store.path(2), "lookalike-version/1", read_manifest(store.path(2), FORMAT).header)
    with pytest.raises(ArtifactError, match="lookalike-version/5, found lookalike-version/1"):
        store.open(2)


@pytest.mark.parametrize("name", ["000003", "000012"])
def test_a_version_under_another_number_is_refused(store: Store, name: str) -> None:
    store.path(2).rename(store.versions / name)
    with pytest.raises(ArtifactError, match=f"the folder of version 2, found the name {name}"):
        store.open(int(name))


def test_a_version_has_the_fields_of_its_manifest(version: Version) -> None:
    assert (version.number, version.metric, version.manifest.items, len(version.items)) == (1, "cosine", 40, 40)
    assert version.manifest.encoder == version.encoder.digest


def test_a_version_searches_its_embeddings(version: Version) -> None:
    vectors, queries = version.embeddings.at(np.arange(40)), version.embed(cloud(5, 6, seed=9))
    truth = queries.astype(np.float64) @ vectors.astype(np.float64).T
    found = version.searcher.search(queries, 7)
    assert np.array_equal(found.positions, np.argsort(-truth, axis=1)[:, :7])
    np.testing.assert_allclose(found.scores, -np.sort(-truth, axis=1)[:, :7], rtol=1e-6)


def test_an_item_finds_its_nearest_others(version: Version) -> None:
    vectors = version.embeddings.at(np.arange(40)).astype(np.float64)
    own = [version.items.position(name) for name in ("row-7", "row-0")]
    truth = vectors[own] @ vectors.T
    truth[[0, 1], own] = -np.inf
    found = version.searcher.search_items(["row-7", "row-0"], 4)
    assert np.array_equal(found.positions, np.argsort(-truth, axis=1)[:, :4])
    np.testing.assert_allclose(found.scores, -np.sort(-truth, axis=1)[:, :4], atol=1e-6)


@pytest.mark.parametrize("most", [0, 1, 5, 40])
def test_an_item_finds_only_others_that_pass_a_filter(version: Version, most: int) -> None:
    passing = {version.items.position(f"row-{i}") for i in range(most)}
    given_filter = read_filter({"field": "number", "range": {"lt": most}})
    for name in ("row-3", "row-20"):
        found = version.searcher.search_items([name], 10, given_filter).positions[0]
        others = passing - {version.items.position(name)}
        hits = [int(p) for p in found if p >= 0]
        vectors, own = version.embeddings, version.items.position(name)
        scores = vectors.scores(vectors.at(np.array([own])), np.array([sorted(others)], np.int64).reshape(1, -1))[0]
        best = [sorted(others)[i] for i in np.argsort(-scores)][:10]
        assert hits == best


def test_a_filter_of_no_field_is_refused_by_its_path(version: Version) -> None:
    with pytest.raises(QueryError, match=r"filter\.field: expected a field of the items \('number'\), found 'color'"):
        version.searcher.search_items(["row-3"], 10, read_filter({"field": "color", "equal": 1}))


@pytest.mark.parametrize("limit", [39, 40, MAX_LIMIT])
def test_an_item_has_no_more_neighbors_than_other_items(version: Version, limit: int) -> None:
    positions = version.searcher.search_items(["row-7"], limit).positions
    others = set(range(40)) - {version.items.position("row-7")}
    assert sorted(p for p in positions[0] if p >= 0) == sorted(others)


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1, 10**9])
def test_refuses_a_limit_out_of_bounds(version: Version, limit: int) -> None:
    told = f"limit: expected from 1 to {MAX_LIMIT}, found {limit}"
    with pytest.raises(QueryError, match=told):
        version.searcher.search_items(["row-7"], limit)
    with pytest.raises(QueryError, match=told):
        version.searcher.search(cloud(1, 3), limit)


def test_an_unknown_id_is_refused_by_name(version: Version) -> None:
    with pytest.raises(UnknownItemError, match="'row-40'"):
        version.searcher.search_items(["row-7", "row-40"], 3)


def test_a_wrong_canary_answer_is_noticed(version: Version) -> None:
    found = version.searcher.search(version.embed(version.canary), CANARY_LIMIT)
    scores, positions = found.scores, found.positions
    assert version.is_canary_answer(scores[0], positions[0])
    assert version.is_canary_answer(scores[0] + 1e-6, positions[0])
    assert not version.is_canary_answer(scores[0] + 0.01, positions[0])
    assert not version.is_canary_answer(scores[0], positions[0][::-1])
    assert not version.is_canary_answer(scores[0], np.array([*positions[0][:2], -1]))


@pytest.mark.parametrize("key", [*dict.fromkeys(kind.key_for(40, 4) for kind in KINDS), "PQ4x4fs,RFlat"])
def test_an_index_of_any_kind_is_published_opened_and_refused_when_damaged(tmp_path: Path, key: str) -> None:
    store = Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", cloud(6, 4))
    build(made_rows(cloud(40, 6)), encoder, store, metric="l2", target=Target(0.1, key=key), device="cpu")
    version = store.open(1)
    assert (version.index.spec.key, len(version.index), len(version.embeddings)) == (key, 40, 40)
    if "R" not in key:
        assert store.promote(1).version == 1
    path = store.path(1) / "index.faiss"
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 9)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(ArtifactError, match=r"index\.faiss"):
                store.open(1)


def test_a_version_with_a_coarse_index_answers_its_canary_query(tmp_path: Path) -> None:
    store, encoder = Store(tmp_path / "store"), encoder_at(tmp_path / "encoder", cloud(6, 4))
    for seed in range(5):
        target = Target(0.01, key="PQ1x4fs,RFlat")
        number = build(made_rows(cloud(300, 6, seed)), encoder, store, metric="l2", target=target, device="cpu")
        assert store.promote(number).version == number


def test_a_changed_encoder_does_not_answer_the_canary_query(version: Version) -> None:
    drifted = dataclasses.replace(version, canary=version.canary[:, ::-1].copy())
    assert not drifted.answers_canary()


def test_a_known_answer_is_ids_and_scores_without_the_missing(version: Version) -> None:
    answer = canary_answer(version.items, np.array([0.5, 0.25, 0], np.float32), np.array([3, 1, -1]))
    assert answer == CanaryAnswer(ids=[version.items.id_at(3), version.items.id_at(1)], scores=[0.5, 0.25])


def test_a_version_with_a_wrong_canary_answer_is_not_promoted(store: Store) -> None:
    header = read_manifest(store.path(2), FORMAT).header
    resealed(store.path(2), canary={**header["canary"], "scores": [1.0, 0.5, 0.25]})
    with pytest.raises(StoreError, match="version 2: expected the known answer"):
        store.promote(2)
    assert store.champion() == Alias(1)
    assert issubclass(StoreError, LookalikeError)
