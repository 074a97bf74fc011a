import dataclasses
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.settings import Settings
from tests.service.helpers import pixels_of, serving, settings_for, truth_of


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("LOOKALIKE_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def store_folder(tiny_store: Store) -> Path:
    return tiny_store.folder


@pytest.fixture(scope="session")
def version(store_folder: Path) -> Version:
    return Store(store_folder).open_champion("cpu")


@pytest.fixture(scope="session")
def truth(version: Version) -> dict[str, NDArray[np.float32]]:
    return truth_of(version)


@pytest.fixture(scope="session")
def limits(settings: Settings) -> RequestLimits:
    return RequestLimits((8, 8), 8, settings.max_rows, settings.max_limit, settings.max_hits)


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float32]:
    """Pixels of items and of other digits."""
    return pixels_of(*map(str, range(200)))


@pytest.fixture(scope="session")
def limitless(version: Version) -> Version:
    """The version, with an encoder that clips no value."""
    least = torch.full_like(version.encoder.preprocess.low, -torch.inf)
    preprocess = dataclasses.replace(version.encoder.preprocess, low=least, high=-least)
    return dataclasses.replace(version, encoder=dataclasses.replace(version.encoder, preprocess=preprocess))


@pytest.fixture(scope="session")
def too_large(limitless: Version, store_folder: Path) -> NDArray[np.float32]:
    """One finite float32 row whose sum in that encoder overflows."""
    folder = store_folder / "versions" / "000001" / "encoder"
    weights = safetensors.numpy.load_file(folder / "weights.safetensors")["encoder.1.weight"]  # 0 describes the row
    weights = weights[:, : limitless.encoder.width]
    row: NDArray[np.float32] = np.float32(3e38) * np.sign(weights[np.abs(weights).sum(axis=1).argmax()])[None, :]
    assert np.isfinite(row).all()
    assert not np.isfinite(limitless.encoder.encode(row)).all()
    return row


@pytest.fixture(scope="session")
def settings(store_folder: Path) -> Settings:
    return settings_for(store_folder)


@pytest.fixture(scope="module")
async def client(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version) as client:
        yield client
