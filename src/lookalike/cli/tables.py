"""What the commands print."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from lookalike.index.versions.registry import registry
from lookalike.index.versions.store import Store

if TYPE_CHECKING:  # so that commands which only list start fast
    from lookalike.index.evaluation.evaluate import EvaluationResult
    from lookalike.index.evaluation.quality import EncoderQuality, KeptShare
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
    """Raw rows, PCA and the autoencoders, side by side."""
    table = Table("", "reconstruction error", "precision@10", "precision@10, noisy", "bytes an item")
    for row in rows:
        precisions = (f"{p:.3f}" if p is not None else "no labels" for p in (row.precision, row.noisy_precision))
        table.add_row(row.name, f"{row.reconstruction:.4f}", *precisions, f"{row.bytes_per_item:,}")
    return table


def versions_table(store: Store) -> Table:
    """One line a version. `changes`: up to which one of the change log it has what was put and deleted."""
    table = Table()
    for name in ("version", "", "came by", "replaced", "data", "items", "changes", "index", "metric", "recall@10"):
        table.add_column(name, overflow="fold")
    table.add_column("µs a query")
    for one in registry(store):
        if one.manifest is None:
            table.add_row(str(one.number), f"{one.role} damaged".strip())
        else:
            replaced = "" if one.replaced is None else str(one.replaced)
            table.add_row(str(one.number), one.role, one.made_by, replaced, *_evidence(one.manifest))
    return table


def tuning_line(manifest: "VersionManifest") -> str:
    """Which index was chosen, and why."""
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


def evaluation_table(version: "Version", evaluated: "EvaluationResult", probed: "ProbeScores | None" = None) -> Table:
    """The two halves, each by itself: rows into the embedding, and the embedding's neighbours out of the index."""
    then, now = version.manifest.evidence, evaluated.measured
    table = Table(f"version {version.number}", "at build", "now", caption=evaluated.advice, caption_justify="left")
    table.add_row("embedding -> index: recall@10", f"{then.recall:.4f}", f"{now.recall:.4f}")
    table.add_row("  µs a query, one thread", f"{then.latency_us:.1f}", f"{now.latency_us:.1f}")
    table.add_row("  queries", f"{then.queries:,}", f"{now.queries:,}")
    if evaluated.held:
        table.add_row("  of these, rows that the version holds, which find themselves", "", f"{evaluated.held:,}")
    for what, kept in _kept(evaluated.encoding).items():
        table.add_row(f"rows -> embedding: {what} kept", "", f"{kept.encoder:.4f}")
        table.add_row("  by PCA of the same dimension, and by chance", "", f"{kept.pca:.4f}, {kept.chance:.4f}")
    if evaluated.recovered is not None:
        table.add_row("  damaged rows that find their original", "", f"{evaluated.recovered:.4f}")
    precision = "no labels" if evaluated.precision is None else f"{evaluated.precision:.4f}"
    table.add_row("both: label precision@10", "", precision)
    if probed:
        told = {"linear probe": probed.linear, "MLP probe": probed.mlp, "k-NN": probed.neighbours}
        for name, figures in told.items():
            for figure, value in figures.items():
                table.add_row(f"{name} {figure}", "", f"{value:.4f}")
    return table


def _kept(encoding: "EncoderQuality | None") -> "dict[str, KeptShare]":
    """What the embedding keeps of the rows: their neighbours, and of their labels, where there are any."""
    if encoding is None:
        return {}
    labels = {"labels' neighbours": encoding.labels} if encoding.labels else {}
    return {"raw neighbours": encoding.neighbours, **labels}


def findings_text(state: "State") -> str:
    """Each finding on a run in five lines, the first cause first."""
    from lookalike.training.doctor.case import Case
    from lookalike.training.doctor.causes import diagnose

    findings = diagnose(state)
    if not findings:
        return f"No finding: the best validation loss is {Case.of(state).best:.1%} of a constant answer's."
    return "\n\n".join(
        f"{finding.cause} ({finding.sure})\n"
        f"  seen    {finding.seen}\n"
        f"  why     {finding.why}\n"
        f"  change  {finding.change}\n"
        f"  more    lookalike explain {finding.topic}"
        for finding in findings
    )


def auto_fix_table(mended: "AutoFixResult") -> Table:
    """The run before and after the first advice; a loss is a share of what a constant answer costs."""
    from lookalike.training.doctor.case import Case
    from lookalike.training.doctor.causes import diagnose

    table = Table("", "before", "after", title=f"{mended.advice.cause}: {mended.advice.change}", title_justify="left")
    states = (mended.before, mended.after)
    table.add_row("epochs", *(f"{len(state.history)} ({state.stopped})" for state in states))
    best = [Case.of(state).best for state in states]
    table.add_row("best validation loss, of a constant's", *(f"{b:.1%}" if math.isfinite(b) else "none" for b in best))
    if best[1] >= best[0]:
        table.caption, table.caption_justify = "It did not get better: look at the other findings.", "left"
    table.add_row("findings", *(", ".join(f.cause for f in diagnose(state)) or "none" for state in states))
    return table


def columns_line(columns: "Sequence[Column]") -> str:
    """The columns that are input, each with what it is."""
    kinds = {"numeric": "number", "boolean": "true or false"}
    return ", ".join(f"{c.name} ({kinds.get(c.kind) or f'{len(c.values)} words'})" for c in columns)


def history_line(state: "State") -> str:
    """How a run ended."""
    best = state.history[state.best_epoch - 1]
    ended = f"{len(state.history)} epochs ({state.stopped})"
    return (
        f"{ended}, best epoch {best.number}: validation loss {best.validation_loss:.5f}, training {best.train_loss:.5f}"
    )
