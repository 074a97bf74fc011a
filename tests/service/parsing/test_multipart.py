import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.multipart import SPARE_PARTS, Part, read_parts

KIND = "multipart/form-data; boundary=edge"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts, each with the rest of its Content-Disposition."""
    written = [b"--edge\r\nContent-Disposition: form-data" + rest.encode() + b"\r\n\r\n" + c for rest, c in parts]
    return b"\r\n".join(written) + b"\r\n--edge--\r\n"


FILE = form(('; name="a"; filename="cat.jpg"', b"\xff\xd8\r\n--edg"), ('; name="ids"', b'["x"]'))


def test_reads_files_and_fields_in_order() -> None:
    assert read_parts(FILE, KIND, 5) == [Part("a", "cat.jpg", b"\xff\xd8\r\n--edg"), Part("ids", None, b'["x"]')]
    assert read_parts(memoryview(FILE), 'Multipart/Form-Data; boundary="edge"', 5)[0].file == "cat.jpg"


@given(st.lists(st.binary(max_size=40).filter(lambda content: b"--edge" not in content), max_size=4))
def test_any_content_is_read_as_it_is(contents: list[bytes]) -> None:
    if contents:
        parts = read_parts(form(*(('; name="f"; filename=""', content) for content in contents)), KIND, 9)
        assert [part.content for part in parts] == contents


def test_a_name_is_utf8_and_headers_may_have_any_case() -> None:
    body = FILE.replace(b"Content-Disposition", b"content-DISPOSITION").replace(b"cat", "Kätzchen".encode())
    assert read_parts(body, KIND, 5)[0].file == "Kätzchen.jpg"
    with pytest.raises(RequestError, match="part 0: expected names in UTF-8"):
        read_parts(FILE.replace(b"cat", b"\xff"), KIND, 5)


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (FILE, "multipart/form-data", "a boundary"),
        (FILE, "multipart/form-data; boundary=", "a boundary"),
        (FILE, "multipart/form-data; boundary=" + "x" * 999, "multipart/form-data"),
        (FILE, "multipart/form-data; boundary=other", "multipart/form-data"),
        (FILE[:-20], KIND, "a last boundary"),
        (FILE[:30], KIND, "a last boundary"),
        (b"", KIND, "a last boundary"),
        (b"{}", KIND, "multipart/form-data"),
        (b"--edge\r\n\r\nx\r\n--edge--\r\n", KIND, 'form-data; name="..."'),
        (form(("", b"x")), KIND, 'form-data; name="..."'),
        (FILE.replace(b"form-data", b"attachment", 1), KIND, 'form-data; name="..."'),
        (FILE.replace(b"cat", b"x" * 20_000), KIND, "multipart/form-data"),
        (FILE.replace(b"\r\n\r\n", b"\r\nX: y" * 999 + b"\r\n\r\n", 1), KIND, "multipart/form-data"),
    ],
)
def test_refuses_a_damaged_form_and_logs_nothing(
    body: bytes, kind: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MalformedError) as refused:
        read_parts(body, kind, 5)
    assert expected in refused.value.expected
    assert len(str(refused.value)) < 400
    assert not caplog.records


def test_limits_the_parts() -> None:
    parts = [('; name="f"; filename="x"', b"")] * (2 + SPARE_PARTS)
    assert len(read_parts(form(*parts), KIND, 2)) == 2 + SPARE_PARTS
    with pytest.raises(TooLargeError, match="at most 2 files"):
        read_parts(form(*parts, *parts), KIND, 2)
