"""Small real objects that all tests share, made once. Only read them; change or damage a copy."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import faiss
import pytest
import torch
from hypothesis import settings

from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import quick, window_rows

TINY = ("model.hidden=[32]", "model.latent_dim=8", "fit.epochs=3", "fit.device=cpu")

SLOW_SECONDS = 5.0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; all child processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("lookalike", deadline=None, derandomize=True, database=None)
settings.load_profile("lookalike")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that should have the mark `slow`."""
    for report in terminalreporter.getreports("passed"):
        if report.duration > SLOW_SECONDS and "slow" not in report.keywords:
            terminalreporter.write_line(f"{report.nodeid} took {report.duration:.1f} s and is not marked slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, because tests and the processes that they start share the machine."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `digits`: RUN/encoder maps 64 values to 8. Read only."""
    run = tmp_path_factory.mktemp("tiny-run") / "run"
    train(open_rows("digits"), load_config(None, list(TINY)), run)
    return run


@pytest.fixture(scope="session")
def tiny_store(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one version, of `digits`, which is the champion and has an exact index. Read only."""
    store = Store(tmp_path_factory.mktemp("tiny-store") / "store")
    store.promote(build(open_rows("digits"), tiny_run, store, target=Target(key="Flat"), device="cpu"))
    return store


@pytest.fixture(scope="session")
def window_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one version, of `window_rows()`, embedded by one-dimensional convolutions. Read only."""
    folder, rows = tmp_path_factory.mktemp("window-store"), window_rows()
    lines = ("model.kind=conv", "model.channels=[4, 8]", "corruption.kind=blocks", "corruption.level=0.3")
    train(rows, quick(*lines), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store, target=Target(key="Flat"), device="cpu"))
    return store


@pytest.fixture
def store_copy(tiny_store: Store, tmp_path: Path) -> Store:
    """A copy of `tiny_store`, to change or to damage."""
    return Store(Path(shutil.copytree(tiny_store.folder, tmp_path / "store-copy")))
