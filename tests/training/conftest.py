import shutil
from pathlib import Path

import pytest

from lookalike.training.artifact.encoder import Encoder
from lookalike.training.fit.job import TrainedRun, train
from tests.factories import array_rows, blobs, quick


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A finished run over 60 rows of 6 columns; read only."""
    return train(array_rows(blobs()), quick(), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="session")
def encoder(trained: TrainedRun) -> Encoder:
    return trained.encoder


@pytest.fixture
def encoder_folder(trained: TrainedRun, tmp_path: Path) -> Path:
    """A copy of a finished run's artifact, to damage."""
    return Path(shutil.copytree(trained.folder / "encoder", tmp_path / "encoder"))
