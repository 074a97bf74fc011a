"""How the last retraining of a store ended: STORE/retraining/report.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from lookalike.index.changes.retention import JOB
from lookalike.index.versions.manifest import Alignment, RetrainedRows
from lookalike.index.versions.store import Store
from lookalike.index.versions.verdict import Verdict
from lookalike.training.sealed import replacing

__all__ = ["Report", "RetrainOutcome", "retraining_folder", "write_report"]

RetrainOutcome = Literal["promoted", "kept", "failed"]


@dataclass(frozen=True)
class Report:
    """How a retraining ended.

    Attributes:
        reason: a sentence.
        champion: the version that was to be replaced; None if there was none.
        version: the version that was built, if any.
        data: the rows that the encoder was trained on.
        gate: the verdict; None if the retraining ended earlier.
        removed: versions that were pruned afterwards.
    """

    outcome: RetrainOutcome
    reason: str
    champion: int | None = None
    version: int | None = None
    forced: bool = False
    data: RetrainedRows | None = None
    drift: dict[str, Any] | None = None
    gate: Verdict | None = None
    alignment: Alignment | None = None
    removed: tuple[int, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as text, the outcome last."""
        lines = self.gate.lines()[1:] if self.gate else []
        if (alignment := self.alignment) is not None:
            lines.append(
                f"alignment: mapped embeddings of version {alignment.older} find {alignment.recall:.4f} of what "
                f"re-embedded rows find; {alignment.churn:.4f} of the 10 nearest changed"
            )
        if self.removed:
            lines.append(f"removed: versions {', '.join(map(str, self.removed))}")
        outcome = {
            "promoted": f"promoted: version {self.version} replaces version {self.champion}",
            "kept": f"kept: version {self.champion}"
            + (f"; version {self.version} was not promoted" if self.version else ""),
            "failed": "failed",
        }[self.outcome]
        return [*lines, f"{outcome}{', forced' if self.forced else ''}: {self.reason}"]


def retraining_folder(store: Store) -> Path:
    """Return the folder of the retraining's files."""
    return (store.folder / JOB).parent


def write_report(store: Store, report: Report) -> None:
    """Replace the report of the store."""
    retraining_folder(store).mkdir(exist_ok=True)
    with replacing(retraining_folder(store) / "report.json") as new:
        new.write_bytes(TypeAdapter(Report).dump_json(report, indent=1) + b"\n")
