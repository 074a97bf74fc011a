"""What the commands print."""

from typing import Any

from rich.table import Table

from index.errors import StoreError
from index.evaluate import Evaluated
from index.store import Store
from index.version import FORMAT, Version
from training.errors import ArtifactError
from training.judge import Judged
from training.loop import State
from training.sealed import read_manifest

__all__ = ["evaluation_table", "history_line", "judged_table", "versions_table"]


def judged_table(rows: list[Judged]) -> Table:
    """Raw rows, PCA and the autoencoders, side by side."""
    table = Table("", "reconstruction error", "precision@10", "precision@10, noisy", "bytes an item")
    for row in rows:
        precisions = (f"{p:.3f}" if p is not None else "no labels" for p in (row.precision, row.noisy_precision))
        table.add_row(row.name, f"{row.reconstruction:.4f}", *precisions, f"{row.bytes_per_item:,}")
    return table


def versions_table(store: Store) -> Table:
    """One line a version."""
    table = Table("version", "", "data", "items", "index", "metric", "recall@10", "µs a query")
    if not store.folder.is_dir():
        raise StoreError("store", expected="a folder with versions", found=f"none at {store.folder}")
    alias = store.champion()
    for number in store.numbers():
        role = "champion" if alias and alias.version == number else ""
        try:
            header = read_manifest(store.path(number), FORMAT).header
        except ArtifactError:
            table.add_row(str(number), f"{role} damaged".strip())
        else:
            table.add_row(str(number), role, *_evidence(header))
    return table


def _evidence(header: dict[str, Any]) -> list[str]:
    return [
        header["data"]["name"],
        f"{header['items']:,}",
        header["index"]["kind"],
        header["index"]["metric"],
        f"{header['evidence']['recall']:.4f}",
        f"{header['evidence']['latency_us']:.0f}",
    ]


def evaluation_table(version: Version, evaluated: Evaluated) -> Table:
    """What was measured now, beside what stands in the manifest."""
    then, now = version.manifest["evidence"], evaluated.measured
    table = Table(f"version {version.number}", "at build", "now")
    table.add_row("recall@10 against exact search", f"{then['recall']:.4f}", f"{now.recall:.4f}")
    table.add_row("µs a query, one thread", f"{then['latency_us']:.0f}", f"{now.latency_us:.0f}")
    table.add_row("queries", f"{then['queries']:,}", f"{now.queries:,}")
    precision = "no labels" if evaluated.precision is None else f"{evaluated.precision:.4f}"
    table.add_row("label precision@10", "", precision)
    return table


def history_line(state: State) -> str:
    """How a run ended."""
    best = state.history[state.best_epoch - 1]
    ended = f"{len(state.history)} epochs ({state.stopped})"
    return (
        f"{ended}, best epoch {best.number}: validation loss {best.validation_loss:.5f}, training {best.train_loss:.5f}"
    )
