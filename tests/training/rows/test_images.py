import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookalike.index.items.ids import id_problem
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Rows, open_rows
from lookalike.training.rows.image_files import MAX_NAME, photo_id
from lookalike.training.rows.images import open_images
from lookalike.training.transforms import ImageTransform, InputSpec
from tests.factories import read_all

pillow_heif.register_heif_opener()

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7
LENIENT, STRICT = DataConfig(max_unreadable=0.9), DataConfig(max_unreadable=0)


def put(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def ids(rows: Rows) -> list[str]:
    return [name for chunk in rows.chunks() for name in chunk.ids]


def refused(folder: Path, settings: DataConfig = STRICT) -> str:
    with pytest.raises(DataError) as caught:
        open_rows(str(folder), settings)
    assert str(caught.value).startswith(f"{folder}: ")
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "PNG", "tif", "ppm"])
@pytest.mark.parametrize("pixels", [GRAY, COLOR])
def test_reads_images_pixel_by_pixel(tmp_path: Path, suffix: str, pixels: NDArray[np.uint8]) -> None:
    put(tmp_path / f"a.{suffix}", pixels)
    put(tmp_path / f"b.{suffix}", 255 - pixels)
    rows = open_rows(str(tmp_path))
    assert (rows.shape, rows.count, rows.pixels) == (pixels.shape, 2, True)
    np.testing.assert_array_equal(read_all(tmp_path, 1).inputs, np.stack([pixels, 255 - pixels]).reshape(2, -1))


def test_reads_every_type_of_photo_in_a_folder(tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOR).resize((32, 30), Image.Resampling.BICUBIC)
    endings = ["jpg", "JPEG", "jfif", "png", "webp", "tif", "TIFF", "bmp", "heic", "HEIF", "avif", "ppm"]
    for number, ending in enumerate(endings):
        kind = {"kind": "JPEG"} if ending == "jfif" else {}
        smooth.save(tmp_path / f"{number:02}.{ending}", format=kind.get("kind"), quality=95)
    smooth.quantize(256).save(tmp_path / "99.gif")
    rows = open_rows(str(tmp_path))
    assert (rows.count, rows.shape, rows.notes) == (13, (30, 32, 3), ())
    assert np.abs(read_all(tmp_path).inputs - np.asarray(smooth).ravel()).mean() < 4


def test_ids_are_paths_and_labels_are_subfolders(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "top.png", "a/deep/3.png"):
        put(tmp_path / name, GRAY)
    chunk = read_all(tmp_path)
    assert chunk.ids == ["a/1.png", "a/deep/3.png", "b/2.png", "top.png"]
    assert [payload.get("label") for payload in chunk.payloads] == ["a", "a/deep", "b", None]
    assert chunk.payloads[0] == {"file": "a/1.png", "label": "a", "width": 4, "height": 3}


def test_photos_of_mixed_sizes_become_squares(tmp_path: Path) -> None:
    """The shorter sides are 10, 20 and 200: their median is 20."""
    for number, size in enumerate([(10, 300), (20, 30), (200, 500)]):
        put(tmp_path / f"{number}.png", np.full(size, 50 * number, np.uint8))
    rows = open_rows(str(tmp_path))
    assert rows.transform == ImageTransform(height=20, width=20, mode="grey")
    chunk = read_all(tmp_path)
    np.testing.assert_array_equal(chunk.inputs, np.repeat([[0], [50], [100]], 400, axis=1))
    assert [(payload["width"], payload["height"]) for payload in chunk.payloads] == [(300, 10), (30, 20), (500, 200)]


def test_large_photos_of_one_size_become_squares_of_32(tmp_path: Path) -> None:
    put(tmp_path / "a.png", np.zeros((100, 33), np.uint8))
    assert open_rows(str(tmp_path)).shape == (32, 32)
    assert open_rows(str(tmp_path), DataConfig(image_size=10)).shape == (10, 10)
    assert open_rows(str(tmp_path), DataConfig(image_size=(10, 12), image_mode="rgb")).shape == (10, 12, 3)


def test_settings_reach_the_transform(tmp_path: Path) -> None:
    put(tmp_path / "a.png", COLOR)
    settings = DataConfig(image_size=(5, 6), image_mode="grey", image_fit="pad", image_background="#102030")
    expected = ImageTransform(height=5, width=6, mode="grey", fit="pad", background="#102030")
    rows = open_rows(str(tmp_path))
    assert open_rows(str(tmp_path), settings).transform == expected
    assert rows.with_settings(settings).transform == expected
    assert rows.with_settings(dataclasses.replace(DataConfig(), validation=0.5)) is rows


def test_color_anywhere_in_the_folder_makes_rgb(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / f"{name}.png", GRAY)
        put(tmp_path / f"{name}.tif", np.stack([GRAY] * 3, axis=2))  # three channels, but no color
    np.testing.assert_array_equal(read_all(tmp_path).inputs, [GRAY.ravel()] * 6)
    put(tmp_path / "d.png", COLOR)
    inputs = read_all(tmp_path).inputs
    np.testing.assert_array_equal(inputs[:6], [np.repeat(GRAY, 3)] * 6)
    np.testing.assert_array_equal(inputs[6], COLOR.ravel())


def test_an_encoder_decides_how_photos_are_read(tmp_path: Path) -> None:
    put(tmp_path / "a.png", COLOR)
    transform = ImageTransform(height=2, width=2, mode="grey", fit="stretch")
    spec = InputSpec(transform=transform)
    rows = open_rows(str(tmp_path), spec=spec)
    assert (rows.transform, rows.shape, rows.settings) == (transform, (2, 2), None)
    other = open_rows(str(tmp_path)).suited(spec)
    assert other.transform == transform
    np.testing.assert_array_equal(next(other.chunks()).inputs, next(rows.chunks()).inputs)


def test_a_single_photo_is_a_query(tmp_path: Path) -> None:
    path = put(tmp_path / "Query.PNG", COLOR)
    put(tmp_path / "other.png", GRAY)
    rows = open_rows(str(path), spec=InputSpec(transform=ImageTransform(height=3, width=4, mode="rgb")))
    chunk = next(rows.with_previews().chunks())
    assert (chunk.ids, len(chunk.previews)) == (["Query.PNG"], 1)
    assert chunk.payloads == [{"file": "Query.PNG", "width": 4, "height": 3}]
    np.testing.assert_array_equal(chunk.inputs, [COLOR.ravel()])


def test_a_single_photo_needs_an_encoder_of_photos(tmp_path: Path) -> None:
    assert "expected a file, found no file at that path" in refused(tmp_path / "absent.jpg")
    path = put(tmp_path / "a.png", COLOR)
    assert "expected a folder of photos, found a single photo. Name the folder" in refused(path)
    with pytest.raises(DataError, match="the encoder reads other rows"):
        open_rows(str(path), spec=InputSpec())


def test_previews_change_no_row(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / f"{number}.jpg", np.full((700, 900, 3), 40 * number, np.uint8))
    rows = open_rows(str(tmp_path))
    plain, pictured = list(rows.chunks(2)), list(rows.with_previews().chunks(2))
    assert [len(chunk.previews) for chunk in pictured] == [2, 2, 1]
    assert all(preview[8:12] == b"WEBP" for chunk in pictured for preview in chunk.previews)
    for without, with_previews in zip(plain, pictured, strict=True):
        assert (without.ids, without.payloads, without.previews) == (with_previews.ids, with_previews.payloads, [])
        np.testing.assert_array_equal(without.inputs, with_previews.inputs)


def damaged(folder: Path) -> None:
    """Five photos, of which two can be read."""
    for name in "ab":
        put(folder / f"{name}.png", GRAY)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:40])
    (folder / "empty.jpg").touch()
    (folder / "sheet.png").write_bytes(b"PK\3\4 a workbook")


def test_skips_and_lists_photos_that_cannot_be_read(tmp_path: Path) -> None:
    damaged(tmp_path)
    rows = open_rows(str(tmp_path), LENIENT)
    assert (rows.count, ids(rows)) == (2, ["a.png", "b.png"])
    assert [name for name, _ in rows.skipped] == ["cut.png", "empty.jpg", "sheet.png"]
    assert rows.skipped[1] == ("empty.jpg", "expected a photo, found an empty file")
    assert rows.notes[0] == "skipped 3 of 5 photos that cannot be read"
    assert rows.notes[2] == "skipped empty.jpg (expected a photo, found an empty file)"
    assert ids(rows.suited(InputSpec(transform=rows.transform, settings=LENIENT))) == ids(rows)


def test_too_many_unreadable_photos_are_an_error(tmp_path: Path) -> None:
    damaged(tmp_path)
    strict = DataConfig(max_unreadable=0.59)
    message = refused(tmp_path, strict)
    assert "expected at most 59.00% unreadable photos, found 3 of 5 unreadable: cut.png (" in message
    assert message.endswith("Repair or remove them. --max-unreadable 0.6 skips them.")
    with pytest.raises(DataError, match="found 3 of 5"):
        open_rows(str(tmp_path), strict, InputSpec(transform=ImageTransform(height=3, width=4, mode="rgb")))
    assert open_rows(str(tmp_path), DataConfig(max_unreadable=0.6)).count == 2


def test_an_error_groups_unreadable_photos_by_their_reason(tmp_path: Path) -> None:
    damaged(tmp_path)
    for number in range(7):
        (tmp_path / f"z{number}.png").touch()
    expected = (
        "found 10 of 12 unreadable: empty.jpg, z0.png, z1.png, z2.png, z3.png and 3 more (expected a photo, found an"
    )
    assert expected in refused(tmp_path)


def test_one_in_a_hundred_photos_or_five_may_be_unreadable(tmp_path: Path) -> None:
    put(tmp_path / "a.png", GRAY)
    for number in range(5):
        (tmp_path / f"x{number}.png").touch()
    assert open_rows(str(tmp_path)).count == 1
    (tmp_path / "x5.png").touch()
    assert "expected at most 1.00% unreadable photos, or 5, found 6 of 7 unreadable" in refused(tmp_path, DataConfig())
    for number in range(593):
        (tmp_path / f"b{number}.png").symlink_to("a.png")
    assert open_rows(str(tmp_path)).count == 594
    (tmp_path / "x6.png").touch()
    assert "found 7 of 601 unreadable" in refused(tmp_path, DataConfig())


def test_all_photos_unreadable_is_an_error_at_any_share(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    assert "expected a readable photo, found 1 of 1 unreadable" in refused(tmp_path, DataConfig(max_unreadable=1))


def test_files_of_other_types_are_named_but_no_photos(tmp_path: Path) -> None:
    put(tmp_path / "a.png", GRAY)
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(100))  # macOS keeps attributes in such files
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    rows = open_rows(str(tmp_path))
    assert (rows.count, rows.skipped) == (1, ())
    assert rows.notes == ("skipped files of other types (3): ._a.png, notes.txt, pipe.png",)


def test_refuses_a_folder_without_images(tmp_path: Path) -> None:
    assert "expected a folder of images" in refused(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        DataError, match=r"expected a folder of images: \.avif \.bmp .*, found no photos, only notes\.txt"
    ):
        open_images(tmp_path, DataConfig())


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "deep" / "e.png", GRAY)
    put(tmp_path / "photos" / "own" / "o.png", GRAY)
    links = {"link": "../elsewhere", "again": "../elsewhere", "loop": ".", "inside": "own"}
    for name, target in links.items():
        (tmp_path / "photos" / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "file.png").symlink_to("own/o.png")
    (tmp_path / "photos" / "circle.txt").symlink_to("circle.txt")
    rows = open_rows(str(tmp_path / "photos"))
    assert ids(rows) == ["again/deep/e.png", "file.png", "own/o.png"]
    assert rows.notes == (
        "skipped files of other types (1): circle.txt",
        "followed links to folders (1): again",
    )


def test_a_broken_link_is_an_unreadable_photo(tmp_path: Path) -> None:
    put(tmp_path / "a.png", GRAY)
    (tmp_path / "b.png").symlink_to("nowhere.png")
    assert "b.png (expected a photo, found a link to a file that cannot be reached)" in refused(tmp_path)
    assert open_rows(str(tmp_path), LENIENT).count == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a\nb.png", "a%0Ab.png"),
        (b"caf\xe9.png", "caf%E9.png"),
        (b"50%\t.png", "50%25%09.png"),
        (b"50%.png", "50%.png"),
        ("c\x9f.png".encode(), "c%C2%9F.png"),
        ("Screenshot 10.00\u202fAM.png".encode(), "Screenshot 10.00\u202fAM.png"),
        ("fam\U0001f468\u200d\U0001f469.png".encode(), "fam\U0001f468\u200d\U0001f469.png"),
    ],
)
def test_odd_names_make_valid_ids(tmp_path: Path, name: bytes, expected: str) -> None:
    put(tmp_path / "x" / "plain.png", GRAY)
    os.rename(tmp_path / "x" / "plain.png", os.fsencode(tmp_path / "x") + b"/" + name)
    chunk = read_all(tmp_path)
    assert (chunk.ids, chunk.payloads[0]["file"]) == ([f"x/{expected}"], f"x/{expected}")
    assert id_problem(chunk.ids[0]) is None
    assert chunk.ids[0].encode().decode() == chunk.ids[0]


def test_every_escaped_character_is_one_that_ids_refuse() -> None:
    for code in [*range(1, 0x300), 0x2028, *range(0xDC80, 0xDD00), 0xE000]:
        assert (photo_id(chr(code)) != chr(code)) == (id_problem(chr(code)) is not None)
    assert id_problem("a" * MAX_NAME) is None
    assert id_problem("a" * (MAX_NAME + 1)) is not None


def test_two_names_that_make_one_id_and_long_paths_are_skipped(tmp_path: Path) -> None:
    for name in ("a\nb.png", "a%0Ab.png", "c.png", f"{'d' * 200}/{'e' * 200}.png"):
        put(tmp_path / name, GRAY)
    rows = open_rows(str(tmp_path), LENIENT)
    assert ids(rows) == ["a%0Ab.png", "c.png"]
    reasons = [reason for _, reason in rows.skipped]
    assert reasons == [
        "expected a path of at most 256 characters, found 405 characters",
        "expected a path that makes a unique id, found the id of another photo",
    ]


def test_a_photo_that_changes_later_is_an_error(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path / f"{name}.png", GRAY)
    rows = open_rows(str(tmp_path))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.png: expected the photo as it was before, found an empty file\."):
        ids(rows)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: .*found No such file or directory\. The file changed"):
        ids(rows)


def test_a_reader_that_stops_early_ends_its_threads(tmp_path: Path) -> None:
    for number in range(50):
        put(tmp_path / f"{number:02}.png", GRAY)
    rows = open_rows(str(tmp_path))
    before = threading.active_count()
    chunks = rows.read(1)
    assert next(chunks).ids == ["00.png"]
    assert threading.active_count() > before
    chunks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_every_pass_and_every_chunk_size_gives_the_same_rows(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 32, 3)).astype(np.uint8)
    for number, pixels in enumerate(noise):
        put(tmp_path / f"{number:02}.png", pixels)
    rows = open_rows(str(tmp_path))
    for size in (1, 7, 20, 100):
        np.testing.assert_array_equal(np.concatenate([c.inputs for c in rows.chunks(size)]), noise.reshape(20, -1))
