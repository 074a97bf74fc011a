import struct
import zlib
from base64 import b64encode

import numpy as np
import pytest

from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.multipart import Part
from lookalike.service.parsing.photos import Photo, check_photos, decode_photos, file_photos, photos_of_json
from lookalike.service.parsing.rows import RequestLimits
from tests.photos import TRANSFORM, photo, row_of, size_of

COLOR = (200, 100, 50)
PNG = photo(COLOR)
LIMITS = RequestLimits((2, 2, 3), 12, 3, 10, 100, photo=TRANSFORM, max_pixels=100)


def bomb(width: int, height: int) -> bytes:
    """A PNG file whose head claims this size, and which has no pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def refused(photo: Photo) -> RequestError:
    with pytest.raises(RequestError) as error:
        decode_photos([Photo("first", PNG), photo], LIMITS, lambda: None)
    return error.value


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_decodes_bytes_and_base64_alike(kind: str) -> None:
    content = photo(COLOR, kind)
    texts = photos_of_json([b64encode(content).decode()], "images[{}]", LIMITS)
    decoded = decode_photos([Photo("body", memoryview(content)), *texts], LIMITS, lambda: None)
    np.testing.assert_allclose(decoded.rows, [row_of(COLOR)] * 2, atol=3 if kind == "JPEG" else 0)
    assert decoded.rows.dtype == np.float32
    assert decoded.previews == []


def test_makes_previews_if_they_are_wanted() -> None:
    limits = RequestLimits((2, 2, 3), 12, 3, 10, 100, photo=TRANSFORM, max_pixels=100_000)
    decoded = decode_photos([Photo("a", photo(COLOR, size=(300, 150)))], limits, lambda: None, previews=True)
    assert [size_of(preview) for preview in decoded.previews] == [("WEBP", (96, 48))]


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [
        (b"", "a JPEG, PNG or WebP photo", "an empty file"),
        (b"{}", "a JPEG, PNG or WebP photo", "a file that begins with b'{}'"),
        (photo(COLOR, "GIF"), "a JPEG, PNG or WebP photo", "a file that begins with b'GIF87a"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1", "a JPEG, PNG or WebP photo", "a HEIC file"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avif", "a JPEG, PNG or WebP photo", "an AVIF file"),
        (photo(COLOR, "JPEG")[:-9], "a readable photo", "truncated"),
        (photo(COLOR, "JPEG")[:40], "", ""),
        (PNG[:50], "", ""),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 99, "", ""),
        (bomb(10, 11), "a photo of at most 100 pixels", "10 x 11"),
        (bomb(60_000, 60_000), "", ""),
        (bomb(1 << 31, 1 << 31), "", ""),
        (bomb(10, 10), "", ""),
        ("%%%", "in base64", ""),
        ("data:image/png;base64," + b64encode(PNG).decode(), "without a prefix", ""),
        (b64encode(PNG).decode()[:-1], "in base64", ""),
        ("é", "in base64", ""),
        (b64encode(b"text").decode(), "a JPEG, PNG or WebP photo", "a file that begins with b'text'"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_names_a_wrong_photo(content: bytes | str, expected: str, found: str) -> None:
    error = refused(Photo("images[1]", content))
    assert (error.field, error.status) == ("images[1]", 422)
    assert expected in error.expected
    assert found in error.found
    assert len(str(error)) < 400


def test_asks_before_each_photo_whether_to_go_on() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise TooLargeError("stop", "", "")

    with pytest.raises(TooLargeError, match="stop"):
        decode_photos([Photo("a", PNG)] * 3, LIMITS, check)
    assert len(asked) == 2


def test_a_file_has_its_number_and_its_name() -> None:
    photos = file_photos([Part("f", "cat.jpg", PNG), Part("f", "\x1b[1m" + "x" * 99, PNG)], LIMITS)
    assert [photo.field for photo in photos] == ["files[0] cat.jpg", "files[1] ?[1m" + "x" * 60]


def test_limits_the_number_of_photos_and_needs_one() -> None:
    check_photos(3, "images", LIMITS)
    with pytest.raises(TooLargeError, match="images: expected at most 3 in a call, found 4"):
        check_photos(4, "images", LIMITS)
    with pytest.raises(RequestError, match="files: expected at least one photo, found no photo"):
        check_photos(0, "files", LIMITS)


def test_an_encoder_of_other_rows_says_what_it_accepts() -> None:
    limits = RequestLimits((8, 8), 8, 3, 10, 100)
    with pytest.raises(RequestError, match=r"expected rows of shape \(8, 8\): .* not trained on photos, found a photo"):
        check_photos(1, "body", limits)


def test_limits_the_memory_of_the_rows() -> None:
    large = RequestLimits((4_096, 4_096), 12, 300, 10, 100, photo=TRANSFORM)  # 64 MiB each
    check_photos(4, "images", large)
    with pytest.raises(TooLargeError, match="images: expected at most 4 in a call, because of their size, found 5"):
        check_photos(5, "images", large)
