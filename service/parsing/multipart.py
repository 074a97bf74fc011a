"""Split a multipart/form-data body (RFC 7578) into its parts."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.bodies import Body

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Part", "read_parts"]

SPARE_PARTS = 8
"""Parts that a body may have besides its files."""
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a wrong form raises an error, and logs a warning too


@dataclass(frozen=True)
class Part:
    """A part of a form: the name of its field, the name of its file (None for a field), and its content."""

    name: str
    file: str | None
    content: Body


def read_parts(body: Body, content_type: str, most: int) -> list[Part]:
    """Return the parts of a body, in order.

    Args:
        content_type: the request's header, with the boundary.
        most: how many files a call may have.

    Raises:
        MalformedError: there is no boundary, the body is damaged or incomplete, or a name is not UTF-8.
        TooLargeError: there are more than `most` files and SPARE_PARTS other parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedError("Content-Type", expected="a boundary", found=content_type[:60])
    found = _Parts(most)
    try:
        parser = MultipartParser(boundary, found.callbacks())
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:
        raise MalformedError("body", expected="multipart/form-data", found=str(error)[:100]) from error
    if not found.is_whole:
        raise MalformedError("body", expected="multipart/form-data with a last boundary", found="only the beginning")
    return [_part(number, *part) for number, part in enumerate(found.parts)]


class _Parts:
    """Collects the headers and the content of each part."""

    def __init__(self, most: int) -> None:
        self.parts: list[tuple[dict[bytes, bytes], list[Body]]] = []
        self.is_whole = False
        self._most = most
        self._field, self._value = b"", b""

    def callbacks(self) -> "MultipartCallbacks":
        """Return the methods by the names of the parser's events."""
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        if len(self.parts) == self._most + SPARE_PARTS:
            raise TooLargeError("body", expected=f"at most {self._most} files in a call", found="more parts")
        self.parts.append(({}, []))

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1][0][self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].append(memoryview(data)[start:end])  # not a copy

    def _end(self) -> None:
        self.is_whole = True


def _part(number: int, headers: dict[bytes, bytes], content: list[Body]) -> Part:
    kind, options = parse_options_header(headers.get(b"content-disposition", b"").decode("latin-1"))
    name, file = options.get(b"name"), options.get(b"filename")
    if kind != b"form-data" or name is None:
        expected = 'Content-Disposition: form-data; name="..."'
        raise MalformedError(f"part {number}", expected=expected, found=repr(kind[:40]))
    whole = content[0] if len(content) == 1 else b"".join(content)
    try:
        return Part(name.decode(), None if file is None else file.decode(), whole)
    except UnicodeDecodeError as error:
        raise RequestError(f"part {number}", expected="names in UTF-8", found="other bytes") from error
