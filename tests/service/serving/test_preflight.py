"""The checks of a version before it serves."""

import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.errors import StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.manifest import FORMAT
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.serving.preflight import check_agreement, check_room, checked_collection, prepare
from lookalike.training.artifact.encoder import FORMAT as ENCODER_FORMAT
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.config import load_config
from lookalike.training.errors import ArtifactError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import flip, reseal
from tests.mixed import QUICK, mixed, write_csv
from tests.photos import photo, photo_store

FIRST_REQUEST = """
import sys
from pathlib import Path
from lookalike.index.versions.store import Store
from lookalike.service.parsing.decoding import decode_search
from lookalike.service.parsing.photos import decode_photos
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.serving.preflight import checked_collection
from lookalike.service.settings import Settings

store = Store(Path(sys.argv[1]))
version = checked_collection(store, 1, "cpu").version
known = set(sys.modules)
limits = RequestLimits.of(version, Settings(store=store.folder))
query = decode_search(sys.argv[2].encode(), limits)
if query.photos:
    decode_photos(query.photos, limits, lambda: None, previews=True)
print(*sorted(set(sys.modules) - known))
"""
"""Check a version, and read a request for it; prints the modules that the request imports."""


@pytest.fixture
def reference(version: Version, store_folder: Path) -> Encoder:
    return load_encoder(store_folder / "versions" / "000001" / "encoder", "cpu")


def perturbed(version: Version, folder: Path, share: float) -> Version:
    """Change each weight of the encoder in `folder` by a normally distributed share."""
    chance = torch.Generator().manual_seed(0)
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    for name, tensor in weights.items():
        if name.startswith("encoder."):
            tensor.mul_(1 + share * torch.randn(tensor.shape, generator=chance))
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    resealed(folder, ENCODER_FORMAT)
    return replace(version, encoder=load_encoder(folder, "cpu"))


def resealed(folder: Path, name: str, **changed: Any) -> None:
    """Seal the changed files again."""
    header = json.loads((folder / "manifest.json").read_text()) | changed
    reseal(folder, name, {key: value for key, value in header.items() if key != "files"})


def test_an_encoder_agrees_with_itself(version: Version, reference: Encoder) -> None:
    check_agreement(version, reference)


def test_what_rounding_makes_of_an_encoder_agrees(version: Version, reference: Encoder, store_copy: Store) -> None:
    check_agreement(perturbed(version, store_copy.path(1) / "encoder", 1e-6), reference)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_an_encoder_that_finds_others_is_refused(
    version: Version, reference: Encoder, store_copy: Store, share: float
) -> None:
    other = perturbed(version, store_copy.path(1) / "encoder", share)
    with pytest.raises(ArtifactError, match="version 1 on cpu: expected 99% of the neighbors") as refused:
        check_agreement(other, reference)
    assert float(refused.value.found.removesuffix("%")) < 99


@pytest.mark.parametrize(("needed", "available"), [(5, 5), (0, 0), (4, 5), (10**15, None)])
def test_accepts_a_version_that_fits_or_if_memory_is_unknown(needed: int, available: int | None) -> None:
    check_room(needed, available)


def test_names_needed_and_available_memory() -> None:
    with pytest.raises(StoreError, match=r"memory: expected 1,234,567 bytes .*, found 1,234,566 bytes available"):
        check_room(1_234_567, 1_234_566)


def test_a_good_version_is_opened(tiny_store: Store) -> None:
    version = checked_collection(tiny_store, 1, "cpu")
    assert (version.number, len(version.items)) == (1, 1437)


def test_a_version_that_is_not_there_is_refused(tiny_store: Store) -> None:
    with pytest.raises(StoreError, match="found 2"):
        checked_collection(tiny_store, 2, "cpu")


@pytest.mark.parametrize("name", ["index.faiss", "embeddings.npy", "encoder/weights.safetensors", "manifest.json"])
def test_a_damaged_version_is_refused_by_file(store_copy: Store, name: str) -> None:
    flip(store_copy.path(1) / name, -5)
    with pytest.raises(ArtifactError, match=name):
        checked_collection(store_copy, 1, "cpu")


def test_a_version_that_answers_otherwise_than_it_was_built_to_is_refused(store_copy: Store) -> None:
    folder = store_copy.path(1)
    answer = store_copy.manifest(1).canary
    resealed(folder, FORMAT, canary={"ids": answer.ids, "scores": [score - 0.1 for score in answer.scores]})
    assert store_copy.open(1).number == 1  # it is whole
    with pytest.raises(StoreError, match="version 1: expected the known answer to its canary query, found another"):
        checked_collection(store_copy, 1, "cpu")


def test_a_version_without_room_is_refused_before_it_is_read(store_copy: Store) -> None:
    """The version would be damaged if it were read; a hole in a file takes no room on the disk."""
    with (store_copy.path(1) / "encoder" / "weights.safetensors").open("r+b") as file:
        file.truncate(1 << 43)
    with pytest.raises(StoreError, match="memory: expected 8,796,"):
        checked_collection(store_copy, 1, "cpu")


def test_to_prepare_a_version_changes_no_answer(version: Version) -> None:
    before = version.searcher.search_rows(version.canary, 10)
    prepare(Collection(version))
    after = version.searcher.search_rows(version.canary, 10)
    assert after.positions.tolist() == before.positions.tolist()
    assert after.scores.tolist() == before.scores.tolist()


def imported_by_request(store: Store, **body: Any) -> str:
    command = [sys.executable, "-c", FIRST_REQUEST, str(store.folder), json.dumps(body)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_the_first_photos_import_nothing_after_the_checks(tmp_path: Path) -> None:
    photos = [b64encode(photo((9, 9, 9), kind)).decode() for kind in ("JPEG", "PNG", "WEBP")]
    assert imported_by_request(photo_store(tmp_path), images=photos) == ""


@pytest.mark.slow
def test_the_first_hashed_text_imports_nothing_after_the_checks(tmp_path: Path) -> None:
    config = load_config(None, [*QUICK, "fit.epochs=1", 'data.text=["note"]'])
    rows, store = open_rows(str(write_csv(tmp_path / "table.csv", mixed())), config.data), Store(tmp_path / "store")
    train(rows, config, tmp_path / "run")
    store.promote(build(rows, tmp_path / "run", store, target=Target(key="Flat"), device="cpu"))
    assert imported_by_request(store, inputs=[{"note": "the last of them", "animal": "cat"}]) == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_version_on_cuda_agrees_with_the_cpu_or_is_refused(tiny_store: Store) -> None:
    version = tiny_store.open(1, "cuda")
    prepare(Collection(version))
    with torch.no_grad():
        next(version.autoencoder.encoder.parameters()).normal_()
    torch.cuda.synchronize()
    assert not version.answers_canary()
    with pytest.raises(ArtifactError, match="version 1 on cuda: expected 99% of the neighbors that a CPU finds"):
        prepare(Collection(version))
