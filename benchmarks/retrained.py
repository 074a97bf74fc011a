"""A retraining that was interrupted after its training, and is continued: what `benchmarks.durability` interrupts."""

import io
import shutil
from contextlib import redirect_stderr, suppress
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.failures import NotHeldError
from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Alias, Store
from lookalike.retraining import run as retraining
from lookalike.retraining.job import read_job
from lookalike.retraining.plan import RetrainOptions
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

__all__ = ["Retrained", "resume"]

COUNT, WIDTH = 300, 5
SETTINGS = ("model.hidden=[8]", "model.latent_dim=3", "fit.epochs=2", "fit.device='cpu'")


def resume(store: Store) -> None:
    """Continue the retraining, whatever the gate decides: the test is that nothing is lost."""
    with store.written():  # as the command reports it to a user
        report = retraining.retrain(RetrainOptions(store, device="cpu", force=True))
    if report.outcome != "promoted":
        raise NotHeldError(report.reason)


class Retrained:
    """A store whose retraining was interrupted; each attempt gets a copy."""

    def __init__(self, folder: Path) -> None:
        rng, self._made = np.random.default_rng(0), Store(folder / "store")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", rng.standard_normal((COUNT, WIDTH)).astype(np.float32))
        rows = open_rows(str(folder / "rows.npy"))
        with redirect_stderr(io.StringIO()):
            train(rows, load_config(None, list(SETTINGS)), folder / "run")
            build(rows, folder / "run", self._made, target=Target(0.3, key="Flat"), device="cpu")
            self._made.promote(1)
        items = self._made.open_champion().items
        names = [items.id_at(place) for place in range(len(items))]
        changes = [Change(f"new-{i}", np.full(WIDTH, i / 9, np.float32), "{}") for i in range(20)]
        log = ChangeLog(self._made.folder)
        self._last = log.append([*changes, *map(Change, names[:7])])
        log.close()
        self._ids = {*names[7:], *(change.id for change in changes)}
        with (
            redirect_stderr(io.StringIO()),
            mock.patch.object(retraining, "build", side_effect=KeyboardInterrupt),
            suppress(KeyboardInterrupt),
        ):
            resume(self._made)

    def copy(self, to: Path) -> Path:
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self._made.folder, to))

    def check(self, folder: Path, outcomes: list[str], *, killed: bool) -> bool:
        """See `benchmarks.steps.Held.check`."""
        store, log = Store(folder), ChangeLog(folder)
        alias, last = store.champion(), log.last()
        log.close()
        done = alias is not None and alias.replaced == (1,)
        if not done and (alias != Alias(1) or "done" in outcomes):
            raise NotHeldError(f"champion {alias}")
        if last != self._last:
            raise NotHeldError(f"{last} changes, not {self._last}")
        collection = open_collection(store, store.champion_number())
        if not collection.version.answers_canary():
            raise NotHeldError("the champion does not answer its canary query")
        found = {collection.items.id_at(int(place)) for place in collection.items.passing()}
        if found != self._ids:
            raise NotHeldError(f"other items: {sorted(found ^ self._ids)[:5]}")
        return done and read_job(store) is None

    def again(self, folder: Path, *, done: bool) -> None:
        """See `benchmarks.steps.Held.again`."""
        if not done:
            with redirect_stderr(io.StringIO()):
                resume(Store(folder))
        if not self.check(folder, ["done"], killed=False):
            raise NotHeldError("the job is not at its end")
