"""The typed manifest of a version: a build, a compaction and a retraining write it, and every reader checks it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lookalike.index.ann.spec import MAX_KEY, Metric
from lookalike.index.ann.target import TuningTrial
from lookalike.index.items.ids import MAX_ID
from lookalike.index.versions.verdict import Verdict
from lookalike.training.artifact.manifest import (
    MAX_SAFE_INTEGER,
    Count,
    Digest,
    Fields,
    NotNegative,
    Share,
    check_fields,
)
from lookalike.training.sealed import Sealed, read_manifest

__all__ = ["CANARY_LIMIT", "FORMAT", "VersionManifest", "read_version"]

FORMAT = "lookalike-version/4"
CANARY_LIMIT = 3
"""Hits of the canary query's answer."""
_Duration = Annotated[float, Field(ge=0)]


class _Index(Fields):
    """`index.ann.spec.IndexSpec`."""

    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
    metric: Metric
    search: Annotated[str, Field(max_length=200)] = ""


class _Data(Fields):
    """The rows that the version was built of."""

    name: str
    rows: Count
    shape: Annotated[list[Count], Field(min_length=1, max_length=8)]
    sha256: Digest


class _Evidence(Fields):
    """What was measured of the index."""

    k: Count
    queries: NotNegative
    recall: Share
    low: Share
    high: Share
    latency_us: _Duration
    batch_us: _Duration
    bytes: NotNegative


class _Target(Fields):
    """`index.ann.target.Target`, within its bounds."""

    recall: Annotated[float, Field(gt=0, le=1)]
    memory: Annotated[int, Field(ge=1, le=1 << 62)] | None
    latency_us: Annotated[float, Field(gt=0, le=1e12)] | None
    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)] | None


class _Tuning(Fields):
    """How the index was chosen."""

    target: _Target
    chosen: TuningTrial
    reason: str
    trials: list[TuningTrial]
    skipped: dict[str, str]
    seconds: _Duration


class _Answer(Fields):
    """Ids and scores of the canary query's hits, best first."""

    ids: list[Annotated[str, Field(min_length=1, max_length=MAX_ID)]]
    scores: list[float]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ids) != len(self.scores) or len(self.ids) > CANARY_LIMIT:
            raise ValueError(f"at most {CANARY_LIMIT} ids, and as many scores")
        return self


class _Alignment(Fields):
    """The map from the embeddings of the version that this one was made from (index.versions.alignment_report)."""

    of: Annotated[Count, Field(alias="from")]
    kind: Literal["orthogonal", "linear"] = "orthogonal"
    fitted: NotNegative = 0
    recall: Share = 0
    asked: NotNegative = 0
    churn: Share = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_together("kind", "fitted", "recall", "asked", "churn")
        return self


class _Retrained(Fields):
    """Which rows a retraining trained on."""

    job: str
    name: str
    sha256: Digest
    sequence: NotNegative
    rows: Count
    new: NotNegative
    replaced: NotNegative
    deleted: NotNegative
    unreadable: NotNegative
    outside: NotNegative
    outside_first: list[str]
    held: NotNegative
    settings: str


class VersionManifest(Fields):
    """All fields; what a build does not say, a compaction or a retraining does."""

    format: str
    version: Count
    encoder: Digest
    index: _Index
    items: Count
    sequence: NotNegative
    held: list[Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]]
    data: _Data
    columns: list[dict[str, Any]]
    evidence: _Evidence
    tuning: _Tuning
    answer: _Answer
    parent: Count = 1
    compacted: bool = False
    trained_to: NotNegative = 0
    gate: Verdict | None = None
    forced: bool = False
    alignment: _Alignment | None = None
    retrained: _Retrained | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.held)) < len(self.held) or max(self.held, default=-1) >= self.items:
            raise ValueError(f"held: places of {self.items} items, that differ")
        self.check_together("parent", "compacted")
        judged = ("gate",) if self.gate or not self.compacted else ()  # a compaction drops it
        self.check_together("trained_to", "forced", "alignment", "retrained", *judged)
        return self


def read_version(folder: Path) -> Sealed:
    """The manifest of a version, checked field by field; the files that it lists are not looked at.

    Raises:
        ArtifactError: it is missing or damaged, or a field is wrong, which is named.
    """
    sealed = read_manifest(folder, FORMAT)
    check_fields(sealed, VersionManifest)
    return sealed
