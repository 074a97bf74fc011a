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
NO_QUERIES = np.empty((0, DIM), np.float32)


@pytest.fixture(scope="module")
def tuned() -> TuningResult:
    """The result of trying all kinds for 2,000 embeddings."""
    return tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)


def test_the_chosen_index_meets_the_target_with_the_measured_parameters(tuned: TuningResult) -> None:
    chosen = tuned.chosen
    assert chosen.low >= 0.95
    assert (tuned.index.spec.key, tuned.index.spec.search) == (chosen.key, chosen.search)
    assert (len(tuned.index), chosen.items, tuned.index.bytes) == (COUNT, COUNT, chosen.bytes)
    again = RecallBenchmark(EMBEDDINGS, QUERIES).take(tuned.index)[0]
    assert (again.recall, again.low, again.high) == (chosen.recall, chosen.low, chosen.high)
    assert (tuned.evidence["k"], tuned.queries) == (10, 100)


def test_tries_every_suitable_kind_and_marks_the_pareto_front(tuned: TuningResult) -> None:
    keys = {kind.key_for(COUNT, DIM) for kind in candidates(COUNT, DIM)}
    assert {one.key for one in tuned.trials} | set(tuned.skipped) == keys
    assert tuned.trials == with_front(tuned.trials)
    assert any(one.front for one in tuned.trials)
    assert any((one.key, one.search) == (tuned.chosen.key, tuned.chosen.search) for one in tuned.trials)


def test_parameters_ascend_until_the_recall_is_high(tuned: TuningResult) -> None:
    lists = [one for one in tuned.trials if re.fullmatch(r"IVF\d+,Flat", one.key)]
    values = [int(one.search.removeprefix("nprobe=")) for one in lists]
    assert values == sorted(set(values))
    assert len(values) > 2
    assert lists[-1].recall >= 0.995
    assert all(one.recall < 0.995 for one in lists[:-1])


def test_the_manifest_entry_is_json_with_the_reason(tuned: TuningResult) -> None:
    target = Target()
    told = json.loads(json.dumps(tuned.told(target)))
    assert told["target"] == {"recall": 0.95, "memory": None, "latency_us": None, "key": None}
    assert told["chosen"]["key"] == tuned.chosen.key
    met = sum(one.low >= 0.95 for one in tuned.trials)
    assert f"fastest of {met} trials that meet the target, of {len(tuned.trials)}" in told["reason"]
    assert f"recall {tuned.chosen.recall:.4f} (at least {tuned.chosen.low:.4f})" in told["reason"]
    assert len(told["trials"]) == len(tuned.trials)
    expected = {"k", "queries", "recall", "low", "high", "latency_us", "batch_us", "bytes"}
    assert set(tuned.evidence) == expected
    assert tuned.evidence["recall"] == tuned.chosen.recall


def test_the_reason_for_the_index_of_a_user_compares_nothing() -> None:
    target = Target(key="Flat")
    told = tune(EMBEDDINGS.head(200), QUERIES, target).told(target)
    assert told["reason"].endswith(" bytes per item: the only trial")


def test_measurements_are_reproducible(tuned: TuningResult) -> None:
    """Compares everything except the times."""
    again = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)
    first, second = (
        {(one.key, one.search): (one.recall, one.low, one.high, one.bytes, one.items) for one in each.trials}
        for each in (tuned, again)
    )
    assert first == second


def test_tunes_only_the_search_parameters_of_a_given_key() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(key="IVF16,Flat"))
    assert {one.key for one in tuned.trials} == {"IVF16,Flat"} == {tuned.chosen.key}
    assert tuned.chosen.low >= 0.95
    assert tuned.chosen.search.startswith("nprobe=")
    assert tuned.skipped == {}


def test_tries_a_key_without_parameters_once() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(0.8, key="SQ8"))
    assert [(one.key, one.search) for one in tuned.trials] == [("SQ8", "")]


@pytest.mark.parametrize("key", ["Fast", "IVF4096,Flat", "PQ7", "IVF{lists},Flat", "{", "{0}"])
def test_refuses_an_invalid_key(key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        tune(EMBEDDINGS, QUERIES, Target(key=key))


@pytest.mark.parametrize("bytes_an_item", [30, 50])
def test_meets_the_memory_limit(bytes_an_item: int) -> None:
    """An embedding alone takes 64 bytes in float32."""
    tuned = tune(EMBEDDINGS, QUERIES, Target(0.9, memory=bytes_an_item * COUNT), seconds=1e9)
    assert tuned.index.bytes <= bytes_an_item * COUNT
    assert tuned.chosen.low >= 0.9


def test_meets_a_generous_latency_limit() -> None:
    assert tune(EMBEDDINGS, QUERIES, Target(latency_us=1e9, key="Flat")).chosen.latency_us <= 1e9


def test_without_time_tries_only_the_first_kinds_and_reports_the_rest() -> None:
    tuned = tune(EMBEDDINGS, QUERIES, Target(), seconds=0)
    tried = {one.key for one in tuned.trials}
    assert "Flat" in tried
    assert len(tried) <= 2
    assert set(tuned.skipped) == {kind.key_for(COUNT, DIM) for kind in candidates(COUNT, DIM)} - tried
    assert set(tuned.skipped.values()) == {"no time was left"}
    assert tuned.chosen.key in tried


def test_skips_a_graph_whose_build_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build time is estimated from the first vectors, and almost no time is left."""
    monkeypatch.setattr(module, "GLIMPSE", 200)
    sizes: list[int] = []
    build = module._build

    def count(spec: Any, embeddings: Embeddings, *rest: Any) -> Any:
        sizes.extend([len(embeddings)] * spec.key.startswith("HNSW"))
        return build(spec, embeddings, *rest)

    monkeypatch.setattr(module, "_build", count)
    monkeypatch.setattr(module._Clock, "tuning", lambda clock: clock.seconds - 1e-9)
    told = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e-6).skipped
    graphs = [key for key in told if key.startswith("HNSW")]
    assert graphs
    assert all(re.fullmatch(r"its build would take about \d+ s, and \d+ s were left", told[key]) for key in graphs)
    assert set(sizes) == {200}


def test_chooses_on_a_sample_and_indexes_all_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REHEARSAL", 1_500)
    tuned = tune(EMBEDDINGS, QUERIES, Target(), seconds=1e9)
    assert {one.items for one in tuned.trials} == {1_500, COUNT}
    assert tuned.chosen.items == len(tuned.index) == COUNT
    assert tuned.chosen.low >= 0.95
    assert {one.key for one in tuned.trials if one.items == COUNT} >= {tuned.chosen.key}


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_embeddings_are_their_own_queries(count: int) -> None:
    tuned = tune(Embeddings(cloud(count, DIM), "ip"), NO_QUERIES, Target())
    assert (tuned.queries, tuned.chosen.recall, tuned.chosen.key, len(tuned.index)) == (count, 1.0, "Flat", count)


def test_tunes_equal_embeddings() -> None:
    tuned = tune(Embeddings(np.ones((300, DIM), np.float32), "cosine"), np.ones((30, DIM), np.float32), Target())
    assert tuned.chosen.recall == 1.0


def test_refuses_an_unreachable_memory_limit_and_names_a_sufficient_one() -> None:
    with pytest.raises(TargetError, match=r"expected recall 0\.9 within 1,000 bytes") as caught:
        tune(EMBEDDINGS, QUERIES, Target(0.9, memory=1_000), seconds=1e9)
    assert "--recall" not in str(caught.value)  # no index fits 1,000 bytes
    (enough,) = re.findall(r"--memory (\d+)", str(caught.value))
    assert tune(EMBEDDINGS, QUERIES, Target(0.9, memory=int(enough)), seconds=1e9).index.bytes <= int(enough)


def test_refuses_an_unreachable_recall_and_names_a_reachable_one() -> None:
    with pytest.raises(TargetError, match="expected recall 1") as caught:
        tune(EMBEDDINGS, QUERIES, Target(1.0, key="SQ4"))
    (lower,) = re.findall(r"--recall ([\d.]+) \(SQ4\)", str(caught.value))
    assert tune(EMBEDDINGS, QUERIES, Target(float(lower), key="SQ4")).chosen.low >= float(lower)


def test_refuses_an_unreachable_latency() -> None:
    with pytest.raises(TargetError, match=r"within 0\.001 µs.*Relax one of them: --latency-us \d+ \("):
        tune(EMBEDDINGS, QUERIES, Target(latency_us=0.001, key="Flat"))
