"""The version that serves, and its replacement by another version while requests run.

A request reads `current` once and uses it to its last byte, so no answer mixes two versions. Ten times a second the
store's alias is checked. If it names another version, a thread opens, checks and warms that version while the old one
serves. If that fails, the old version continues to serve, and the reason is logged.

The files of the serving version are checked as often. Without the alias or one of these files the service could not
start again, so it accepts no change and is not ready until the file is back.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection
from lookalike.index.changes.item_inputs import input_in_log, input_in_version
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.errors import NotReadyError, RefusedError
from lookalike.service.observability.logs import lifecycle
from lookalike.service.observability.metrics import Metrics
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.serving.change_writer import ChangeWriter
from lookalike.service.serving.compaction import Compactor
from lookalike.service.serving.engine import Engine, QueueLimits, engine_thread
from lookalike.service.serving.photo_reader import PhotoReader
from lookalike.service.serving.preflight import checked_collection
from lookalike.service.settings import Settings
from lookalike.training.array_types import Floats
from lookalike.training.errors import LookalikeError
from lookalike.training.sealed import check_exists

__all__ = ["Current", "Health", "Serving"]

WATCH_SECONDS = 0.1
MEASURE_SECONDS = 1.0
WATCH_ITEMS_SECONDS = 0.02
"""Seconds between two checks of the log for changes by processes outside of this service, such as an import."""
NICENESS = 8
"""Of the thread that opens versions; it gets a seventh of a core that the event loop needs as well."""


@dataclass(frozen=True)
class Current:
    """The version that serves: its engine, and the limits of its calls."""

    engine: Engine
    limits: RequestLimits

    @property
    def version(self) -> Version:
        return self.engine.version

    @property
    def collection(self) -> Collection:
        """The version with its later changes."""
        return self.engine.collection


def _nothing(number: int = 0) -> None:
    pass


@dataclass(frozen=True)
class Health:
    """The state that the worker processes of one service share.

    Attributes:
        beat: reports that the event loop runs, and the number of the serving version.
        check: raises NotReadyError if another worker is not healthy.
        stopping: whether this process is about to end.
        sequence: the last change that a worker has acknowledged, or used in an answer.
        publish: reports such a change to the other workers.
    """

    beat: Callable[[int], None] = _nothing
    check: Callable[[], None] = _nothing
    stopping: Callable[[], bool] = lambda: False
    sequence: Callable[[], int] = lambda: 0
    publish: Callable[[int], None] = _nothing


class Serving:
    """Serves one version at a time; create it inside the event loop that serves."""

    def __init__(self, settings: Settings, collection: Collection, metrics: Metrics, health: Health) -> None:
        self._health = health
        self._settings = settings
        self._metrics = metrics
        self._store = Store(settings.store)
        self._engines = engine_thread("engine")
        self._loader = engine_thread("loader", niceness=NICENESS)
        self.photos = PhotoReader(settings.torch_threads, settings.deadline_seconds)
        self._following = asyncio.Lock()
        self.refused: int | None = None  # the champion, if it cannot serve
        self._change_writer = ChangeWriter(settings.store, health.publish)
        self._catching_up = asyncio.Lock()
        self._progress = asyncio.Event()
        self._lag: Exception | None = None
        self._lost: Exception | None = None
        self._compactor = Compactor(settings.store, settings.compact_share, settings.keep_versions)
        self.current = self._serve(self._engine(collection))
        tasks = {"beat": self._beat(), "watcher": self._watch(), "items": self._watch_items()}
        tasks |= {"change log": self._measure_log(), "drift": metrics.share_drift()}
        self._tasks = {name: asyncio.create_task(task) for name, task in tasks.items()}

    def check_alive(self) -> None:
        """Raises NotReadyError if the service is shutting down, or a part of it has failed."""
        if self._health.stopping():
            raise NotReadyError("service", expected="a running service", found="a service that is shutting down")
        for name, task in self._tasks.items():
            if task.done():
                raise NotReadyError(name, expected="a running task", found="a task that has ended")
        if self._lag:
            expected, found = "all changes of the change log", "changes that cannot be applied"
            raise NotReadyError("items", expected=expected, found=found)
        self._check_store()
        self._health.check()

    async def write(self, changes: Sequence[Change], embeddings: Floats | None = None, version: int = 0) -> list[int]:
        """Write changes, all or none, and apply them; the other processes do so before their next answer.

        `embeddings`: (n, latent_dim) float32 of the changes, by that version; None for deletions.

        Returns:
            Each change's sequence number; 0 if `ChangeLog.append_each` skipped it.

        Raises:
            NotReadyError: a file of the store is missing; nothing is written.
            LogError: the log cannot be written; nothing is written.
            ArtifactError: the changes are written, but the log cannot be read; this process is then not ready.
        """
        self._check_store()
        written = await self._change_writer.append(changes, embeddings, version)
        await self._catch_up()
        return written

    async def has_item(self, name: str) -> bool:
        """Whether an item has this id, also if this version's encoder cannot read it.

        Raises LogError or ArtifactError if the log cannot be read.
        """
        return self.current.collection.items.find(name) is not None or await self._change_writer.has_item(name)

    async def preview(self, current: Current, name: str) -> bytes | None:
        """The preview of an item, a WebP file; None if it has none.

        Raises LogError or ArtifactError if the log cannot be read.
        """
        version, position = current.version, current.collection.items.find(name)
        if position is None:
            return None
        if position >= len(version.items):  # a new item
            return await self._change_writer.preview(name)
        return (version.previews.at(position) or None) if version.previews else None

    async def input_of(self, collection: Collection, name: str) -> Floats:
        """The input of an item, (width,) float32, minus the encoder's origin.

        Raises UnknownItemError or QueryError as `index.changes.item_inputs.input_of` does.
        """
        found = input_in_version(collection, name)
        return input_in_log(collection, name, await self._change_writer.last_change(name)) if found is None else found

    async def wait_for_sequence(self, current: Current, min_sequence: int = 0) -> None:
        """Wait until `current` includes every acknowledged change, and the change `min_sequence` of the log.

        Raises:
            NotReadyError: the log does not have them before the call's deadline.
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
                while self.current.collection.applied < min_sequence:  # another process may still write it
                    await self._progress.wait()
                if current.collection.applied < min_sequence:
                    await self._catch_up(current.engine)
        except TimeoutError as error:
            raise _behind(min_sequence, current) from error

    async def follow(self) -> Current:
        """Serve the champion now, if another version serves.

        Raises RefusedError if it cannot serve; the version that served before continues.
        """
        async with self._following:
            number = self.current.version.number
            try:
                number = self._store.champion_number()
                if number != self.current.version.number:
                    work = partial(checked_collection, self._store, number, self._settings.device)
                    await self._replace(await asyncio.get_running_loop().run_in_executor(self._loader, work))
                    self._metrics.changed("served")
            except Exception as error:  # for every error of the other version, this version continues
                reason = str(error) if isinstance(error, LookalikeError) else repr(error)
                self._refuse(number, reason)
                raise RefusedError("version", expected="a champion that can serve", found=reason) from error
            self.refused = None
            self._metrics.refused(0)
            return self.current

    async def close(self) -> None:
        """Stop the background tasks and the threads."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._metrics.close()
        await self._compactor.close()
        await self._change_writer.close()
        self.photos.close()
        self._loader.shutdown()
        self._engines.shutdown()

    def _check_store(self) -> None:
        """Raises NotReadyError while the store lacks the alias, or a file of the serving version."""
        if self._lost:
            expected = "the alias and every file of the serving version"
            raise NotReadyError("store", expected=expected, found="a missing file; the service's log names it")

    async def _replace(self, collection: Collection) -> None:
        """Serve the collection, with all changes acknowledged so far; none is acknowledged in between."""
        engine = self._engine(collection)
        async with self._catching_up:
            await self._change_writer.catch_up(engine)
            self.current = self._serve(engine)

    async def _catch_up(self, engine: Engine | None = None) -> None:
        """Apply the log's new changes to an engine, by default to the serving engine."""
        async with self._catching_up:
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
        self.refused = number
        self._metrics.refused(number)
        self._metrics.changed("refused")
        lifecycle("refused", version=number, reason=reason)

    async def _beat(self) -> None:
        """Report that this process is healthy; a separate task, because to open a version may take long."""
        while True:
            self._health.beat(self.current.version.number)
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch(self) -> None:
        """Follow the alias, and check the store. A refused version is tried again when the alias is written again."""
        seen: tuple[int, ...] | None = None  # the alias may have been written since the serving version was opened
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            lost = self._find_lost()  # before the alias: a version that is no longer the champion may be removed
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
        """The error of a missing file, without which the service could not start again; None if all files exist."""
        try:
            if not self._store.alias_stamp():
                self._store.champion_number()
            check_exists(self.current.version.sealed)
        except (LookalikeError, OSError) as error:
            return error
        return None

    async def _watch_items(self) -> None:
        """Apply the changes that other processes write, and start a compaction once there are many."""
        while True:
            await asyncio.sleep(WATCH_ITEMS_SECONDS)
            try:
                if await self._change_writer.has_news() or self._lag:
                    await self._catch_up()
            except (LookalikeError, RuntimeError) as error:  # the next attempt may succeed
                if self._lag is None:
                    lifecycle("changes not applied", reason=str(error))
                self._lag = error
                continue
            self._lag = None
            self._compactor.poll(self.current.collection)

    async def _measure_log(self) -> None:
        while True:
            with contextlib.suppress(LookalikeError):  # `_watch_items` logs it
                self._metrics.log(await self._change_writer.size())
            await asyncio.sleep(MEASURE_SECONDS)


def _behind(sequence: int, current: Current) -> NotReadyError:
    found = f"a log whose last change is {current.collection.applied}"
    return NotReadyError("items", expected=f"change {sequence} of the change log", found=found)
