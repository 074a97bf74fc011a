"""Which version serves, and how another takes its place while requests run.

A request takes `current` once and keeps it to its last byte, so no answer is made by two versions. The alias is looked
at ten times a second. What it names is opened, checked and warmed in a thread while the old version serves. Where that
fails the old one goes on, and what is wrong with the other one is told.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from index.store import Store
from index.version import Version
from service.checking import checked_version
from service.decoding import Bounds
from service.engine import Engine, Patience, engine_thread
from service.errors import NotReadyError, RefusedError
from service.logs import lifecycle
from service.metrics import Metrics
from service.settings import Settings
from training.errors import LookalikeError

__all__ = ["Current", "Pulse", "Refusal", "Serving"]

WATCH_SECONDS = 0.1
NICENESS = 8
"""Of the thread that opens versions: it has a seventh of a core that the event loop wants as well."""


@dataclass(frozen=True)
class Current:
    """The version that serves: its engine, and what a call to it may have."""

    engine: Engine
    bounds: Bounds

    @property
    def version(self) -> Version:
        return self.engine.version


def _nothing(number: int = 0) -> None:
    pass


@dataclass(frozen=True)
class Pulse:
    """How this process and those beside it are.

    Attributes:
        beat: say that the event loop goes on, and the number of the version that serves.
        check: raises NotReadyError where a process beside this one is not well.
        stopping: is this process about to end?
    """

    beat: Callable[[int], None] = _nothing
    check: Callable[[], None] = _nothing
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Refusal:
    """The champion that cannot serve, and why."""

    version: int
    reason: str


class Serving:
    """Answers from one version at a time; make it inside the event loop that it serves on."""

    def __init__(self, settings: Settings, version: Version, metrics: Metrics, pulse: Pulse) -> None:
        self._pulse = pulse
        self._settings = settings
        self._metrics = metrics
        self._store = Store(settings.store)
        self._engines = engine_thread("engine")
        self._loader = engine_thread("loader", niceness=NICENESS)
        self._turn = asyncio.Lock()
        self.refused: Refusal | None = None
        self.current = self._serve(version)
        self._tasks = {
            "beat": asyncio.create_task(self._beat()),
            "watcher": asyncio.create_task(self._watch()),
            "drift": asyncio.create_task(metrics.share_drift()),
        }

    def check_alive(self) -> None:
        """Raises NotReadyError once the service stops, or where something that it needs has died."""
        if self._pulse.stopping():
            raise NotReadyError("service", expected="one that goes on", found="one that stops")
        for name, task in self._tasks.items():
            if task.done():
                raise NotReadyError(name, expected="a task that goes on", found="one that died")
        self._pulse.check()

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
                    self.current = self._serve(await loop.run_in_executor(self._loader, self._open, number))
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
        self._loader.shutdown()
        self._engines.shutdown()

    def _open(self, number: int) -> Version:
        return checked_version(self._store, number, self._settings.device)

    def _serve(self, version: Version) -> Current:
        patience = Patience(self._settings.max_waiting, self._settings.deadline_seconds)
        engine = Engine(version, self._engines, patience=patience, metrics=self._metrics)
        self._metrics.serving(version.number, len(version.items), len(version.novelty.rows))
        lifecycle("serving", version=version.number, items=len(version.items))
        return Current(engine, Bounds.of(version.encoder, self._settings))

    def _refuse(self, number: int, reason: str) -> None:
        self.refused = Refusal(number, reason)
        self._metrics.refused(number)
        self._metrics.changed("refused")
        lifecycle("refused", version=number, reason=reason)

    async def _beat(self) -> None:
        """By itself: to open a version may take long, and meanwhile this process is well."""
        while True:
            self._pulse.beat(self.current.version.number)
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch(self) -> None:
        """What was refused is tried again only when the alias is written again, or someone asks for it."""
        seen: tuple[int, ...] | None = None  # it may have been written since the version that serves was opened
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            stamp = self._store.alias_stamp()
            if stamp != seen:
                seen = stamp
                try:
                    await self.follow()
                except RefusedError:
                    continue  # it is told where it was found out
