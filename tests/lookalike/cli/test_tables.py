import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from lookalike.cli.tables import (
    auto_fix_table,
    columns_line,
    evaluation_table,
    findings_text,
    history_line,
    scores_table,
    tuning_line,
    versions_table,
)
from lookalike.index.ann.recall import Measurement
from lookalike.index.errors import StoreError
from lookalike.index.evaluation.evaluate import EvaluationResult
from lookalike.index.evaluation.quality import EncoderQuality, KeptShare
from lookalike.index.versions.manifest import IndexSection
from lookalike.index.versions.store import Store
from lookalike.training.doctor.finding import Finding
from lookalike.training.evaluation.judge import EncoderScore
from lookalike.training.evaluation.probe import ProbeScores
from lookalike.training.fit.auto_fix import AutoFixResult
from lookalike.training.history import Epoch, State
from lookalike.training.tables.columns import BOOLEANS, Column
from tests.training.doctor.factory import epoch
from tests.training.doctor.factory import run as doctored


def cells(table: Table) -> list[list[str]]:
    """The cells of the printed table, the heading first."""
    file = io.StringIO()
    Console(file=file, width=200).print(table)
    return [
        [cell.strip() for cell in line.strip("│┃\n").replace("┃", "│").split("│")]
        for line in file.getvalue().splitlines()
        if "│" in line or "┃" in line
    ]


def test_scores_table_has_one_row_per_encoder() -> None:
    rows = [EncoderScore("raw rows", 0.0, 0.80449, 0.7, 3136), EncoderScore("PCA-2", 0.12345, None, None, 8)]
    assert cells(scores_table(rows)) == [
        ["", "reconstruction error", "precision@10", "precision@10, noisy", "bytes per item"],
        ["raw rows", "0.0000", "0.804", "0.700", "3,136"],
        ["PCA-2", "0.1235", "no labels", "no labels", "8"],
    ]


def test_scores_table_shows_moved_pictures_if_there_are_any() -> None:
    moved = [
        EncoderScore("raw rows", 0.0, 0.8, 0.7, 8, 0.6),
        EncoderScore("gradients, PCA-2", math.nan, 0.8, 0.7, 8, 0.75),
    ]
    assert cells(scores_table(moved)) == [
        ["", "reconstruction error", "precision@10", "precision@10, noisy", "precision@10, moved", "bytes per item"],
        ["raw rows", "0.0000", "0.800", "0.700", "0.600", "8"],
        ["gradients, PCA-2", "", "0.800", "0.700", "0.750", "8"],
    ]


def test_versions_table_marks_the_champion(tiny_store: Store) -> None:
    heading, row = cells(versions_table(tiny_store))
    assert heading == [
        *("version", "", "created by", "replaced", "data", "items", "changes", "index", "metric", "recall@10"),
        "µs per query",
    ]
    digest = tiny_store.manifest(1).data.sha256[:8]
    latency = tiny_store.open_champion().manifest.evidence.latency_us
    assert row == [
        *("1", "champion", "build", "", f"digits {digest}", "1,437", "0", "Flat", "cosine", "1.0000"),
        f"{latency:.0f}",
    ]


def test_versions_table_of_an_empty_store_has_only_a_heading(tmp_path: Path) -> None:
    assert len(cells(versions_table(Store(tmp_path)))) == 1


MEASURED = Measurement(recall=0.875, low=0.8, high=0.95, k=10, queries=1234, latency_us=56.78, batch_us=9.0)
EVALUATED = EvaluationResult(
    MEASURED, None, None, 0.5, 0, "neither the encoder nor the index loses more than it should"
)


def test_evaluation_table_compares_now_with_the_build(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    then = version.manifest.evidence
    for precision, shown in ((0.5, "0.5000"), (None, "no labels")):
        table = evaluation_table(version, replace(EVALUATED, precision=precision))
        assert cells(table) == [
            ["version 1", "at build", "now"],
            ["embedding -> index: recall@10", f"{then.recall:.4f}", "0.8750"],
            ["µs a query, one thread", f"{then.latency_us:.1f}", "56.8"],
            ["queries", "143", "1,234"],
            ["both: label precision@10", "", shown],
        ]
        assert table.caption == EVALUATED.advice
    with_items = cells(evaluation_table(version, replace(EVALUATED, held=7)))
    assert with_items[4] == ["of these, items of the version (an item finds itself)", "", "7"]


def test_evaluation_table_compares_kept_neighbors_with_pca_and_chance(tiny_store: Store) -> None:
    encoding = EncoderQuality(KeptShare(0.75, 0.5, 0.25, 0.01), KeptShare(0.625, 0.5, 0.125, 0.01))
    rows = cells(evaluation_table(tiny_store.open_champion(), replace(EVALUATED, encoding=encoding, recovered=0.375)))
    assert rows[4:] == [
        ["rows -> embedding: neighbors of the raw rows kept", "", "0.7500"],
        ["by PCA of the same dimension, and by chance", "", "0.5000, 0.2500"],
        ["rows -> embedding: neighbors of the same label kept", "", "0.6250"],
        ["by PCA of the same dimension, and by chance", "", "0.5000, 0.1250"],
        ["corrupted rows that find their original", "", "0.3750"],
        ["both: label precision@10", "", "0.5000"],
    ]


def test_evaluation_table_appends_the_label_probes(tiny_store: Store) -> None:
    version, linear = tiny_store.open_champion(), {"accuracy": 0.25}
    assert cells(evaluation_table(version, EVALUATED, ProbeScores(linear, {"accuracy": 0.5}, {"accuracy": 0.75})))[
        5:
    ] == [
        ["linear probe accuracy", "", "0.2500"],
        ["MLP probe accuracy", "", "0.5000"],
        ["k-NN accuracy", "", "0.7500"],
    ]
    several = ProbeScores({"macro F1": 0.25, "micro F1": 0.5}, {}, {})
    assert cells(evaluation_table(version, EVALUATED, several))[5:] == [
        ["linear probe macro F1", "", "0.2500"],
        ["linear probe micro F1", "", "0.5000"],
    ]


def test_tuning_line_names_the_chosen_index_and_the_reason(tiny_store: Store) -> None:
    manifest = tiny_store.manifest(1)
    tuning = manifest.tuning.model_copy(update={"reason": "the fastest of 3"})
    for search, line in (("nprobe=8", "IVF9,Flat nprobe=8: the fastest of 3"), ("", "IVF9,Flat: the fastest of 3")):
        index = IndexSection(key="IVF9,Flat", metric="cosine", search=search)
        assert tuning_line(manifest.model_copy(update={"index": index, "tuning": tuning})) == line


def test_findings_text_has_five_lines_per_finding_first_cause_first() -> None:
    first, second = findings_text(doctored(missing=["decoder.weight"], duplicates=0.5)).split("\n\n")
    assert first.splitlines() == [
        "parameters-missing (certain)",
        "  seen    1 trainable parameters are in no group of the optimizer: decoder.weight",
        "  why     The optimizer updates only the parameters in its groups; all others keep their random values.",
        "  change  Pass all parameters: optimizer = Adam(model.parameters()); freeze some on purpose with "
        "requires_grad_(False)",
        "  more    lookalike explain three-pillars",
    ]
    assert second.startswith("duplicates-across-split (certain)\n  seen    50% of")


def test_findings_text_of_a_healthy_run_states_its_loss() -> None:
    text = findings_text(doctored(epoch(1, 0.3, 0.25)))  # the loss of a constant output is 2
    assert text == "No finding: the best validation loss is 12.5% of a constant output's."


def test_columns_line_lists_columns_with_types() -> None:
    columns = Column("price"), Column("tame", "boolean", BOOLEANS), Column("colour", "categorical", ("red", "blue"))
    assert columns_line(columns) == "price (number), tame (true or false), colour (2 words)"


FAST = Finding("too-fast", "it leapt", "Steps are long.", "--set optimizer.lr=0.1", "likely", "learning-rate")


def test_auto_fix_table_compares_before_and_after() -> None:
    # The loss of a constant output is 2; the second run's best loss is an eighth of that.
    lost = doctored(epoch(1, 0.5, None), epoch(2, None, None))
    lost.stopped = "hopeless"
    after = doctored(*(epoch(number, 0.25, 0.25) for number in range(1, 31)))
    assert cells(auto_fix_table(AutoFixResult(lost, FAST, after, Path("run-fixed")))) == [
        ["", "before", "after"],
        ["epochs", "2 (hopeless)", "30 (finished)"],
        ["best validation loss, share of a constant output's", "none", "12.5%"],
        ["findings", "learning-rate-too-high", "none"],
    ]
    assert auto_fix_table(AutoFixResult(lost, FAST, after, Path("run-fixed"))).caption is None
    assert auto_fix_table(AutoFixResult(after, FAST, after, Path("run-fixed"))).caption == (
        "The advice did not help: look at the other findings."
    )
    title = auto_fix_table(AutoFixResult(after, FAST, after, Path("run-fixed"))).title
    assert title == "too-fast: --set optimizer.lr=0.1"


def test_history_line_summarizes_a_run() -> None:
    history = [Epoch(1, 0.5, 0.4, 0.1, 1.0), Epoch(2, 0.25, 0.125, 0.1, 1.0), Epoch(3, 0.125, 0.25, 0.1, 1.0)]
    line = history_line(State(history, best_epoch=2, stopped="patience"))
    assert line == "3 epochs (patience), best epoch 2: validation loss 0.12500, training 0.25000"


def test_versions_table_marks_a_damaged_version(store_copy: Store) -> None:
    (store_copy.versions / "000002").mkdir()
    _, first, second = cells(versions_table(store_copy))
    assert first[:3] == ["1", "champion", "build"]
    assert second[:3] == ["2", "damaged", ""]


def test_versions_table_refuses_a_missing_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a folder with versions"):
        versions_table(Store(tmp_path / "nowhere"))
