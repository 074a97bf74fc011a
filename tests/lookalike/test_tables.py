import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from index.errors import StoreError
from index.evaluate import Evaluated
from index.measure import Measured
from index.store import Store
from lookalike.tables import evaluation_table, history_line, judged_table, versions_table
from training.judge import Judged
from training.loop import Epoch, State


def cells(table: Table) -> list[list[str]]:
    """The table as it is printed, the heading first."""
    file = io.StringIO()
    Console(file=file, width=200).print(table)
    return [
        [cell.strip() for cell in line.strip("│┃\n").replace("┃", "│").split("│")]
        for line in file.getvalue().splitlines()
        if "│" in line or "┃" in line
    ]


def test_the_judged_stand_side_by_side() -> None:
    rows = [Judged("raw rows", 0.0, 0.80449, 0.7, 3136), Judged("PCA-2", 0.12345, None, None, 8)]
    assert cells(judged_table(rows)) == [
        ["", "reconstruction error", "precision@10", "precision@10, noisy", "bytes an item"],
        ["raw rows", "0.0000", "0.804", "0.700", "3,136"],
        ["PCA-2", "0.1235", "no labels", "no labels", "8"],
    ]


def test_a_store_lists_its_versions_and_marks_the_champion(tiny_store: Store) -> None:
    heading, row = cells(versions_table(tiny_store))
    assert heading == ["version", "", "data", "items", "index", "metric", "recall@10", "µs a query"]
    latency = tiny_store.open_champion().manifest["evidence"]["latency_us"]
    assert row == ["1", "champion", "digits", "1,437", "flat", "cosine", "1.0000", f"{latency:.0f}"]


def test_a_store_without_versions_lists_none(tmp_path: Path) -> None:
    assert len(cells(versions_table(Store(tmp_path)))) == 1


def test_what_is_measured_now_stands_beside_what_was(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    then = version.manifest["evidence"]
    for precision, shown in ((0.5, "0.5000"), (None, "no labels")):
        table = evaluation_table(version, Evaluated(Measured(0.875, 10, 1234, 56.7), precision))
        assert cells(table) == [
            ["version 1", "at build", "now"],
            ["recall@10 against exact search", f"{then['recall']:.4f}", "0.8750"],
            ["µs a query, one thread", f"{then['latency_us']:.0f}", "57"],
            ["queries", "143", "1,234"],
            ["label precision@10", "", shown],
        ]


def test_a_run_is_told_in_one_line() -> None:
    history = [Epoch(1, 0.5, 0.4, 0.1, 1.0), Epoch(2, 0.25, 0.125, 0.1, 1.0), Epoch(3, 0.125, 0.25, 0.1, 1.0)]
    line = history_line(State(history, best_epoch=2, stopped="patience"))
    assert line == "3 epochs (patience), best epoch 2: validation loss 0.12500, training 0.25000"


def test_a_damaged_version_is_marked_and_hides_no_other(store_copy: Store) -> None:
    (store_copy.versions / "000002").mkdir()
    _, first, second = cells(versions_table(store_copy))
    assert first[:3] == ["1", "champion", "digits"]
    assert second[:3] == ["2", "damaged", ""]


def test_a_store_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a folder with versions"):
        versions_table(Store(tmp_path / "nowhere"))
