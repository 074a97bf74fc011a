"""What a retraining leaves on disk to continue after a crash.

STORE/retraining/job.json      the job: exists from the first step until the outcome is known
STORE/retraining/run/          the training run (training.fit.job); it stays until the next job starts
STORE/retraining/report.json   how the last retraining ended (lookalike.retraining.report)
"""

import json
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lookalike.index.changes.retention import JOB
from lookalike.index.errors import StoreError
from lookalike.index.versions.manifest import VersionManifest
from lookalike.index.versions.store import Store
from lookalike.retraining.report import folder_of
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import replacing, sync_folder

__all__ = ["Job", "begin", "end", "job_of", "promoting", "read_job", "run_of"]


@dataclass(frozen=True)
class Job:
    """What a retraining was begun with; one that is cut off goes on only with the same.

    Attributes:
        encoder: the champion's, by its digest: the champion may be compacted meanwhile.
        data: the digest of the champion's source.
        config: the settings of the training, as plain JSON.
        sequence: up to which change of the change log its data goes.
        token: its name, by which the version that it made is known.
        alias: the stamp of the store's alias just before that version was to be promoted; None until then.
    """

    encoder: str
    data: str
    config: dict[str, Any]
    sequence: int
    token: str = field(default_factory=partial(secrets.token_hex, 16))
    alias: list[int] | None = None

    def is_like(self, other: "Job") -> bool:
        """Does it want the same, but for the change up to which it goes?"""
        mine, its = ({**asdict(job), "token": "", "sequence": 0, "alias": None} for job in (self, other))
        return mine == its

    def built_version(self, store: Store) -> int | None:
        """Return the version that the job built; None if it did not get that far."""
        for number in reversed(store.numbers()):
            manifest = _manifest(store, number)
            if manifest and not manifest.compacted and job_of(store, number) == self.token:
                return number
        return None


def job_of(store: Store, number: int) -> str | None:
    """Return the name of the job that retrained the encoder of a version; None if there is none, or no such version."""
    manifest = _manifest(store, number)
    return manifest.retraining.job if manifest and manifest.retraining else None


def run_of(store: Store) -> Path:
    """Where the encoder is trained."""
    return folder_of(store) / "run"


def read_job(store: Store) -> Job | None:
    """The job that was cut off; None where there is none, or nothing that can be read as one."""
    try:
        job = Job(**json.loads((store.folder / JOB).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return job if isinstance(job.token, str) and isinstance(job.sequence, int) else None


def begin(store: Store, job: Job) -> None:
    """A new job, in an empty folder."""
    folder = folder_of(store)
    folder.mkdir(exist_ok=True)
    (store.folder / JOB).unlink(missing_ok=True)
    shutil.rmtree(run_of(store), ignore_errors=True)
    _write(store, job)


def promoting(store: Store, job: Job) -> None:
    """The version that the job made is promoted next: whether the alias was written since, its stamp tells."""
    _write(store, replace(job, alias=list(store.alias_stamp())))


def end(store: Store) -> None:
    """Nothing is left to go on with."""
    if folder_of(store).is_dir():
        (store.folder / JOB).unlink(missing_ok=True)
        sync_folder(folder_of(store))


def _write(store: Store, job: Job) -> None:
    with replacing(store.folder / JOB) as new:
        new.write_text(json.dumps(asdict(job), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _manifest(store: Store, number: int) -> VersionManifest | None:
    """Return None if the version was removed or its manifest is damaged."""
    try:
        return store.manifest(number)
    except (ArtifactError, StoreError):
        return None
