"""Which version serves, and how another takes its place while requests run.

A request takes `current` once and keeps it to its last byte, so no answer is made by two versions. The alias is looked
at ten times a second. What it names is opened, checked and warmed in a thread while the old version serves. Where that
fails the old one goes on, and what is wrong with the other one is told.

The files of the version that serves are checked as often. Without the alias or one of these files the service could not
start again, so it accepts no change and is not ready until the file is back.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.errors import NotReadyError, RefusedError
from lookalike.service.observability.logs import lifecycle
from lookalike.service.observability.metrics import Metrics
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.serving.change_writer import ChangeWriter
from lookalike.service.serving.compaction import Compactor
from lookalike.service.serving.engine import Engine, QueueLimits, engine_thread
from lookalike.service.serving.preflight import checked_collection
from lookalike.service.settings import Settings
from lookalike.training.errors import LookalikeError
from lookalike.training.sealed import check_there

__all__ = ["Current", "Health", "Refusal", "Serving"]

WATCH_SECONDS = 0.1
MEASURE_SECONDS = 1.0
WATCH_ITEMS_SECONDS = 0.02
"""How often the log is checked for changes by processes that share no board with this one, such as an import."""
NICENESS = 8
"""Of the thread that opens versions: it has a seventh of a core that the event loop wants as well."""


@dataclass(frozen=True)
class Current:
    """The version that serves: its engine, and what a call to it may have."""

    engine: Engine
    limits: RequestLimits

    @property
    def version(self) -> Version:
        return self.engine.version

    @property
    def collection(self) -> Collection:
        """The version with what has changed since."""
        return self.engine.collection


def _nothing(number: int = 0) -> None:
    pass


@dataclass(frozen=True)
class Health:
    """How this process and those beside it are.

    Attributes:
        beat: say that the event loop goes on, and the number of the version that serves.
        check: raises NotReadyError where a process beside this one is not well.
        stopping: is this process about to end?
        sequence: the last change that one of these processes has acknowledged, or used in an answer.
        publish: tell the processes such a change.
    """

    beat: Callable[[int], None] = _nothing
    check: Callable[[], None] = _nothing
    stopping: Callable[[], bool] = lambda: False
    sequence: Callable[[], int] = lambda: 0
    publish: Callable[[int], None] = _nothing


@dataclass(frozen=True)
class Refusal:
    """The champion that cannot serve, and why."""

    version: int
    reason: str


class Serving:
    """Answers from one version at a time; make it inside the event loop that it serves on."""

    def __init__(self, settings: Settings, collection: Collection, metrics: Metrics, health: Health) -> None:
        self._health = health
        self._settings = settings
        self._metrics = metrics
        self._store = Store(settings.store)
        self._engines = engine_thread("engine")
        self._loader = engine_thread("loader", niceness=NICENESS)
        self._turn = asyncio.Lock()
        self.refused: Refusal | None = None
        self._change_writer = ChangeWriter(settings.store, health.publish)
        self._taking = asyncio.Lock()
        self._progress = asyncio.Event()
        self._lag: Exception | None = None
        self._lost: Exception | None = None
        self._compactor = Compactor(settings.store, settings.compact_share, settings.keep_versions)
        self.current = self._serve(self._engine(collection))
        self._tasks = {
            "beat": asyncio.create_task(self._beat()),
            "watcher": asyncio.create_task(self._watch()),
            "items": asyncio.create_task(self._watch_items()),
            "change log": asyncio.create_task(self._measure_log()),
            "drift": asyncio.create_task(metrics.share_drift()),
        }

    def check_alive(self) -> None:
        """Raises NotReadyError once the service stops, or where something that it needs has died."""
        if self._health.stopping():
            raise NotReadyError("service", expected="one that goes on", found="one that stops")
        for name, task in self._tasks.items():
            if task.done():
                raise NotReadyError(name, expected="a task that goes on", found="one that died")
        if self._lag:
            raise NotReadyError("items", expected="all that the change log has", found="some that cannot be taken up")
        self._check_store()
        self._health.check()

    async def write(
        self, changes: Sequence[Change], embeddings: NDArray[np.float32] | None = None, version: int = 0
    ) -> list[int]:
        """Write changes, all or none, and apply them; the other processes do so before their next answer.

        Args:
            embeddings: (n, latent_dim) float32 of each, by that version; None if they delete.

        Returns:
            Each change's sequence number; 0 if it was skipped, as by `ChangeLog.append_each`.

        Raises:
            NotReadyError: a file of the store was removed; nothing is written.
            LogError: the log cannot be written; nothing is.
            ArtifactError: they are written, and the log cannot be read; this process is not ready then.
        """
        self._check_store()
        written = await self._change_writer.append(changes, embeddings, version)
        await self._catch_up()
        return written

    async def holds(self, name: str) -> bool:
        """Is there an item of this id, also one that this version's encoder cannot read?

        Raises:
            LogError, ArtifactError: the log cannot be read.
        """
        return self.current.collection.items.find(name) is not None or await self._change_writer.holds(name)

    async def wait_for_sequence(self, current: Current, min_sequence: int = 0) -> None:
        """Wait until `current` includes every acknowledged change, and the change `min_sequence` of the log.

        Raises:
            NotReadyError: the log does not have them before a call's deadline.
            LogError, ArtifactError: the log cannot be read.
        """
        acknowledged = self._health.sequence()
        if current.collection.applied >= max(acknowledged, min_sequence):
            return
        await self._catch_up(current.engine)
        if current.collection.applied < acknowledged:
            raise _behind(acknowledged, current)
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                while self.current.collection.applied < min_sequence:  # a process without our board may still write it
                    await self._progress.wait()
                if current.collection.applied < min_sequence:
                    await self._catch_up(current.engine)
        except TimeoutError as error:
            raise _behind(min_sequence, current) from error

    async def follow(self) -> Current:
        """Serve the champion now, if another version does.

        Raises:
            RefusedError: it cannot serve; what served before goes on.
        """
        async with self._turn:
            number = self.current.version.number
            try:
                number = self._store.champion_number()
                if number != self.current.version.number:
                    loop = asyncio.get_running_loop()
                    collection = await loop.run_in_executor(self._loader, self._open, number)
                    await self._change_to(collection)
                    self._metrics.changed("served")
            except Exception as error:  # whatever is wrong with the other version, this one serves
                reason = str(error) if isinstance(error, LookalikeError) else repr(error)
                self._refuse(number, reason)
                raise RefusedError("version", expected="a champion that can serve", found=reason) from error
            self.refused = None
            self._metrics.refused(0)
            return self.current

    async def close(self) -> None:
        """Stop watching, and end the threads."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._metrics.close()
        await self._compactor.close()
        await self._change_writer.close()
        self._loader.shutdown()
        self._engines.shutdown()

    def _check_store(self) -> None:
        """Raises NotReadyError while the store lacks the alias, or a file of the version that serves."""
        if self._lost:
            wanted = "the alias and every file of the version that serves"
            raise NotReadyError("store", expected=wanted, found="one was removed; the service's log says which")

    def _open(self, number: int) -> Collection:
        return checked_collection(self._store, number, self._settings.device)

    async def _change_to(self, collection: Collection) -> None:
        """It serves with all that is acknowledged by then: in between, nothing is."""
        fresh = self._engine(collection)
        async with self._taking:
            await self._change_writer.catch_up(fresh)
            self.current = self._serve(fresh)

    async def _catch_up(self, engine: Engine | None = None) -> None:
        """Have an engine apply what it lacks of the log; by default the one that serves."""
        async with self._taking:
            current = self.current
            if await self._change_writer.catch_up(engine or current.engine):
                self._advanced(current.collection)

    def _advanced(self, collection: Collection) -> None:
        """Wake the calls that wait for a change."""
        self._metrics.items(collection.items.count, collection.applied)
        self._progress.set()
        self._progress = asyncio.Event()

    def _engine(self, collection: Collection) -> Engine:
        queue_limits = QueueLimits(self._settings.max_waiting, self._settings.deadline_seconds)
        return Engine(collection, self._engines, queue_limits=queue_limits, metrics=self._metrics)

    def _serve(self, engine: Engine) -> Current:
        collection, version = engine.collection, engine.version
        self._metrics.serving(version.number, len(version.novelty.rows), version.calibration)
        self._health.publish(collection.applied)
        self._advanced(collection)
        lifecycle("serving", version=version.number, items=collection.items.count)
        return Current(engine, RequestLimits.of(version, self._settings))

    def _refuse(self, number: int, reason: str) -> None:
        self.refused = Refusal(number, reason)
        self._metrics.refused(number)
        self._metrics.changed("refused")
        lifecycle("refused", version=number, reason=reason)

    async def _beat(self) -> None:
        """By itself: to open a version may take long, and meanwhile this process is well."""
        while True:
            self._health.beat(self.current.version.number)
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch(self) -> None:
        """What was refused is tried again only when the alias is written again, or someone asks for it."""
        seen: tuple[int, ...] | None = None  # it may have been written since the version that serves was opened
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            lost = self._find_lost()  # before the alias: a version that is no champion any more may be removed
            stamp = self._store.alias_stamp()
            if stamp and stamp != seen:
                lost = None
                with contextlib.suppress(RefusedError):  # `follow` logs it
                    await self.follow()
            seen = stamp
            if lost and not self._lost:
                lifecycle("store incomplete", reason=str(lost))
            self._lost = lost

    def _find_lost(self) -> Exception | None:
        """The file without which the store cannot start again with the version that serves; None if all are there."""
        try:
            if not self._store.alias_stamp():
                self._store.champion_number()
            check_there(self.current.version.sealed)
        except (LookalikeError, OSError) as error:
            return error
        return None

    async def _watch_items(self) -> None:
        """Take up what other processes write, and have it folded into a version once it is much."""
        while True:
            await asyncio.sleep(WATCH_ITEMS_SECONDS)
            try:
                if await self._change_writer.moved() or self._lag:
                    await self._catch_up()
            except (LookalikeError, RuntimeError) as error:  # whatever it is, the next try may do
                if self._lag is None:
                    lifecycle("items not taken up", reason=str(error))
                self._lag = error
                continue
            self._lag = None
            self._compactor.poll(self.current.collection)

    async def _measure_log(self) -> None:
        while True:
            with contextlib.suppress(LookalikeError):  # `_watch_items` logs it
                self._metrics.log(await self._change_writer.size())
            await asyncio.sleep(MEASURE_SECONDS)


def _behind(wanted: int, current: Current) -> NotReadyError:
    found = f"a log whose last change is {current.collection.applied}"
    return NotReadyError("items", expected=f"change {wanted} of the change log", found=found)
