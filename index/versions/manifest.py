"""The typed manifest of a version: a build, a compaction and a retraining write it, and every reader checks it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lookalike.index.ann.spec import MAX_KEY, Metric
from lookalike.index.ann.target import TuningTrial
from lookalike.index.items.ids import MAX_ID
from lookalike.index.versions.verdict import Verdict
from lookalike.training.artifact.fields import Count, Digest, Fields, NotNegative, Share, check_fields
from lookalike.training.sealed import read_manifest

__all__ = [
    "CANARY_LIMIT",
    "FORMAT",
    "Alignment",
    "CanaryAnswer",
    "DataSource",
    "Evidence",
    "IndexSection",
    "Lineage",
    "RetrainedRows",
    "Retraining",
    "TargetSection",
    "Tuning",
    "VersionManifest",
    "read_version",
]

FORMAT = "lookalike-version/5"
CANARY_LIMIT = 3  # Hits of the canary query's answer
_Duration = Annotated[float, Field(ge=0)]


class IndexSection(Fields):
    """`index.ann.spec.IndexSpec`."""

    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
    metric: Metric
    search: Annotated[str, Field(max_length=200)] = ""


class DataSource(Fields):
    """The rows that the version was built from."""

    name: str
    rows: Count
    shape: Annotated[list[Count], Field(min_length=1, max_length=8)]
    sha256: Digest


class Evidence(Fields):
    """Recall and speed of the index, measured with held-out rows."""

    k: Count
    queries: NotNegative
    recall: Share
    low: Share
    high: Share
    latency_us: _Duration
    batch_us: _Duration
    bytes: NotNegative


class TargetSection(Fields):
    """`index.ann.target.Target`."""

    recall: Annotated[float, Field(gt=0, le=1)]
    memory: Annotated[int, Field(ge=1, le=1 << 62)] | None
    latency_us: Annotated[float, Field(gt=0, le=1e12)] | None
    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)] | None


class Tuning(Fields):
    """How the index was chosen."""

    target: TargetSection
    chosen: TuningTrial
    reason: str
    trials: list[TuningTrial]
    skipped: dict[str, str]
    seconds: _Duration


class CanaryAnswer(Fields):
    """Ids and scores of the canary query's hits, best first."""

    ids: list[Annotated[str, Field(min_length=1, max_length=MAX_ID)]]
    scores: list[float]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ids) != len(self.scores) or len(self.ids) > CANARY_LIMIT:
            raise ValueError(f"at most {CANARY_LIMIT} ids, and one score for each")
        return self


class Alignment(Fields):
    """The map from the embeddings of an older version (index.versions.alignment_report)."""

    older: Count
    kind: Literal["orthogonal", "linear"]
    fitted: NotNegative
    recall: Share
    queries: NotNegative
    churn: Share


class RetrainedRows(Fields):
    """The rows that a retraining trained on."""

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


class Retraining(Fields):
    """How a retraining trained and judged the encoder of the version.

    Attributes:
        job: the name of the job.
        trained_to: the last change of the change log that the encoder was trained on.
        gate: the verdict; a compaction drops it.
        forced: whether the version was promoted although the gate refused it.
        alignment: None if there were too few rows to fit a map.
    """

    job: str
    trained_to: NotNegative
    gate: Verdict | None = None
    forced: bool
    alignment: Alignment | None = None
    rows: RetrainedRows


class Lineage(Fields):
    """The version that this version was made from, by a compaction or by a retraining."""

    parent: Count
    compacted: bool
    retraining: Retraining | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.compacted and (self.retraining is None or self.retraining.gate is None):
            raise ValueError("retraining: a retraining with the verdict of the gate, if the version is no compaction")
        return self


class VersionManifest(Fields):
    """All fields of a version's manifest. `lineage` is missing in a version that was built."""

    format: str
    version: Count
    encoder: Digest
    index: IndexSection
    items: Count
    sequence: NotNegative
    held: list[NotNegative]
    data: DataSource
    columns: list[dict[str, Any]]
    evidence: Evidence
    tuning: Tuning
    canary: CanaryAnswer
    lineage: Lineage | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.held)) < len(self.held) or max(self.held, default=-1) >= self.items:
            raise ValueError(f"held: different positions of {self.items} items")
        return self

    @property
    def retraining(self) -> Retraining | None:
        """The retraining of the encoder; None if the encoder was not retrained."""
        return self.lineage.retraining if self.lineage else None

    @property
    def parent(self) -> int | None:
        return self.lineage.parent if self.lineage else None

    @property
    def compacted(self) -> bool:
        return self.lineage is not None and self.lineage.compacted

    @property
    def trained_to(self) -> int:
        """The last change of the change log that the encoder was trained on; 0 if it was trained on none."""
        return self.retraining.trained_to if self.retraining else 0

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON, without the fields that were not set."""
        return self.model_dump(mode="json", exclude_unset=True)


def read_version(folder: Path) -> VersionManifest:
    """Read the manifest of a version; the files that it lists are not read.

    Raises ArtifactError if it is missing or damaged, or if a field is wrong; then the error names the field.
    """
    return check_fields(read_manifest(folder, FORMAT), VersionManifest)
