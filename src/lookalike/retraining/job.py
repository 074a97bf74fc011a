"""What a retraining leaves on disk: the job that can go on after a crash, and the report of the last one.

STORE/retraining/job.json      what is being done: there from the first step until the outcome is known
STORE/retraining/run/          the training run (training.fit.job); it stays until the next job begins
STORE/retraining/report.json   how the last one ended
"""

import json
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lookalike.index.changes.retention import JOB
from lookalike.index.errors import StoreError
from lookalike.index.versions.store import Store
from lookalike.index.versions.verdict import Verdict
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import replacing, sync_folder

__all__ = [
    "Job",
    "Report",
    "begin",
    "end",
    "folder_of",
    "manifest_or_empty",
    "promoting",
    "read_job",
    "run_of",
    "write_report",
]

FOLDER = Path(JOB).parent.name
RetrainOutcome = Literal["promoted", "kept", "failed"]


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

    def made(self, store: Store) -> int | None:
        """The version that it built, if it came so far."""
        for number in reversed(store.numbers()):
            header = manifest_or_empty(store, number)
            if header.get("retrained", {}).get("job") == self.token and not header["compacted"]:
                return number
        return None


@dataclass(frozen=True)
class Report:
    """How a retraining ended.

    Attributes:
        reason: a sentence.
        champion: the version that was to be replaced; None where there was none.
        version: the one that was built, if one was.
        data: what it was trained on.
        gate, alignment: as in a version's manifest; empty where it did not come so far.
    """

    outcome: RetrainOutcome
    reason: str
    champion: int | None = None
    version: int | None = None
    forced: bool = False
    data: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    alignment: dict[str, Any] | None = None
    removed: tuple[int, ...] = ()

    def lines(self, verdict: Verdict | None = None) -> list[str]:
        """For people; the outcome last."""
        told = verdict.lines()[1:] if verdict else []
        if self.alignment and "recall" in self.alignment:
            its = self.alignment
            told.append(
                f"alignment: mapped embeddings of version {its['from']} find {its['recall']:.4f} of what re-embedded "
                f"rows find; {its['churn']:.4f} of the 10 nearest are others than before"
            )
        if self.removed:
            told.append(f"removed: versions {', '.join(map(str, self.removed))}")
        place = {
            "promoted": f"promoted: version {self.version}, in the place of {self.champion}",
            "kept": f"kept: version {self.champion}",
            "failed": "failed",
        }[self.outcome]
        return [*told, f"{place}{', forced' if self.forced else ''}: {self.reason}"]


def manifest_or_empty(store: Store, number: int) -> dict[str, Any]:
    """A version's manifest; of one that is damaged or gone, nothing."""
    try:
        return store.manifest(number)
    except (ArtifactError, StoreError):
        return {}


def folder_of(store: Store) -> Path:
    return store.folder / FOLDER


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
    _write(store.folder / JOB, asdict(job))


def promoting(store: Store, job: Job) -> None:
    """The version that the job made is promoted next: whether the alias was written since, its stamp tells."""
    _write(store.folder / JOB, asdict(replace(job, alias=list(store.alias_stamp()))))


def end(store: Store) -> None:
    """Nothing is left to go on with."""
    if folder_of(store).is_dir():
        (store.folder / JOB).unlink(missing_ok=True)
        sync_folder(folder_of(store))


def write_report(store: Store, report: Report) -> None:
    folder_of(store).mkdir(exist_ok=True)
    _write(folder_of(store) / "report.json", asdict(report))


def _write(path: Path, told: dict[str, Any]) -> None:
    """Whole or not at all, and durably; one process at a time does."""
    with replacing(path) as new:
        new.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
