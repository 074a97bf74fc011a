import json
import re
from typing import Any

import numpy as np
import pytest

from lookalike.index.ann import tune as module
from lookalike.index.ann.candidates import candidates
from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import RecallBenchmark
from lookalike.index.ann.target import Target, with_front
from lookalike.index.ann.tune import TuningResult, tune
from lookalike.index.errors import TargetError
from lookalike.training.errors import ConfigError
from tests.factories import cloud

COUNT, DIM = 2_000, 16
EMBEDDINGS, QUERIES = Embeddings(cloud(COUNT, DIM), "l2"), cloud(100, DIM, seed=1)
NONE = np.empty((0, DIM), np.float32)


@pytest.fixture(scope="module")
def tuned() -> TuningResult:
    """All kinds for 2,000 embeddings, tried."""
    return tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)


def test_what_is_chosen_has_the_recall_and_is_searched_as_it_was_measured(tuned: TuningResult) -> None:
    chosen = tuned.chosen
    assert chosen.low >= 0.95
    assert (tuned.index.spec.key, tuned.index.spec.search) == (chosen.key, chosen.search)
    assert (len(tuned.index), chosen.items, tuned.index.bytes) == (COUNT, COUNT, chosen.bytes)
    again = RecallBenchmark(EMBEDDINGS, QUERIES).take(tuned.index)[0]
    assert (again.recall, again.low, again.high) == (chosen.recall, chosen.low, chosen.high)
    assert (tuned.k, tuned.queries) == (10, 100)


def test_every_kind_that_suits_is_tried_and_the_table_marks_the_front(tuned: TuningResult) -> None:
    keys = {kind.key_for(COUNT, DIM) for kind in candidates(COUNT, DIM)}
    assert {one.key for one in tuned.trials} | set(tuned.skipped) == keys
    assert tuned.trials == with_front(tuned.trials)
    assert any(one.front for one in tuned.trials)
    assert any((one.key, one.search) == (tuned.chosen.key, tuned.chosen.search) for one in tuned.trials)


def test_parameters_rise_until_the_recall_is_sure(tuned: TuningResult) -> None:
    lists = [one for one in tuned.trials if re.fullmatch(r"IVF\d+,Flat", one.key)]
    values = [int(one.search.removeprefix("nprobe=")) for one in lists]
    assert values == sorted(set(values))
    assert len(values) > 2
    assert lists[-1].recall >= 0.995
    assert all(one.recall < 0.995 for one in lists[:-1])


def test_what_the_manifest_is_told_is_json_and_gives_the_reason(tuned: TuningResult) -> None:
    target = Target()
    told = json.loads(json.dumps(tuned.told(target)))
    assert told["target"] == {"recall": 0.95, "memory": None, "latency_us": None, "key": None}
    assert told["chosen"]["key"] == tuned.chosen.key
    met = sum(one.low >= 0.95 for one in tuned.trials)
    assert f"fastest of {met} trials that meet the target, of {len(tuned.trials)}" in told["reason"]
    assert f"recall {tuned.chosen.recall:.4f} (at least {tuned.chosen.low:.4f})" in told["reason"]
    assert len(told["trials"]) == len(tuned.trials)
    wanted = {"k", "queries", "recall", "low", "high", "latency_us", "batch_us", "bytes"}
    assert set(tuned.evidence) == wanted
    assert tuned.evidence["recall"] == tuned.chosen.recall


def test_the_same_search_of_the_same_index_is_measured_the_same_again(tuned: TuningResult) -> None:
    """All but the times."""
    again = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)
    first, second = (
        {(one.key, one.search): (one.recall, one.low, one.high, one.bytes, one.items) for one in each.trials}
        for each in (tuned, again)
    )
    assert first == second


def test_a_given_key_is_taken_and_only_its_search_is_tuned() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(key="IVF16,Flat"))
    assert {one.key for one in tuned.trials} == {"IVF16,Flat"} == {tuned.chosen.key}
    assert tuned.chosen.low >= 0.95
    assert tuned.chosen.search.startswith("nprobe=")
    assert tuned.skipped == {}


def test_a_key_without_parameters_is_tried_once() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(0.8, key="SQ8"))
    assert [(one.key, one.search) for one in tuned.trials] == [("SQ8", "")]


@pytest.mark.parametrize("key", ["Fast", "IVF4096,Flat", "PQ7", "IVF{lists},Flat", "{", "{0}"])
def test_a_key_that_makes_no_index_of_these_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        tune(EMBEDDINGS, QUERIES, Target(key=key))


@pytest.mark.parametrize("bytes_an_item", [30, 50])
def test_the_bytes_are_kept_to(bytes_an_item: int) -> None:
    """Of float32, an embedding alone takes 64."""
    tuned = tune(EMBEDDINGS, QUERIES, Target(0.9, memory=bytes_an_item * COUNT), seconds=1e9)
    assert tuned.index.bytes <= bytes_an_item * COUNT
    assert tuned.chosen.low >= 0.9


def test_the_time_is_kept_to_where_there_is_plenty() -> None:
    assert tune(EMBEDDINGS, QUERIES, Target(latency_us=1e9, key="Flat")).chosen.latency_us <= 1e9


def test_without_time_the_first_are_tried_alone_and_the_rest_is_told() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(), seconds=0)
    tried = {one.key for one in tuned.trials}
    assert "Flat" in tried
    assert len(tried) <= 2
    assert set(tuned.skipped) == {kind.key_for(COUNT, DIM) for kind in candidates(COUNT, DIM)} - tried
    assert set(tuned.skipped.values()) == {"no time was left"}
    assert tuned.chosen.key in tried


def test_a_graph_that_would_take_too_long_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first vectors tell how long all would take, and next to no time is left."""
    monkeypatch.setattr(module, "GLIMPSE", 200)
    whole: list[int] = []
    built = module._built

    def count(spec: Any, embeddings: Embeddings, *rest: Any) -> Any:
        whole.extend([len(embeddings)] * spec.key.startswith("HNSW"))
        return built(spec, embeddings, *rest)

    monkeypatch.setattr(module, "_built", count)
    monkeypatch.setattr(module._Clock, "tuning", lambda clock: clock.seconds - 1e-9)
    told = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e-6).skipped
    graphs = [key for key in told if key.startswith("HNSW")]
    assert graphs
    assert all(re.fullmatch(r"its build would take about \d+ s, and \d+ s were left", told[key]) for key in graphs)
    assert set(whole) == {200}


def test_of_many_a_sample_chooses_and_all_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REHEARSAL", 1_500)
    tuned = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)
    assert {one.items for one in tuned.trials} == {1_500, COUNT}
    assert tuned.chosen.items == len(tuned.index) == COUNT
    assert tuned.chosen.low >= 0.95
    assert {one.key for one in tuned.trials if one.items == COUNT} >= {tuned.chosen.key}


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_embeddings_ask_for_themselves(count: int) -> None:
    tuned = tune(Embeddings(cloud(count, DIM), "ip"), NONE, Target())
    assert (tuned.queries, tuned.chosen.recall, tuned.chosen.key, len(tuned.index)) == (count, 1.0, "Flat", count)


def test_equal_embeddings_are_tuned_too() -> None:
    tuned = tune(Embeddings(np.ones((300, DIM), np.float32), "cosine"), np.ones((30, DIM), np.float32), Target())
    assert tuned.chosen.recall == 1.0


def test_too_few_bytes_are_refused_and_those_that_are_named_are_enough() -> None:
    with pytest.raises(TargetError, match=r"expected recall 0\.9 within 1,000 bytes") as caught:
        tune(EMBEDDINGS, QUERIES, Target(0.9, memory=1_000), seconds=1e9)
    assert "--recall" not in str(caught.value)  # no index fits 1,000 bytes
    (enough,) = re.findall(r"--memory (\d+)", str(caught.value))
    assert tune(EMBEDDINGS, QUERIES, Target(0.9, memory=int(enough)), seconds=1e9).index.bytes <= int(enough)


def test_a_recall_that_a_key_cannot_have_is_refused_and_the_one_named_can_be_had() -> None:
    with pytest.raises(TargetError, match="expected recall 1") as caught:
        tune(EMBEDDINGS, QUERIES, Target(1.0, key="SQ4"))
    (lower,) = re.findall(r"--recall ([\d.]+) \(SQ4\)", str(caught.value))
    assert tune(EMBEDDINGS, QUERIES, Target(float(lower), key="SQ4")).chosen.low >= float(lower)


def test_a_time_that_no_search_takes_is_refused() -> None:
    with pytest.raises(TargetError, match=r"within 0\.001 µs.*Give up one of them: --latency-us \d+ \("):
        tune(EMBEDDINGS, QUERIES, Target(latency_us=0.001, key="Flat"))
