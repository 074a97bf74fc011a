"""A continued build does not embed cached rows again, and publishes the same bytes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.errors import TargetError
from lookalike.index.items.previews import PreviewWriter
from lookalike.index.items.table import ItemWriter
from lookalike.index.versions import embedding_cache as module
from lookalike.index.versions.build import build
from lookalike.index.versions.embed import embed
from lookalike.index.versions.embedding_cache import CachedEmbeddings, embed_with_cache, open_cache
from lookalike.index.versions.item_writers import ItemWriters
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows, open_rows, read_sample, sketches
from tests.factories import cloud, encoder_at, flip, made_rows

COUNT, WIDTH, BATCH = 70, 6, 10
INPUTS = cloud(COUNT, WIDTH)
FLAT = Target(0.5, key="Flat")

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_at(tmp_path_factory.mktemp("encoder") / "encoder", cloud(WIDTH, 3, seed=1))


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return load_encoder(encoder_folder)


class Embedder:
    """Counts the embedded rows, and interrupts the build before it embeds some chunk of BATCH rows."""

    def __init__(self, stop: int | None = None) -> None:
        self.parts: list[int] = []
        self.stop = None if stop is None else INPUTS[stop * BATCH]

    def __call__(self, encoder: Encoder, rows: Vectors, metric: Metric) -> Vectors:
        if self.stop is not None and np.array_equal(rows[0], self.stop):
            raise KeyboardInterrupt
        self.parts.append(len(rows))  # list.append is atomic
        return embed(encoder, rows, metric)

    @property
    def rows(self) -> int:
        return sum(self.parts)


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Embedder]:
    """A new counter that replaces the last one."""

    def new(stop: int | None = None) -> Embedder:
        made = Embedder(stop)
        monkeypatch.setattr(module, "embed", made)
        return made

    return new


def broken_off(rows: Rows, before: int) -> Rows:
    """The same rows, but reading is interrupted before a chunk."""

    def read(size: int) -> Iterator[Chunk]:
        for number, chunk in enumerate(rows.read(size)):
            if number == before:
                raise KeyboardInterrupt
            yield chunk

    return replace(rows, read=read)


def gathered(rows: Rows, encoder: Encoder, store: Path, metric: Metric = "l2") -> CachedEmbeddings:
    """The result with its embeddings in memory, because the folder is removed."""
    out = store / "staged"
    out.mkdir(parents=True, exist_ok=True)
    with open_cache(store, rows, encoder, metric) as folder:
        writers = ItemWriters(ItemWriter(out, rows.name), PreviewWriter(out))
        done = embed_with_cache(rows, encoder, metric, folder, writers)
        writers.close()
        return replace(done, embeddings=np.array(done.embeddings))


def leavings(store: Path) -> list[Path]:
    return sorted((store / "building").iterdir())


def known_rows(store: Path) -> int:
    """The number of rows in the cache of the interrupted build."""
    (folder,) = leavings(store)
    return sum(json.loads(line)["rows"] for line in (folder / "chunks.jsonl").read_text().splitlines())


@pytest.mark.parametrize("batch", [1, 10, 33, 1_000])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_all_rows_are_embedded_in_order(encoder: Encoder, tmp_path: Path, batch: int, metric: Metric) -> None:
    done = gathered(made_rows(INPUTS, batch=batch), encoder, tmp_path, metric)
    np.testing.assert_allclose(done.embeddings, embed(encoder, INPUTS, metric), atol=1e-6)
    assert np.array_equal(done.first, INPUTS[:1])
    assert done.digest == hashlib.sha256(INPUTS.tobytes()).hexdigest()
    assert leavings(tmp_path) == []


@pytest.mark.parametrize("chunk", range(7))
@pytest.mark.parametrize("place", ["reading", "embedding"])
def test_an_interrupted_build_continues(
    encoder: Encoder, tmp_path: Path, embedder: Callable[..., Embedder], place: str, chunk: int
) -> None:
    rows = made_rows(INPUTS, batch=BATCH)
    wanted = gathered(rows, encoder, tmp_path / "at once")
    first = embedder(chunk if place == "embedding" else None)
    with pytest.raises(KeyboardInterrupt):
        gathered(broken_off(rows, chunk) if place == "reading" else rows, encoder, tmp_path)
    known = known_rows(tmp_path)
    if place == "embedding":
        assert known == chunk * BATCH
    assert known >= first.rows - (torch.get_num_threads() + 2) * BATCH  # only chunks in progress may be lost
    second = embedder()
    done = gathered(rows, encoder, tmp_path)
    assert second.rows == COUNT - known
    assert done.embeddings.tobytes() == wanted.embeddings.tobytes()
    assert (done.digest, done.held.tolist()) == (wanted.digest, wanted.held.tolist())
    assert leavings(tmp_path) == []


def test_a_build_interrupted_again_and_again_comes_a_chunk_farther_each_time(
    encoder: Encoder, tmp_path: Path, embedder: Callable[..., Embedder]
) -> None:
    rows = made_rows(INPUTS, batch=BATCH)
    for stop in range(1, 7):
        embedder(stop)
        with pytest.raises(KeyboardInterrupt):
            gathered(rows, encoder, tmp_path)
        assert known_rows(tmp_path) == stop * BATCH
    last = embedder()
    done = gathered(rows, encoder, tmp_path)
    assert last.rows == BATCH
    np.testing.assert_allclose(done.embeddings, embed(encoder, INPUTS, "l2"), atol=1e-6)


@pytest.fixture
def interrupted(encoder: Encoder, tmp_path: Path, embedder: Callable[..., Embedder]) -> Path:
    """A store whose build stopped before the sixth of seven chunks."""
    embedder(5)
    with pytest.raises(KeyboardInterrupt):
        gathered(made_rows(INPUTS, batch=BATCH), encoder, tmp_path)
    assert known_rows(tmp_path) == 5 * BATCH
    embedder()
    return tmp_path


@pytest.mark.parametrize("row", [0, 19, 20, 69])
def test_embeds_again_from_the_first_row_that_changed(
    encoder: Encoder, interrupted: Path, embedder: Callable[..., Embedder], row: int
) -> None:
    known, changed = known_rows(interrupted), INPUTS.copy()
    changed[row, 2] += 1
    again = embedder()
    done = gathered(made_rows(changed, batch=BATCH), encoder, interrupted)
    assert again.rows == COUNT - min(known, row // BATCH * BATCH)
    np.testing.assert_allclose(done.embeddings, embed(encoder, changed, "l2"), atol=1e-6)


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def altered(path: Path) -> None:
    path.write_text(path.read_text().replace('"embeddings": "', '"embeddings": "0'))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a bit": lambda folder: flip(folder / "embeddings.f4", 2 * BATCH * 12 + 5),
    "a cut": lambda folder: cut(folder / "embeddings.f4", 2 * BATCH * 12 + 5),
    "no embeddings": lambda folder: (folder / "embeddings.f4").unlink(),
    "no journal": lambda folder: (folder / "chunks.jsonl").unlink(),
    "half a line": lambda folder: cut(folder / "chunks.jsonl", -9),
    "an empty journal": lambda folder: cut(folder / "chunks.jsonl", 0),
    "lines of other embeddings": lambda folder: altered(folder / "chunks.jsonl"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_embeds_again_from_the_first_damaged_chunk(
    encoder: Encoder, interrupted: Path, embedder: Callable[..., Embedder], damage: Callable[[Path], None]
) -> None:
    damage(leavings(interrupted)[0])
    again = embedder()
    done = gathered(made_rows(INPUTS, batch=BATCH), encoder, interrupted)
    assert again.rows > COUNT - 5 * BATCH
    np.testing.assert_allclose(done.embeddings, embed(encoder, INPUTS, "l2"), atol=1e-6)


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"[]\n", b"{}\n", b'{"rows": "x"}\n', b'{"rows": 1e9}\n'])
def test_replaces_an_unreadable_cache(encoder: Encoder, interrupted: Path, line: bytes) -> None:
    journal = leavings(interrupted)[0] / "chunks.jsonl"
    journal.write_bytes(line + journal.read_bytes())
    done = gathered(made_rows(INPUTS, batch=BATCH), encoder, interrupted)
    np.testing.assert_allclose(done.embeddings, embed(encoder, INPUTS, "l2"), atol=1e-6)


def test_embeds_again_if_the_chunk_size_changed(
    encoder: Encoder, interrupted: Path, embedder: Callable[..., Embedder]
) -> None:
    again = embedder()
    done = gathered(made_rows(INPUTS, batch=7), encoder, interrupted)
    assert again.rows == COUNT
    np.testing.assert_allclose(done.embeddings, embed(encoder, INPUTS, "l2"), atol=1e-6)


def test_each_metric_encoder_and_name_has_its_own_folder(
    encoder: Encoder, interrupted: Path, tmp_path_factory: pytest.TempPathFactory, embedder: Callable[..., Embedder]
) -> None:
    rows = made_rows(INPUTS, batch=BATCH)
    other = load_encoder(encoder_at(tmp_path_factory.mktemp("other") / "encoder", cloud(WIDTH, 3, seed=2)))
    changes: list[tuple[Rows, Encoder, Metric]] = [
        (rows, encoder, "ip"),
        (rows, other, "l2"),
        (replace(rows, name="others"), encoder, "l2"),
    ]
    for each in changes:
        again = embedder()
        done = gathered(each[0], each[1], interrupted, each[2])
        assert again.rows == COUNT
        np.testing.assert_allclose(done.embeddings, embed(each[1], INPUTS, each[2]), atol=1e-6)
    assert known_rows(interrupted) == 5 * BATCH  # only the cache of the interrupted build is left


def test_a_bad_row_removes_the_cache(encoder: Encoder, interrupted: Path) -> None:
    bad = INPUTS.copy()
    bad[63, 1] = np.nan
    with pytest.raises(DataError, match="row 63, column 1"):
        gathered(made_rows(bad, batch=BATCH), encoder, interrupted)
    assert leavings(interrupted) == []


def test_a_continued_build_publishes_the_same_files(
    encoder_folder: Path, tmp_path: Path, embedder: Callable[..., Embedder]
) -> None:
    rows = made_rows(INPUTS, batch=BATCH)
    at_once, later = Store(tmp_path / "at once"), Store(tmp_path / "later")
    build(rows, encoder_folder, at_once, target=FLAT, device="cpu")
    embedder(4)
    with pytest.raises(KeyboardInterrupt):
        build(rows, encoder_folder, later, target=FLAT, device="cpu")
    assert later.numbers() == []
    assert list(later.versions.iterdir()) == []
    again = embedder()
    build(rows, encoder_folder, later, target=FLAT, device="cpu")
    assert again.rows == COUNT - 4 * BATCH
    assert later.open(1).sealed.files == at_once.open(1).sealed.files
    assert leavings(later.folder) == []


def test_a_target_that_was_not_met_costs_no_second_embedding(
    encoder_folder: Path, tmp_path: Path, embedder: Callable[..., Embedder]
) -> None:
    store, rows = Store(tmp_path), made_rows(INPUTS, batch=BATCH)
    with pytest.raises(TargetError):
        build(rows, encoder_folder, store, target=Target(memory=1), device="cpu")
    again = embedder()
    assert build(rows, encoder_folder, store, target=FLAT, device="cpu") == 1
    assert again.rows == 0
    assert leavings(tmp_path) == []


# which rows ask before they are items


def knowing(tmp_path: Path, held_out: Vectors) -> Encoder:
    """An encoder that was not trained on these rows."""
    return load_encoder(encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32), held_out=held_out))


@pytest.mark.parametrize("batch", [1, 9, 1_000])
def test_rows_that_the_encoder_was_not_trained_on_are_held_out(tmp_path: Path, batch: int) -> None:
    untrained = [0, 3, 41, 69]
    done = gathered(made_rows(INPUTS, batch=batch), knowing(tmp_path, INPUTS[untrained]), tmp_path)
    assert done.held.tolist() == untrained
    assert np.array_equal(done.held_rows, INPUTS[untrained])
    assert np.flatnonzero(done.is_held).tolist() == untrained


@pytest.mark.parametrize("batch", [1, 9, 1_000])
def test_of_more_than_a_tenth_some_are_held_out_evenly(tmp_path: Path, batch: int) -> None:
    done = gathered(made_rows(INPUTS, batch=batch), knowing(tmp_path, INPUTS[20:51]), tmp_path)
    assert done.held.tolist() == [20, 25, 30, 35, 40, 45, 50]


@pytest.mark.parametrize("batch", [1, 9, 1_000])
def test_of_equal_rows_one_is_held_out(tmp_path: Path, batch: int) -> None:
    """Otherwise a query would find its copy in the index."""
    copies = INPUTS.copy()
    copies[[13, 14, 60]] = copies[12]
    done = gathered(made_rows(copies, batch=batch), knowing(tmp_path, copies[[12, 30]]), tmp_path)
    assert done.held.tolist() == [12, 30]


@pytest.mark.parametrize(("there", "by_chance"), [(4, True), (5, False), (10, False)])
def test_rows_are_unknown_if_less_than_half_of_the_held_out_rows_are_found(
    tmp_path: Path, there: int, by_chance: bool
) -> None:
    inputs = cloud(200, WIDTH)
    untrained = np.concatenate([inputs[:there], cloud(10 - there, WIDTH, seed=5)])
    done = gathered(made_rows(inputs, batch=30), knowing(tmp_path, untrained), tmp_path)
    assert (done.held.tolist() != list(range(there))) == by_chance
    assert len(done.held) == (20 if by_chance else there)


@pytest.mark.parametrize(
    ("untrained", "by_chance"), [(range(10), True), (range(190, 200), True), (range(7, 200, 20), False)]
)
def test_rows_are_unknown_if_the_held_out_rows_are_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: range, by_chance: bool
) -> None:
    """The encoder's training rows may be a part of these rows; then its held-out rows represent only that part."""
    monkeypatch.setattr(module, "TELLING", 5)
    inputs = cloud(200, WIDTH)
    done = gathered(made_rows(inputs, batch=30), knowing(tmp_path, inputs[list(untrained)]), tmp_path)
    assert (done.held.tolist() != list(untrained)) == by_chance
    assert len(done.held) == (20 if by_chance else 10)


@pytest.mark.parametrize(("count", "held"), [(1, 0), (9, 0), (10, 1), (25, 2), (3_000, 300)])
def test_other_rows_are_held_out_by_chance_a_tenth_of_them(
    encoder: Encoder, tmp_path: Path, count: int, held: int
) -> None:
    inputs = cloud(count, WIDTH)
    whole, parts = (gathered(made_rows(inputs, batch=n), encoder, tmp_path) for n in (1 << 30, 64))
    assert len(whole.held) == len(set(whole.held.tolist())) == held
    assert np.array_equal(whole.held, parts.held)
    assert (np.diff(whole.held) > 0).all()
    assert np.array_equal(parts.held_rows, inputs[parts.held])
    if count == 3_000:
        assert np.histogram(whole.held, bins=5, range=(0, count))[0].min() > 30


@pytest.mark.parametrize("change", [("MOST_HELD", 3), ("HELD_BYTES", 3 * 4 * WIDTH)], ids=str)
def test_no_more_are_held_out_than_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, Any]
) -> None:
    monkeypatch.setattr(module, *change)
    for held_out in (INPUTS[:0], INPUTS[10:20]):
        done = gathered(made_rows(INPUTS, batch=9), knowing(tmp_path / str(len(held_out)), held_out), tmp_path)
        assert len(done.held) == 3


def test_the_digits_that_the_encoder_held_out_are_held_out(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    rows, _ = read_sample(open_rows("digits"), 2_000, seed=0)
    named = dict(zip((n for chunk in open_rows("digits").chunks() for n in chunk.ids), sketches(rows), strict=True))
    untrained = set(version.encoder.held_out.tolist())
    late = version.manifest.evidence.queries
    last = [int(named[version.items.id_at(i)]) for i in range(len(version.items))][-late:]
    assert set(last) <= untrained
    assert len(set(last)) == late == min(len(untrained), len(version.items) // 10)
