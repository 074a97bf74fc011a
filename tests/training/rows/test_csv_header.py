import gzip
from pathlib import Path

import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import ConfigError, DataError
from lookalike.training.rows.csv_header import PIECE, Header, read_header


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\r\n", b"\xef\xbb\xbf\r\r"])
def test_the_header_is_the_first_line_that_is_not_blank(tmp_path: Path, start: bytes) -> None:
    path = written(tmp_path / "a.csv", start + b'"a, ""b""\nc",d\r\n1,2\r\n')
    assert read_header(path) == Header(['a, "b"\nc', "d"], len(start) + 14)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found an empty file"),
        (b"\r\n\n", "found an empty file"),
        (
            "a,b\n1,2\n".encode("utf-16-le"),
            "found NUL bytes in its first line. For UTF-16 without a byte order mark, add",
        ),
        (
            b"a,caf\xe9\n1,2\n",
            "found the byte 0xe9. Name the file's encoding, for example `--set data.encoding=latin-1`",
        ),
        (b"a,\x80\n1,2\n", "found the byte 0x80. Name the file's encoding, for example `--set data.encoding=cp1252`"),
        (b'a,"b\n1,2\n', "found a quoted name without a closing quote"),
        (b"a" * (PIECE + 1), "found a longer line"),
        (b"a" * 200_000 + b"\n1\n", "field larger than field limit"),
    ],
)
def test_refuses_a_first_line_that_is_not_a_header(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv: expected") as caught:
        read_header(written(tmp_path / "a.csv", content))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2\n", ";"),
        ("a;b\n", ";"),
        ("a\tb\nx, y\t2\n", "\t"),
        ("a|b|c\n1|2|3\n", "|"),
        ("price, EUR;count\n1,5;2\n", ";"),
        ("a,b\nx;y,1\nx,2\n", ","),
        ("a,b;c\nx;y,1\nx,2\n", ","),
        ('"a;b",c\n1,2\n', ","),
        ('"a;b;c",d\n"x;y;z",2\n', ","),
        ('a,b\n"1\t2\n3\t4",5\n', ","),
        ("a,b,c\n1,2,3\n1,2\n", ","),
        ("a\nx, y\n", ","),
        ("a b\n1 2\n", ","),
        ("a;b\n" + "x" * 200_000 + ";1\n", ";"),
        ("a;b\n" + "1,2,3;4\n" * 500_000, ";"),
    ],
)
def test_detects_the_delimiter_from_the_first_lines(tmp_path: Path, text: str, delimiter: str) -> None:
    assert read_header(written(tmp_path / "a.csv", text)).delimiter == delimiter


@pytest.mark.parametrize(
    ("start", "settings", "encoding"),
    [
        (b"", DataConfig(), "utf-8"),
        (b"\xef\xbb\xbf", DataConfig(), "utf-8"),
        (b"\xff\xfe", DataConfig(), "utf-16"),
        (b"\xfe\xff", DataConfig(), "utf-16"),
        (b"\xff\xfe\0\0", DataConfig(), "utf-32"),
        (b"", DataConfig(encoding="Latin-1"), "iso8859-1"),
        (b"\xef\xbb\xbf", DataConfig(encoding="UTF8"), "utf-8"),
        (b"\xff\xfe", DataConfig(encoding="utf-16-le"), "utf-16-le"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_detects_the_encoding_by_the_byte_order_mark(
    tmp_path: Path, start: bytes, settings: DataConfig, encoding: str, compress: type[bytes]
) -> None:
    codec = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xff\xfe\0\0": "utf-32-le"}.get(start, "utf-8")
    path = written(tmp_path / "a.csv", compress(start + "id;x\n1;2\n".encode(codec)))
    header = read_header(path, settings)
    assert (header.names, header.encoding) == (["id", "x"], encoding)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (DataConfig(encoding="latin-one"), "data.encoding: expected auto, or an encoding of text"),
        (DataConfig(encoding="punycode"), "data.encoding: expected auto, or an encoding of text"),
        (DataConfig(encoding="unicode_escape"), "data.encoding: expected auto, or an encoding of text"),
        (DataConfig(encoding="base64"), "data.encoding: expected auto, or an encoding of text"),
        (DataConfig(encoding=""), "data.encoding: expected auto, or an encoding of text"),
        (DataConfig(delimiter='"'), "data.delimiter: expected auto, or one ASCII character"),
        (DataConfig(delimiter="\n"), "data.delimiter: expected auto, or one ASCII character"),
        (DataConfig(delimiter="§"), "data.delimiter: expected auto, or one ASCII character"),
    ],
)
def test_refuses_settings_that_no_file_can_have(tmp_path: Path, settings: DataConfig, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_header(written(tmp_path / "a.csv", "a,b\n"), settings)
    assert expected in str(caught.value)


def test_refuses_utf_16_without_a_byte_order_mark_that_the_setting_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected text in UTF-16, found UTF-16 stream does not start with BOM"):
        read_header(written(tmp_path / "a.csv", "a,b\n"), DataConfig(encoding="utf-16"))


@pytest.mark.parametrize(
    ("content", "encoding", "of_training", "of_query"),
    [
        ("é", "utf-8", "iso8859-1", "utf-8"),
        ("é", "latin-1", "iso8859-1", "iso8859-1"),
        ("e", "latin-1", "iso8859-1", "iso8859-1"),
        ("é", "utf-8-sig", "utf-8", "utf-8"),
        ("é", "utf-16", "utf-16", "utf-16"),
    ],
)
def test_a_query_may_have_another_encoding_than_the_training(
    tmp_path: Path, content: str, encoding: str, of_training: str, of_query: str
) -> None:
    path = written(tmp_path / "a.csv", f"{content},x\n1,2\n".encode(encoding))
    settings = DataConfig(encoding="latin-1")
    assert read_header(path, settings).encoding == of_training
    found = read_header(path, settings, trained=True)
    assert (found.encoding, found.names) == (of_query, [content, "x"])
