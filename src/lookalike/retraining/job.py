"""The state of a retraining on disk, with which it continues after a crash.

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
from lookalike.index.versions.store import Store
from lookalike.retraining.report import retraining_folder
from lookalike.training.sealed import replacing, sync_folder

__all__ = ["Job", "begin", "end", "job_of", "note_promotion", "read_job", "run_of"]


@dataclass(frozen=True)
class Job:
    """The inputs of a retraining; an interrupted retraining continues only with the same inputs.

    Attributes:
        encoder: the digest of the champion's encoder; a compaction of the champion keeps it.
        data: the digest of the champion's source.
        config: the settings of the training, as plain JSON.
        sequence: the last change of the change log that is included.
        token: the name of the job, which the manifest of its version contains.
        alias: the stamp of the store's alias just before the promotion of that version; None until then.
    """

    encoder: str
    data: str
    config: dict[str, Any]
    sequence: int
    token: str = field(default_factory=partial(secrets.token_hex, 16))
    alias: list[int] | None = None

    def is_like(self, other: "Job") -> bool:
        """Whether encoder, data and config are equal."""
        return (self.encoder, self.data, self.config) == (other.encoder, other.data, other.config)

    def built_version(self, store: Store) -> int | None:
        """Return the version that the job built; None if it did not get that far."""
        for number in reversed(store.numbers()):
            manifest = store.readable_manifest(number)
            if manifest and not manifest.compacted and job_of(store, number) == self.token:
                return number
        return None


def job_of(store: Store, number: int) -> str | None:
    """Return the name of the job that retrained the encoder of a version; None if there is none, or no such version."""
    manifest = store.readable_manifest(number)
    return manifest.retraining.job if manifest and manifest.retraining else None


def run_of(store: Store) -> Path:
    """Return the folder of the training run."""
    return retraining_folder(store) / "run"


def read_job(store: Store) -> Job | None:
    """Return the interrupted job; None if there is no job, or its file is damaged."""
    try:
        job = Job(**json.loads((store.folder / JOB).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return job if isinstance(job.token, str) and isinstance(job.sequence, int) else None


def begin(store: Store, job: Job) -> None:
    """Write a new job, and remove the run of the last job."""
    folder = retraining_folder(store)
    folder.mkdir(exist_ok=True)
    (store.folder / JOB).unlink(missing_ok=True)
    shutil.rmtree(run_of(store), ignore_errors=True)
    _write(store, job)


def note_promotion(store: Store, job: Job) -> None:
    """Note that the job's version is promoted next. The alias's stamp shows later whether the alias was written."""
    _write(store, replace(job, alias=list(store.alias_stamp())))


def end(store: Store) -> None:
    """Remove the job: nothing is left to continue."""
    if retraining_folder(store).is_dir():
        (store.folder / JOB).unlink(missing_ok=True)
        sync_folder(retraining_folder(store))


def _write(store: Store, job: Job) -> None:
    with replacing(store.folder / JOB) as new:
        new.write_text(json.dumps(asdict(job), indent=1, allow_nan=False) + "\n", encoding="utf-8")
