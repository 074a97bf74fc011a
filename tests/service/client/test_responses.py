import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.service.client.errors import MalformedResponse, NotReady, ProblemError, Unprocessable
from lookalike.service.client.messages import Response
from lookalike.service.client.responses import (
    read_embeddings,
    read_live,
    read_object,
    read_problem,
    read_ready,
    read_search,
    read_version,
)
from tests.service.helpers import JSON, NPY, to_npy

EMBEDDINGS = np.arange(6, dtype=np.float32).reshape(3, 2)
HIT = {"id": "5", "score": 0.5, "payload": {"label": 5}}
FOUND = {"hits": [HIT], "novelty": 0.25}


def npy_answer(body: bytes, version: str = "7", kind: str = NPY) -> Response:
    return Response(200, {"content-type": kind, "x-lookalike-version": version}, body, "r1")


def json_answer(body: Any, status: int = 200, kind: str = f"{JSON}; charset=utf-8", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"content-type": kind, **named}, json.dumps(body).encode(), "r1")


def search_response(body: Any, count: int = 1, with_payload: bool = True) -> Any:
    return read_search(json_answer(body), count=count, limit=2, with_payload=with_payload)


@pytest.mark.parametrize("embeddings", [EMBEDDINGS, np.asfortranarray(EMBEDDINGS)])
def test_read_embeddings_returns_a_writable_array_and_the_version(embeddings: NDArray[np.float32]) -> None:
    read = read_embeddings(npy_answer(to_npy(embeddings)), 3)
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
def test_read_embeddings_refuses_a_wrong_shape_dtype_or_value(array: NDArray[Any]) -> None:
    with pytest.raises(MalformedResponse):
        read_embeddings(npy_answer(to_npy(array)), 3)


@pytest.mark.parametrize("count", [10**15, 2**62, 2**70])
def test_refuses_an_npy_header_that_claims_more_bytes_than_arrived(count: int) -> None:
    whole = to_npy(EMBEDDINGS)
    body = whole.replace(b"(3, 2)", f"(3, {count})".encode())
    start = whole.index(b"\n")
    body = body[: body.index(b"\n")].rstrip(b" ")
    body = (body + b" " * (start - len(body)))[:start] + whole[start:]
    with pytest.raises(MalformedResponse, match=r"bytes of values, found 24|damaged header"):
        read_embeddings(npy_answer(body), 3)


@given(st.integers(0, len(to_npy(EMBEDDINGS)) - 1))
def test_refuses_a_truncated_npy_body(size: int) -> None:
    with pytest.raises(MalformedResponse):
        read_embeddings(npy_answer(to_npy(EMBEDDINGS)[:size]), 3)


@given(st.integers(0, 127), st.integers(0, 255))
def test_a_damaged_npy_header_is_refused_or_harmless(place: int, value: int) -> None:
    body = bytearray(to_npy(EMBEDDINGS))
    body[place] = value
    try:
        read = read_embeddings(npy_answer(bytes(body)), 3)
    except MalformedResponse:
        return
    assert sorted(read.embeddings.ravel().tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("version", ["", "0", "-1", "seven", "7.0", "\u0667", "9" * 20])
def test_refuses_embeddings_without_a_valid_version(version: str) -> None:
    with pytest.raises(MalformedResponse, match="x-lookalike-version"):
        read_embeddings(npy_answer(to_npy(EMBEDDINGS), version), 3)


def test_refuses_an_unexpected_content_type() -> None:
    with pytest.raises(MalformedResponse, match="Content-Type: expected application/x-npy, found text/html"):
        read_embeddings(npy_answer(to_npy(EMBEDDINGS), kind="Text/HTML; charset=utf-8"), 3)
    with pytest.raises(MalformedResponse, match="Content-Type"):
        read_object(Response(200, {}, b"{}", "r1"))


TEXTS = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in EMBEDDINGS]


def test_reads_embeddings_of_json() -> None:
    read = read_embeddings(json_answer({"version": 7, "embeddings": TEXTS}), 3)
    np.testing.assert_array_equal(read.embeddings, EMBEDDINGS)
    assert (read.version, read.windows, read.columns) == (7, (), ())
    assert read.embeddings.flags.writeable
    fields = {"version": 7, "embeddings": TEXTS, "columns": [["size"], None, []]}
    assert read_embeddings(json_answer(fields), 3).columns == (("size",), None, ())
    places = [{"input": number, "start": 0.5, "end": 2.5} for number in (0, 1, 1)]
    read = read_embeddings(json_answer({"version": 7, "embeddings": TEXTS, "windows": places}), 2)
    assert [place.input for place in read.windows] == [0, 1, 1]
    assert len(read.embeddings) == 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"embeddings": TEXTS[:2]}, "embeddings"),
        ({"embeddings": [*TEXTS[:2], TEXTS[2][:4]]}, "embeddings"),
        ({"embeddings": [*TEXTS[:2], "not base64"]}, "embeddings"),
        ({"embeddings": [1, 2, 3]}, "embeddings"),
        ({"embeddings": ["", "", ""]}, "embeddings"),
        ({"embeddings": 3}, "embeddings"),
        ({}, "embeddings"),
        ({"embeddings": [base64.b64encode(np.float32("nan").tobytes()).decode()] * 3}, "body"),
        ({"embeddings": TEXTS, "columns": [None]}, "columns"),
        ({"embeddings": TEXTS, "columns": [None, "size", None]}, r"columns\[1\]"),
        ({"embeddings": TEXTS, "windows": [{"input": 5, "start": 0, "end": 1}]}, "windows"),
    ],
)
def test_refuses_wrong_embeddings_of_json(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(MalformedResponse, match=f"^{field}: "):
        read_embeddings(json_answer({"version": 7, **fields}), 3)


WHOLE = {"version": 7, "sequence": 3, "results": [FOUND]}


def test_reads_the_columns_of_a_part_of_a_row() -> None:
    fields = {"version": 7, "sequence": 3, "results": [FOUND | {"columns": ["size"]}, FOUND]}
    read = search_response(fields, count=2)
    assert [result.columns for result in read.results] == [("size",), None]


def test_reads_hits_and_novelty() -> None:
    read = search_response(WHOLE)
    assert (read.version, read.sequence, read.results[0].novelty) == (7, 3, 0.25)
    (hit,) = read.results[0].hits
    assert (hit.id, hit.score, hit.payload) == ("5", 0.5, {"label": 5})
    bare = {"hits": [{"id": "5", "score": 1}], "novelty": 1}
    assert search_response(WHOLE | {"results": [bare]}, with_payload=False).results[0].hits[0].payload is None


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
        ({"version": 7, "results": [{"hits": [], "novelty": 1, "columns": [3]}]}, "results[0].columns"),
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
def test_names_the_wrong_field_of_a_search_response(body: Any, field: str) -> None:
    with pytest.raises(MalformedResponse) as refused:
        search_response(body)
    assert (refused.value.field, refused.value.request_id) == (field, "r1")


def test_refuses_a_payload_that_was_not_requested() -> None:
    with pytest.raises(MalformedResponse, match="payload: expected no payload"):
        search_response(WHOLE, with_payload=False)


@pytest.mark.parametrize("body", [b"", b"{", b'{"version": NaN}', b"\xff", b"[" * 100_000])
def test_refuses_a_body_that_is_not_json(body: bytes) -> None:
    with pytest.raises(MalformedResponse, match="body: expected JSON"):
        read_version(Response(200, {"content-type": JSON}, body, "r1"))


def test_health_responses_must_confirm_the_state() -> None:
    assert read_live(json_answer({"live": True}))
    assert read_ready(json_answer({"ready": True, "version": 7})).version == 7
    for body in ({}, {"live": "yes"}, {"ready": False, "version": 7}, {"ready": True}):
        with pytest.raises(MalformedResponse):
            read_live(json_answer(body))
        with pytest.raises(MalformedResponse):
            read_ready(json_answer(body))


PROBLEM = {"type": "about:blank", "title": "Wrong", "detail": "inputs: no.", "field": "inputs", "status": 422}


def test_reads_the_members_of_a_problem() -> None:
    error = read_problem(json_answer(PROBLEM, 422, "application/problem+json"))
    assert isinstance(error, Unprocessable)
    assert (error.title, error.detail, error.field, error.expected) == ("Wrong", "inputs: no.", "inputs", "")
    assert error.retry_after is None


@pytest.mark.parametrize(
    "response",
    [
        Response(503, {"content-type": "text/html"}, b"<h1>Service Unavailable</h1>", "r1"),
        Response(503, {}, b"", "r1"),
        Response(503, {"content-type": "application/problem+json"}, b"{", "r1"),
        Response(503, {"content-type": "application/problem+json"}, b"[]", "r1"),
        json_answer({"title": 5, "detail": None}, 503, "application/problem+json"),
    ],
)
def test_an_error_page_of_a_proxy_becomes_a_problem_of_its_status(response: Response) -> None:
    error = read_problem(response)
    assert isinstance(error, NotReady)
    assert (error.type, error.title, error.field) == ("about:blank", "Service Unavailable", "")
    assert "no details" in error.detail


def test_an_unknown_status_is_a_problem_and_a_redirect_is_malformed() -> None:
    assert isinstance(read_problem(Response(599, {}, b"", "r1")), ProblemError)
    assert isinstance(read_problem(Response(302, {"location": "/"}, b"", "r1")), MalformedResponse)


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
def test_retry_after_is_seconds_or_a_date_relative_to_the_date_header(text: str, seconds: float | None) -> None:
    at = {"retry_after": text, "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    error = read_problem(json_answer(PROBLEM, 429, "application/problem+json", **at))
    assert isinstance(error, ProblemError)
    assert error.retry_after == seconds


def test_retry_after_uses_the_local_clock_without_a_date_header() -> None:
    error = read_problem(json_answer(PROBLEM, 429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"))
    assert isinstance(error, ProblemError)
    assert error.retry_after == 0.0
