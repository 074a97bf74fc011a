from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from tests.factories import read_all

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


def put(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_all(folder)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "PNG", "tif", "ppm"])
@pytest.mark.parametrize("pixels", [GRAY, COLOR])
def test_reads_images_pixel_by_pixel(tmp_path: Path, suffix: str, pixels: NDArray[np.uint8]) -> None:
    put(tmp_path / f"a.{suffix}", pixels)
    put(tmp_path / f"b.{suffix}", 255 - pixels)
    rows = open_rows(str(tmp_path))
    assert (rows.shape, rows.count, rows.pixels) == (pixels.shape, 2, True)
    np.testing.assert_array_equal(read_all(tmp_path, 1).inputs, np.stack([pixels, 255 - pixels]).reshape(2, -1))


def test_ids_are_paths_and_labels_are_subfolders(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "top.png", "a/deep/3.png"):
        put(tmp_path / name, GRAY)
    chunk = read_all(tmp_path)
    assert chunk.ids == ["a/1.png", "a/deep/3.png", "b/2.png", "top.png"]
    assert [payload.get("label") for payload in chunk.payloads] == ["a", "a/deep", "b", None]
    assert chunk.payloads[0]["file"] == "a/1.png"


def test_ignores_other_files(tmp_path: Path) -> None:
    put(tmp_path / "a.png", GRAY)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert open_rows(str(tmp_path)).count == 1


def test_converts_all_images_to_gray_or_color_like_the_first(tmp_path: Path) -> None:
    put(tmp_path / "gray" / "a.png", GRAY)
    put(tmp_path / "gray" / "b.png", np.stack([GRAY] * 3, axis=2))
    np.testing.assert_array_equal(read_all(tmp_path / "gray").inputs, np.stack([GRAY, GRAY]).reshape(2, -1))
    put(tmp_path / "color" / "a.png", COLOR)
    put(tmp_path / "color" / "b.png", GRAY)
    np.testing.assert_array_equal(read_all(tmp_path / "color").inputs[1], np.repeat(GRAY, 3))


def test_converts_palettes_and_transparency_to_color(tmp_path: Path) -> None:
    opaque = np.dstack([COLOR, np.full((3, 4), 255, np.uint8)])
    put(tmp_path / "a.png", opaque)
    Image.fromarray(COLOR).quantize(12).save(tmp_path / "b.png")
    assert read_all(tmp_path).inputs.tolist() == [COLOR.ravel().tolist()] * 2


def test_names_an_image_of_another_size_with_both_sizes(tmp_path: Path) -> None:
    put(tmp_path / "a.png", GRAY)
    put(tmp_path / "b.png", GRAY.T.copy())
    assert "b.png: expected an image of 4 x 3 pixels, like the first image, found 3 x 4 pixels" in refused(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "b.png"])
def test_names_a_file_that_is_not_an_image(tmp_path: Path, name: str) -> None:
    for each in ("a.png", "b.png"):
        put(tmp_path / each, GRAY)
    (tmp_path / name).write_bytes(b"no image")
    assert f"{name}: expected a readable image" in refused(tmp_path)


@given(keep=st.floats(0, 0.9), suffix=st.sampled_from(["png", "jpg", "bmp", "ppm", "webp"]))
def test_names_a_truncated_image(tmp_path_factory: pytest.TempPathFactory, keep: float, suffix: str) -> None:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    path = put(folder / f"b.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    put(folder / "a.png", noise)
    assert f"b.{suffix}: expected a readable image" in refused(folder)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_refuses_images_of_more_than_8_bits(tmp_path: Path, dtype: Any) -> None:
    put(tmp_path / "a.tif", GRAY.astype(dtype))
    assert "expected 8 bits per channel" in refused(tmp_path)


def test_refuses_a_decompression_bomb_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
    assert "decompression bomb" in refused(tmp_path)


def test_refuses_a_folder_without_images(tmp_path: Path) -> None:
    assert "expected a folder of images" in refused(tmp_path)
