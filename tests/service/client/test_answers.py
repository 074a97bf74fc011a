import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.service.client.answers import (
    read_embedded,
    read_live,
    read_object,
    read_problem,
    read_ready,
    read_searched,
    read_version,
)
from lookalike.service.client.errors import MalformedAnswer, NotReady, ProblemError, Unprocessable
from lookalike.service.client.messages import Answer
from tests.service.helpers import JSON, NPY, to_npy

EMBEDDINGS = np.arange(6, dtype=np.float32).reshape(3, 2)
HIT = {"id": "5", "score": 0.5, "payload": {"label": 5}}
FOUND = {"hits": [HIT], "novelty": 0.25}


def npy_answer(body: bytes, version: str = "7", kind: str = NPY) -> Answer:
    return Answer(200, {"content-type": kind, "x-lookalike-version": version}, body, "r1")


def json_answer(body: Any, status: int = 200, kind: str = f"{JSON}; charset=utf-8", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": kind, **named}, json.dumps(body).encode(), "r1")


def searched(body: Any, count: int = 1, with_payload: bool = True) -> Any:
    return read_searched(json_answer(body), count=count, limit=2, with_payload=with_payload)


@pytest.mark.parametrize("embeddings", [EMBEDDINGS, np.asfortranarray(EMBEDDINGS)])
def test_embeddings_are_read_with_their_version_into_an_array_of_one_s_own(embeddings: NDArray[np.float32]) -> None:
    read = read_embedded(npy_answer(to_npy(embeddings)), 3)
    np.testing.assert_array_equal(read.embeddings, EMBEDDINGS)
    assert read.embeddings.dtype == np.float32
    assert read.version == 7
    assert read.embeddings.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        EMBEDDINGS[:2],
        EMBEDDINGS[0],
        EMBEDDINGS[:, :0],
        EMBEDDINGS.astype(np.float64),
        EMBEDDINGS.astype(">f4"),
        EMBEDDINGS.astype(str),
        np.where(EMBEDDINGS == 4, np.float32("inf"), EMBEDDINGS),
        EMBEDDINGS + np.float32("nan"),
    ],
)
def test_embeddings_of_another_form_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(MalformedAnswer):
        read_embedded(npy_answer(to_npy(array)), 3)


@pytest.mark.parametrize("count", [10**15, 2**62, 2**70])
def test_a_header_that_claims_more_than_came_makes_no_array(count: int) -> None:
    whole = to_npy(EMBEDDINGS)
    body = whole.replace(b"(3, 2)", f"(3, {count})".encode())
    start = whole.index(b"\n")
    body = body[: body.index(b"\n")].rstrip(b" ")
    body = (body + b" " * (start - len(body)))[:start] + whole[start:]
    with pytest.raises(MalformedAnswer, match=r"bytes of values, found 24|damaged header"):
        read_embedded(npy_answer(body), 3)


@given(st.integers(0, len(to_npy(EMBEDDINGS)) - 1))
def test_a_part_of_an_answer_is_none(size: int) -> None:
    with pytest.raises(MalformedAnswer):
        read_embedded(npy_answer(to_npy(EMBEDDINGS)[:size]), 3)


@given(st.integers(0, 127), st.integers(0, 255))
def test_a_damaged_header_is_refused_or_means_the_same(place: int, value: int) -> None:
    body = bytearray(to_npy(EMBEDDINGS))
    body[place] = value
    try:
        read = read_embedded(npy_answer(bytes(body)), 3)
    except MalformedAnswer:
        return
    assert sorted(read.embeddings.ravel().tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("version", ["", "0", "-1", "seven", "7.0", "\u0667", "9" * 20])
def test_embeddings_without_a_version_are_refused(version: str) -> None:
    with pytest.raises(MalformedAnswer, match="x-lookalike-version"):
        read_embedded(npy_answer(to_npy(EMBEDDINGS), version), 3)


def test_a_page_of_another_type_is_refused() -> None:
    with pytest.raises(MalformedAnswer, match="Content-Type: expected application/x-npy, found text/html"):
        read_embedded(npy_answer(to_npy(EMBEDDINGS), kind="Text/HTML; charset=utf-8"), 3)
    with pytest.raises(MalformedAnswer, match="Content-Type"):
        read_object(Answer(200, {}, b"{}", "r1"))


WHOLE = {"version": 7, "sequence": 3, "results": [FOUND]}


def test_hits_are_read_with_their_novelty() -> None:
    read = searched(WHOLE)
    assert (read.version, read.sequence, read.results[0].novelty) == (7, 3, 0.25)
    (hit,) = read.results[0].hits
    assert (hit.id, hit.score, hit.payload) == ("5", 0.5, {"label": 5})
    bare = {"hits": [{"id": "5", "score": 1}], "novelty": 1}
    assert searched(WHOLE | {"results": [bare]}, with_payload=False).results[0].hits[0].payload is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "version"),
        ({"version": True, "results": [FOUND]}, "version"),
        (WHOLE | {"sequence": -1}, "sequence"),
        (WHOLE | {"sequence": "3"}, "sequence"),
        ({"version": 7}, "results"),
        ({"version": 7, "results": []}, "results"),
        ({"version": 7, "results": [FOUND, FOUND]}, "results"),
        ({"version": 7, "results": [[]]}, "results[0].hits"),
        ({"version": 7, "results": [{"hits": [HIT] * 3, "novelty": 1}]}, "results[0].hits"),
        ({"version": 7, "results": [{"hits": []}]}, "results[0].novelty"),
        ({"version": 7, "results": [{"hits": [], "novelty": 0}]}, "results[0].novelty"),
        ({"version": 7, "results": [{"hits": [], "novelty": 1.1}]}, "results[0].novelty"),
        ({"version": 7, "results": [{"hits": [], "novelty": True}]}, "results[0].novelty"),
        ({"version": 7, "results": [{"hits": ["5"], "novelty": 1}]}, "results[0].hits[0].id"),
        ({"version": 7, "results": [{"hits": [HIT | {"id": 5}], "novelty": 1}]}, "results[0].hits[0].id"),
        ({"version": 7, "results": [{"hits": [HIT | {"score": None}], "novelty": 1}]}, "results[0].hits[0].score"),
        ({"version": 7, "results": [{"hits": [HIT | {"score": "1"}], "novelty": 1}]}, "results[0].hits[0].score"),
        ({"version": 7, "results": [{"hits": [HIT | {"payload": 1}], "novelty": 1}]}, "results[0].hits[0].payload"),
        ({"version": 7, "results": [{"hits": [HIT | {"payload": None}], "novelty": 1}]}, "payload"),
    ],
)
def test_what_is_wrong_with_hits_is_named(body: Any, field: str) -> None:
    with pytest.raises(MalformedAnswer) as refused:
        searched(body)
    assert (refused.value.field, refused.value.request_id) == (field, "r1")


def test_a_payload_that_was_not_asked_for_is_no_answer() -> None:
    with pytest.raises(MalformedAnswer, match="payload: expected none"):
        searched(WHOLE, with_payload=False)


@pytest.mark.parametrize("body", [b"", b"{", b'{"version": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="body: expected JSON"):
        read_version(Answer(200, {"content-type": JSON}, body, "r1"))


def test_health_must_say_so() -> None:
    assert read_live(json_answer({"live": True}))
    assert read_ready(json_answer({"ready": True, "version": 7})).version == 7
    for body in ({}, {"live": "yes"}, {"ready": False, "version": 7}, {"ready": True}):
        with pytest.raises(MalformedAnswer):
            read_live(json_answer(body))
        with pytest.raises(MalformedAnswer):
            read_ready(json_answer(body))


PROBLEM = {"type": "about:blank", "title": "Wrong", "detail": "inputs: no.", "field": "inputs", "status": 422}


def test_a_problem_is_read_with_the_members_that_it_has() -> None:
    error = read_problem(json_answer(PROBLEM, 422, "application/problem+json"))
    assert isinstance(error, Unprocessable)
    assert (error.title, error.detail, error.field, error.expected) == ("Wrong", "inputs: no.", "inputs", "")
    assert error.retry_after is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, {"content-type": "text/html"}, b"<h1>Service Unavailable</h1>", "r1"),
        Answer(503, {}, b"", "r1"),
        Answer(503, {"content-type": "application/problem+json"}, b"{", "r1"),
        Answer(503, {"content-type": "application/problem+json"}, b"[]", "r1"),
        json_answer({"title": 5, "detail": None}, 503, "application/problem+json"),
    ],
)
def test_a_proxy_s_own_page_is_a_problem_of_its_status(answer: Answer) -> None:
    error = read_problem(answer)
    assert isinstance(error, NotReady)
    assert (error.type, error.title, error.field) == ("about:blank", "Service Unavailable", "")
    assert "no more is said" in error.detail


def test_a_status_that_nobody_knows_is_a_problem_and_a_redirect_is_none() -> None:
    assert isinstance(read_problem(Answer(599, {}, b"", "r1")), ProblemError)
    assert isinstance(read_problem(Answer(302, {"location": "/"}, b"", "r1")), MalformedAnswer)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("Wed, 21 Oct 2026 07:28:07 GMT", 7.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 07:28:07 -0000", 7.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_answer_s_own_clock(text: str, seconds: float | None) -> None:
    at = {"retry_after": text, "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    error = read_problem(json_answer(PROBLEM, 429, "application/problem+json", **at))
    assert isinstance(error, ProblemError)
    assert error.retry_after == seconds


def test_without_a_date_of_its_own_the_machine_s_clock_is_taken() -> None:
    error = read_problem(json_answer(PROBLEM, 429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"))
    assert isinstance(error, ProblemError)
    assert error.retry_after == 0.0
