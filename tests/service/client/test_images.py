"""The client's photos, checked alone and against a real process."""

import io
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike.service.client import AsyncClient, Client, MalformedResponse, NotFound, Unprocessable, images
from lookalike.service.client.images import base64_images, check_images, image_parts
from tests.photos import COLORS, image, photo, photo_store, row_of, size_of
from tests.service.process import running
from tests.service.scripted import Line, scripted

NAME = "07.png"
COLOR = COLORS[NAME]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = photo_store(tmp_path_factory.mktemp("photos"))
    with running("serve", "--store", str(store.folder), "--port", "0") as server:
        yield server.url


@pytest.fixture
def given(tmp_path: Path) -> list[Any]:
    """The same photo in every form."""
    path = tmp_path / "photo"
    path.write_bytes(photo(COLOR))
    pixels = np.tile(np.array(COLOR, np.uint8), (8, 12, 1))
    return [path, str(path), photo(COLOR, "WEBP"), image(COLOR), pixels, photo(COLOR)]


def test_every_form_of_a_photo_is_a_query(url: str, given: list[Any]) -> None:
    for most in (1, 4, 100):
        with Client(url, max_rows=most) as client:
            found = client.search(images=given, limit=1)
            assert [[hit.id for hit in result.hits] for result in found.results] == [[NAME]] * len(given)
            np.testing.assert_array_equal(client.embed(images=given).embeddings, [row_of(COLOR)] * len(given))
            assert client.search(images=given[:1], limit=3).results[0].hits[0].id == NAME


def test_a_grey_array_is_a_photo_too(url: str) -> None:
    with Client(url) as client:
        embedded = client.embed(images=np.full((2, 5, 5), 80, np.uint8))
        np.testing.assert_array_equal(embedded.embeddings, [[80] * 12] * 2)


def test_puts_photos_and_gets_their_previews(url: str, given: list[Any]) -> None:
    ids = [f"put/{number}/preview" for number in range(len(given))]
    with Client(url, max_rows=4) as client:
        assert client.put(ids, images=given, payloads=[{"n": number} for number in range(len(ids))]).count == len(ids)
        assert [client.get(name).payload for name in ids] == [{"n": number} for number in range(len(ids))]
        assert {size_of(client.preview(name)) for name in ids} == {("WEBP", (12, 8))}
        assert client.preview(NAME) != b""
        for missing in ("none", "put/0"):
            with pytest.raises(NotFound):
                client.preview(missing)
        assert client.delete_where({"field": "n", "exists": True}).count == len(ids)


def test_every_form_of_a_photo_is_explained(url: str, given: list[Any]) -> None:
    with Client(url) as client:
        expected = client.explain([NAME, "05.png"])
        for each in given:
            assert client.explain(image=each, id="05.png") == expected
        with pytest.raises(Unprocessable) as refused:
            client.explain(image=b"text", id="05.png")
        assert refused.value.field == "image"


@pytest.mark.anyio
async def test_the_async_client_has_the_same_calls(url: str, given: list[Any]) -> None:
    async with AsyncClient(url) as client:
        assert (await client.search(images=given, limit=1)).results[0].hits[0].id == NAME
        np.testing.assert_array_equal((await client.embed(images=given[:1])).embeddings, [row_of(COLOR)])
        assert await client.explain(image=given[0], id="05.png") == await client.explain([NAME, "05.png"])
        assert (await client.put(["async"], images=given[:1])).count == 1
        assert size_of(await client.preview("async")) == ("WEBP", (12, 8))
        assert (await client.delete("async")).count == 1


def test_the_service_names_a_wrong_photo_by_its_number_in_the_whole_list(url: str) -> None:
    with Client(url, max_rows=2) as client, pytest.raises(Unprocessable) as refused:
        client.search(images=[photo(COLOR), photo(COLOR), photo(COLOR), b"text"])
    assert refused.value.field == "images[3]"


def test_keeps_the_orientation_of_a_pillow_image() -> None:
    upright = image(COLOR)
    upright.getexif()[0x0112] = 6
    (text,) = base64_images([upright])
    with Image.open(io.BytesIO(b64decode(text))) as sent:
        assert sent.getexif()[0x0112] == 6


def test_parts_have_at_most_so_many_photos_and_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "_PART_BYTES", 10)
    path = tmp_path / "f"
    path.write_bytes(b"x" * 6)
    array = np.zeros((2, 2, 3), np.uint8)  # 12 bytes
    some: list[Any] = [b"x" * 4, path, b"x", array, b"", b"", b"", image(COLOR, (1, 2))]
    assert [(part.start, part.stop) for part in image_parts(some, 3)] == [(0, 2), (2, 3), (3, 4), (4, 7), (7, 8)]
    assert image_parts([], 3) == [slice(0, 0)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("photo.png", "images: expected a sequence of photos, found a single str"),
        (b"x", "images: expected a sequence of photos, found a single bytes"),
        (image(COLOR), "images: expected a sequence of photos, found a single Image"),
        ([b"x", 3], r"images\[1\]: expected a path, bytes, a PIL image or an array, found int"),
        ([np.zeros((2, 2))], r"images\[0\]: expected an array \(h, w\) or \(h, w, 3\) of uint8, found shape \(2, 2\)"),
        (np.zeros((2, 2, 2, 4), np.uint8), r"images\[0\]: expected an array"),
    ],
)
def test_refuses_what_is_no_photo(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(wrong)


def test_refuses_what_cannot_be_sent(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match=r"images\[1\]: expected a readable file, found No such file"):
            client.search(images=[b"x", tmp_path / "none"])
        with pytest.raises(ValueError, match=r"images\[0\]: expected a readable file"):
            client.put(["a"], images=[tmp_path])
        with pytest.raises(ValueError, match="image: expected a readable file"):
            client.explain(image=tmp_path, id="a")
        with pytest.raises(ValueError, match="image: expected a path, bytes, a PIL image or an array, found list"):
            client.explain(image=[b"x"], id="a")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="exactly one of inputs, embeddings, ids and images"):
            client.search(images=[b"x"], ids=["a"])
        with pytest.raises(ValueError, match="exactly one of rows and images"):
            client.embed()
        with pytest.raises(ValueError, match="exactly one of inputs, images and embeddings"):
            client.put(["a"])
        with pytest.raises(ValueError, match="images: expected one for each of 2 ids, found 1"):
            client.put(["a", "b"], images=[b"x"])
    with pytest.raises(ValueError, match=r"images\[3\]: expected an image that can be written as PNG"):
        base64_images([Image.new("F", (2, 2))], 3)


@pytest.mark.parametrize("body", [b"", b"RIFF", b"\x89PNG"])
def test_refuses_a_preview_that_is_no_picture(body: bytes) -> None:
    with scripted(Line(200, {"Content-Type": "image/webp"}, body)) as server, Client(server.url) as client:
        with pytest.raises(MalformedResponse, match="expected a WebP file"):
            client.preview("a")
        assert server.paths == ["/items/a/preview"]


def test_does_not_load_pillow_for_paths_and_bytes() -> None:
    code = (
        "import sys; from lookalike.service.client.images import base64_images; base64_images([b'x', sys.executable]); "
    )
    subprocess.run([sys.executable, "-c", code + "assert 'PIL' not in sys.modules"], check=True)
