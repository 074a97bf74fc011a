from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.explain import SOURCES, named_first, train_on
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.errors import QueryError
from lookalike.index.evaluation.explain import Explanation, Occlusion, compare, value_of
from lookalike.index.evaluation.input_parts import InputPart
from lookalike.index.versions.embed import embed
from lookalike.index.versions.stored_inputs import StoredInputs
from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.tables.columns import Column
from tests.factories import cloud, encoder_at

OTHERS = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 4], [3, 0, 4]], np.float32)
PAIR = np.array([[0, 0, 0], [3, 4, 0]], np.float32)


def singles(width: int) -> list[InputPart]:
    return [InputPart("values", f"value {number}", np.array([number])) for number in range(width)]


def occlusion(pair: Floats, others: Floats = OTHERS) -> Occlusion:
    return Occlusion(pair, singles(pair.shape[1]), others, len(others) // 2)


def explained(made: Occlusion, metric: Metric = "l2", matrix: Floats | None = None) -> Explanation:
    """The explanation by the encoder that multiplies with a matrix; by default an embedding is the row."""
    rows = np.concatenate(list(made.blocks()))
    rows = rows if matrix is None else rows @ matrix
    return made.explain(normalize(rows) if metric == "cosine" else rows, metric)


def test_the_weights_are_those_calculated_by_hand() -> None:
    """The squared distances of the six pairs of unrelated rows are 1, 20, 25, 17, 20 and 1, with the mean 14.

    Each item gets value 0 from two rows, in which it is 2 apart; value 2 from two rows, in which it is 4 apart.
    """
    result = explained(occlusion(PAIR))
    assert [result.score, result.distance, result.usual] == pytest.approx([5, 25, 14])
    assert [weight.apart for weight in result.weights] == pytest.approx([9 / 25, 16 / 25, 0])
    assert [weight.alike for weight in result.weights] == pytest.approx([(4 - 9) / 14, (0 - 16) / 14, 16 / 14])


def test_the_plain_difference_is_in_standard_deviations() -> None:
    differences = [weight.difference for weight in explained(occlusion(PAIR)).weights]
    assert differences == pytest.approx([3 / np.sqrt(1.25), 1, 0])  # value 1 never varies, and differs


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_for_a_linear_encoder_the_shares_of_what_separates_add_up_to_one(metric: Metric) -> None:
    pair, matrix = cloud(2, 6), cloud(6, 4, seed=1)
    result = explained(occlusion(pair, cloud(8, 6, seed=2)), metric, matrix)
    assert sum(weight.apart for weight in result.weights) == pytest.approx(1, abs=1e-4)
    a, b = pair @ matrix
    assert result.score == pytest.approx(np.linalg.norm(a - b) if metric == "l2" else a @ b, rel=1e-4)


def test_the_only_part_that_differs_separates_alone_with_any_encoder() -> None:
    pair = cloud(2, 6)
    pair[1] = pair[0]
    pair[1, 4] += 1
    made = occlusion(pair, cloud(8, 6, seed=2))
    result = made.explain(np.tanh(np.concatenate(list(made.blocks())) @ cloud(6, 4, seed=1)), "l2")
    assert [weight.apart for weight in result.weights] == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_equal_items_have_nothing_that_separates_them(metric: Metric) -> None:
    row = cloud(1, 6)
    result = explained(occlusion(np.concatenate([row, row]), cloud(8, 6, seed=2)), metric)
    assert all(weight.apart == weight.difference == 0 < weight.alike for weight in result.weights)


def test_a_part_that_all_rows_share_or_that_the_encoder_ignores_explains_nothing() -> None:
    others = cloud(8, 3, seed=2)
    others[:, 1] = 7
    result = explained(occlusion(np.full((2, 3), 7, np.float32), others), matrix=np.diag([1, 1, 0]).astype(np.float32))
    assert result.weights[0].alike > 0.9
    assert [weight.alike for weight in result.weights[1:]] == pytest.approx([0, 0], abs=1e-6)


def test_an_encoder_that_gives_every_row_the_same_embedding_explains_nothing() -> None:
    made = occlusion(PAIR)
    weights = made.explain(np.ones((sum(map(len, made.blocks())), 2), np.float32), "l2").weights
    assert {(weight.alike, weight.apart) for weight in weights} == {(0, 0)}


def test_small_blocks_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = occlusion(PAIR)
    whole = np.concatenate(list(made.blocks()))
    monkeypatch.setattr("lookalike.index.evaluation.explain.BLOCK_VALUES", 1)
    blocks = list(made.blocks())
    assert len(blocks) == len(made.parts)
    assert np.array_equal(np.concatenate(blocks), whole)


def test_values_that_the_encoder_cannot_compute_with_are_refused() -> None:
    made = occlusion(PAIR)
    embeddings = np.concatenate(list(made.blocks()))
    embeddings[5] = np.nan
    with pytest.raises(QueryError, match="too large"):
        made.explain(embeddings, "l2")


@pytest.mark.parametrize("count", [1, 2, 5, 1_000])
def test_few_and_many_stored_rows_suffice(tmp_path: Path, count: int) -> None:
    encoder = load_encoder(encoder_at(tmp_path / "encoder", np.eye(6, dtype=np.float32)))
    made = compare(encoder, StoredInputs(cloud(count, 6)), cloud(2, 6, seed=3))
    result = made.explain(np.concatenate([embed(encoder, rows, "l2") for rows in made.blocks()]), "l2")
    assert (result.usual > 0) == (count > 1)
    assert sum(weight.apart for weight in result.weights) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("columns", "row", "value"),
    [
        ([Column("n")], [0.1], 0.1),
        ([Column("n")], [np.nan], None),
        ([Column("b", "boolean", ("false", "true"))], [1], True),
        ([Column("c", "categorical", ("red", "blue"))], [1], "blue"),
        ([Column("c", "categorical", ("red", "blue"))], [np.nan], None),
        ([Column("hour"), Column("c", "categorical", ("red",))], [0.5, 0], {"hour": 0.5, "c": "red"}),
        ([], [1, 2], 1.5),
    ],
    ids=str,
)
def test_a_value_is_shown_as_json(columns: list[Column], row: Sequence[float], value: object) -> None:
    part = InputPart("field" if columns else "values", "it", np.arange(len(row)), tuple(columns))
    assert value_of(part, np.array(row, np.float32)) == value


def test_missing_values_and_words_have_a_difference_too() -> None:
    columns = (Column("n"), Column("n2"), Column("c", "categorical", ("red", "blue")), Column("d"))
    parts = [InputPart("field", column.name, np.array([number]), (column,)) for number, column in enumerate(columns)]
    pair = np.array([[np.nan, np.nan, 0, 4], [np.nan, 1, 1, 8]], np.float32)
    made = Occlusion(pair, parts, np.array([[0], [0], [4], [4]], np.float32).repeat(4, axis=1), 2)
    rows = np.nan_to_num(np.concatenate(list(made.blocks())))
    assert [weight.difference for weight in made.explain(rows, "l2").weights] == [0, 1, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_the_only_part_that_two_rows_share_is_named_first(tmp_path: Path, name: str) -> None:
    """At least 95 of 100 pairs, of each kind of part."""
    source = SOURCES[name]()
    encoder: Encoder = train_on(source, tmp_path / "run")
    for kind, found in named_first(encoder, source, pairs=100).items():
        assert found.ours >= 0.95, kind
