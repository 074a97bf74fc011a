from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.config import load_config
from lookalike.training.errors import DataError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from lookalike.training.rows.unique_ids import check_unique_ids


def table(folder: Path, ids: list[str]) -> Path:
    pa_parquet.write_table(pa.table({"id": ids, "x": [0.5] * len(ids)}), folder / "a.parquet")
    return folder / "a.parquet"


def test_different_ids_pass(tmp_path: Path) -> None:
    check_unique_ids(open_rows(str(table(tmp_path, [f"{number}" for number in range(1_000)]))))
    check_unique_ids(open_rows("digits"))  # has no ids


@pytest.mark.parametrize(
    ("ids", "name", "rows"),
    [
        (["a", "b", "a"], "'a'", "row 0 and in row 2"),
        (["c", "b", "x", "b", "c"], "'c'", "row 0 and in row 4"),
        (["q", "b", "x", "b", "b"], "'b'", "row 1 and in row 3"),
    ],
)
def test_names_the_first_id_that_two_rows_share_and_both_rows(
    tmp_path: Path, ids: list[str], name: str, rows: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.parquet, id {name}: expected unique ids, found the id in {rows}"):
        check_unique_ids(open_rows(str(table(tmp_path, ids))))


def test_nothing_is_trained_or_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unique ids"):
        train(open_rows(str(table(tmp_path, ["a", "a"]))), load_config(None, []), tmp_path / "run")
    assert not (tmp_path / "run").exists()
