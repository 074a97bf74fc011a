"""The tables and lines that the commands print."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from lookalike.index.versions.registry import registry
from lookalike.index.versions.store import Store

if TYPE_CHECKING:  # commands that only list versions start fast
    from lookalike.index.evaluation.evaluate import EvaluationResult
    from lookalike.index.versions.manifest import VersionManifest
    from lookalike.index.versions.version import Version
    from lookalike.training.evaluation.judge import EncoderScore
    from lookalike.training.evaluation.probe import ProbeScores
    from lookalike.training.fit.auto_fix import AutoFixResult
    from lookalike.training.history import State
    from lookalike.training.tables.columns import Column

__all__ = [
    "auto_fix_table",
    "columns_line",
    "evaluation_table",
    "findings_text",
    "history_line",
    "scores_table",
    "tuning_line",
    "versions_table",
]


def scores_table(rows: "list[EncoderScore]") -> Table:
    """One row for each way to embed; the column of moved pictures only if there are such queries."""
    moved = any(row.moved_precision is not None for row in rows)
    names = ["precision@10", "precision@10, noisy", *(["precision@10, moved"] if moved else [])]
    table = Table("", "reconstruction error", *names, "bytes per item")
    for row in rows:
        precisions = (row.precision, row.noisy_precision, row.moved_precision)[: len(names)]
        shown = (f"{p:.3f}" if p is not None else "no labels" for p in precisions)
        error = "" if math.isnan(row.reconstruction) else f"{row.reconstruction:.4f}"
        table.add_row(row.name, error, *shown, f"{row.bytes_per_item:,}")
    return table


def versions_table(store: Store) -> Table:
    """One row for each version. `changes` is the last change of the change log that the version contains."""
    table = Table()
    for name in ("version", "", "created by", "replaced", "data", "items", "changes", "index", "metric", "recall@10"):
        table.add_column(name, overflow="fold")
    table.add_column("µs per query")
    for version in registry(store):
        if version.manifest is None:
            table.add_row(str(version.number), f"{version.role} damaged".strip())
        else:
            replaced = "" if version.replaced is None else str(version.replaced)
            table.add_row(str(version.number), version.role, version.created_by, replaced, *_evidence(version.manifest))
    return table


def tuning_line(manifest: "VersionManifest") -> str:
    """The index that was chosen, and the reason."""
    return f"{manifest.index.key} {manifest.index.search}".strip() + f": {manifest.tuning.reason}"


def _evidence(manifest: "VersionManifest") -> list[str]:
    return [
        f"{Path(manifest.data.name).name} {manifest.data.sha256[:8]}",
        f"{manifest.items:,}",
        f"{manifest.sequence:,}",
        manifest.index.key,
        manifest.index.metric,
        f"{manifest.evidence.recall:.4f}",
        f"{manifest.evidence.latency_us:.0f}",
    ]


def evaluation_table(version: "Version", evaluated: "EvaluationResult", probes: "ProbeScores | None" = None) -> Table:
    """The index's loss (embedding to hits) and the encoder's loss (rows to embedding), separately and together."""
    then, now = version.manifest.evidence, evaluated.measured
    table = Table(f"version {version.number}", "at build", "now", caption=evaluated.advice, caption_justify="left")
    table.add_row("embedding -> index: recall@10", f"{then.recall:.4f}", f"{now.recall:.4f}")
    table.add_row("  µs a query, one thread", f"{then.latency_us:.1f}", f"{now.latency_us:.1f}")
    table.add_row("  queries", f"{then.queries:,}", f"{now.queries:,}")
    if evaluated.held:
        table.add_row("  of these, items of the version (an item finds itself)", "", f"{evaluated.held:,}")
    encoding = evaluated.encoding
    shares = {"raw rows": encoding.neighbours, "same label": encoding.labels} if encoding else {}
    for name, kept in shares.items():
        if kept:
            table.add_row(f"rows -> embedding: neighbors of the {name} kept", "", f"{kept.encoder:.4f}")
            table.add_row("  by PCA of the same dimension, and by chance", "", f"{kept.pca:.4f}, {kept.chance:.4f}")
    if evaluated.recovered is not None:
        table.add_row("  corrupted rows that find their original", "", f"{evaluated.recovered:.4f}")
    precision = "no labels" if evaluated.precision is None else f"{evaluated.precision:.4f}"
    table.add_row("both: label precision@10", "", precision)
    if probes:
        scores = {"linear probe": probes.linear, "MLP probe": probes.mlp, "k-NN": probes.neighbours}
        for name, metrics in scores.items():
            for metric, value in metrics.items():
                table.add_row(f"{name} {metric}", "", f"{value:.4f}")
    return table


def findings_text(state: "State") -> str:
    """Five lines for each finding on a run, the first cause first."""
    from lookalike.training.doctor.case import Case
    from lookalike.training.doctor.causes import diagnose

    findings = diagnose(state)
    if not findings:
        return f"No finding: the best validation loss is {Case.of(state).best:.1%} of a constant output's."
    return "\n\n".join(
        f"{finding.cause} ({finding.sure})\n"
        f"  seen    {finding.seen}\n"
        f"  why     {finding.why}\n"
        f"  change  {finding.change}\n"
        f"  more    lookalike explain {finding.topic}"
        for finding in findings
    )


def auto_fix_table(result: "AutoFixResult") -> Table:
    """The run before and after the first advice; losses are shares of the loss of a constant output."""
    from lookalike.training.doctor.case import Case
    from lookalike.training.doctor.causes import diagnose

    table = Table("", "before", "after", title=f"{result.advice.cause}: {result.advice.change}", title_justify="left")
    states = (result.before, result.after)
    table.add_row("epochs", *(f"{len(state.history)} ({state.stopped})" for state in states))
    best = [Case.of(state).best for state in states]
    shares = (f"{share:.1%}" if math.isfinite(share) else "none" for share in best)
    table.add_row("best validation loss, share of a constant output's", *shares)
    if best[1] >= best[0]:
        table.caption, table.caption_justify = "The advice did not help: look at the other findings.", "left"
    table.add_row("findings", *(", ".join(f.cause for f in diagnose(state)) or "none" for state in states))
    return table


def columns_line(columns: "Sequence[Column]") -> str:
    """The input columns with their types; the parts of one field together."""
    fields: dict[str, list[Column]] = {}
    for column in columns:
        fields.setdefault(column.field, []).append(column)
    return ", ".join(f"{name} ({_kind(parts)})" for name, parts in fields.items())


def _kind(columns: "Sequence[Column]") -> str:
    """The kind of a field, from its columns."""
    first = columns[0]
    if first.part.startswith("ngram"):
        return f"text, {len(columns)} hashed n-grams"
    if len(columns) > 1 or first.part == "age":
        return "time: " + ", ".join(dict.fromkeys(column.part.partition("_")[0] for column in columns))
    kinds = {"numeric": "number", "boolean": "true or false"}
    return kinds.get(first.kind) or f"{len(first.values)} words"


def history_line(state: "State") -> str:
    """The length of a run, why it ended, and its best epoch."""
    best = state.history[state.best_epoch - 1]
    epochs = f"{len(state.history)} epochs ({state.stopped}), best epoch {best.number}"
    return f"{epochs}: validation loss {best.validation_loss:.5f}, training {best.train_loss:.5f}"
