import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from lookalike.training.errors import DataError
from lookalike.training.transforms import ImageTransform
from lookalike.training.transforms import photos as module
from lookalike.training.transforms.photos import PREVIEW, open_photo, preview, to_pixels

pillow_heif.register_heif_opener()

NOISE = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
"""A portrait photo: 20 wide, 30 high."""
SMOOTH = np.asarray(Image.fromarray(NOISE[:6, :5]).resize((300, 200), Image.Resampling.BICUBIC))
TURNS = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.transpose(pixels, (1, 0, 2)),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: np.transpose(np.rot90(pixels, 2), (1, 0, 2)),
    8: lambda pixels: np.rot90(pixels, -1),
}
"""By the value of EXIF's Orientation: how such a camera stores an upright photo (Exif 2.32, 4.6.4)."""
EVERY_FIT = [
    ImageTransform(height=8, width=12, mode=mode, fit=fit)
    for mode in ("grey", "rgb")
    for fit in ("crop", "pad", "stretch")
]


def encoded(photo: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    (photo if isinstance(photo, Image.Image) else Image.fromarray(photo)).save(target, kind, **options)
    return target.getvalue()


def same_size(pixels: NDArray[Any], **changes: Any) -> ImageTransform:
    mode = "rgb" if pixels.ndim == 3 else "grey"
    return ImageTransform(**{"height": pixels.shape[0], "width": pixels.shape[1], "mode": mode, **changes})


def read(source: bytes, transform: ImageTransform) -> NDArray[np.float32]:
    return to_pixels(open_photo(source, "photo", transform), transform)


def refused(source: bytes | Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_photo(source, "my photo", **options)
    assert str(caught.value).startswith("my photo: ")
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_reads_every_lossless_format_pixel_by_pixel(kind: str) -> None:
    np.testing.assert_array_equal(read(encoded(NOISE, kind), same_size(NOISE)), NOISE)
    grey = NOISE[:, :, 0].copy()
    np.testing.assert_array_equal(read(encoded(grey, kind), same_size(grey)), grey)


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"})])
def test_reads_lossless_options_pixel_by_pixel(kind: str, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(read(encoded(NOISE, kind, **options), same_size(NOISE)), NOISE)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIF", "AVIF"])
def test_reads_every_lossy_format_nearly(kind: str) -> None:
    assert np.abs(read(encoded(SMOOTH, kind, quality=95), same_size(SMOOTH)) - SMOOTH).mean() < 2


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_photo_that_a_camera_stored_turned_gives_the_same_row(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(
        TURNS[orientation](NOISE).copy(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert open_photo(turned, "photo").info["size"] == (20, 30)
    for transform in EVERY_FIT:
        np.testing.assert_array_equal(read(turned, transform), read(encoded(NOISE), transform))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_phone_formats_turn_a_photo_once(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(TURNS[6](SMOOTH).copy(), kind, exif=exif.tobytes(), quality=95)
    assert open_photo(turned, "photo").info["size"] == (300, 200)
    assert np.abs(read(turned, same_size(SMOOTH)) - SMOOTH).mean() < 2


@pytest.mark.parametrize("transform", EVERY_FIT)
def test_copies_in_other_modes_give_the_same_row(transform: ImageTransform) -> None:
    grey = NOISE[:, :, 1].copy()
    expected = read(encoded(grey), transform)
    wide = grey.astype(np.uint16) * 257
    opaque = Image.fromarray(grey).convert("LA")
    copies = [encoded(wide), encoded(wide, "TIFF"), encoded(wide.astype(np.int32), "TIFF"), encoded(opaque)]
    copies += [encoded(np.stack([grey] * 3, axis=2)), encoded(Image.fromarray(grey).convert("P"))]
    copies.append(encoded((grey / 255).astype(np.float32), "TIFF"))
    for copy in copies:
        np.testing.assert_array_equal(read(copy, transform), expected)


def test_a_color_photo_of_16_bits_has_the_pixels_of_8_bits() -> None:
    """A PNG file that Pillow cannot write: color type 2 with 16 bits, each value 257 times that of 8 bits."""
    height, width, _ = NOISE.shape
    lines = b"".join(b"\0" + (line.astype(">u2") * 257).tobytes() for line in NOISE)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(lines))]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    ending = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + ending
    np.testing.assert_array_equal(read(png, same_size(NOISE)), NOISE)


def test_16_bits_keep_what_8_bits_would_round() -> None:
    values = np.array([[0, 1, 257, 65_535]], np.uint16)
    np.testing.assert_allclose(read(encoded(values), same_size(values)), [[0, 1 / 257, 1, 255]], rtol=1e-6)


@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_only_more_than_8_bits_are_resized_without_rounding(mode: Any) -> None:
    """0 and 1 become one pixel, half of both: 128.5 / 257 = 0.5 from 16 bits, but a whole number from 8 bits."""
    one_pixel = ImageTransform(height=1, width=1, mode=mode, fit="stretch")
    deep = np.array([[0, 257], [1, 256]], np.uint16)  # 256 and 1 cannot be values of 8 bits
    np.testing.assert_allclose(read(encoded(deep), one_pixel), 0.5, rtol=1e-6)
    shallow = read(encoded(np.array([[0, 1], [0, 1]], np.uint8)), one_pixel)
    assert (shallow == shallow.round()).all()


def test_a_photo_has_the_pixels_of_pillow() -> None:
    expected = ImageOps.fit(Image.fromarray(SMOOTH), (12, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read(encoded(SMOOTH), ImageTransform(height=8, width=12, mode="rgb")), expected)


def test_floating_point_is_white_at_one() -> None:
    values = np.array([[0, 0.5, 1]], np.float32)
    np.testing.assert_array_equal(read(encoded(values, "TIFF"), same_size(values)), [[0, 127.5, 255]])


@pytest.mark.parametrize(("value", "found"), [(1.5, "values from 0.0 to 1.5"), (np.nan, "nan")])
def test_refuses_floating_point_without_a_known_white(value: float, found: str) -> None:
    assert found in refused(encoded(np.array([[0, value]], np.float32), "TIFF"))


def test_refuses_integers_of_more_than_16_bits() -> None:
    assert "expected values from 0 to 65,535" in refused(encoded(np.array([[0, 70_000]], np.int32), "TIFF"))


@pytest.mark.parametrize("background", ["#ffffff", "#102030"])
def test_hidden_colors_do_not_matter(background: str) -> None:
    alpha = np.where(np.arange(30)[:, None] < 10, 0, 255) * np.ones((1, 20), np.int64)
    rows = []
    for hidden in ([0, 0, 0], [255, 0, 200]):
        pixels = NOISE.copy()
        pixels[:10] = hidden
        rows.append(encoded(np.dstack([pixels, alpha.astype(np.uint8)])))
    for transform in (same_size(NOISE, background=background), ImageTransform(height=7, width=5, mode="rgb")):
        np.testing.assert_array_equal(read(rows[0], transform), read(rows[1], transform))
    color = [int(background[i : i + 2], 16) for i in (1, 3, 5)]
    found = read(rows[0], same_size(NOISE, background=background))
    assert (found[:10] == color).all()
    np.testing.assert_array_equal(found[10:], NOISE[10:])


def test_half_transparent_pixels_are_mixed_with_the_background() -> None:
    pixels = np.array([[[200, 100, 0, 128]]], np.uint8)
    transform = ImageTransform(height=1, width=1, mode="rgb", background="#000000")
    np.testing.assert_allclose(read(encoded(pixels), transform), [[[100, 50, 0]]], atol=1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_may_have_a_transparent_color(kind: str) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    transform = ImageTransform(height=1, width=2, mode="rgb", background="#0000ff")
    np.testing.assert_array_equal(
        read(encoded(palette, kind, transparency=0), transform), [[[0, 0, 255], [200, 100, 50]]]
    )
    np.testing.assert_array_equal(read(encoded(palette, kind), transform), [[[10, 20, 30], [200, 100, 50]]])


def test_a_gray_value_may_be_the_transparent_color() -> None:
    pixels = np.array([[7, 100]], np.uint8)
    transform = ImageTransform(height=1, width=2, mode="grey", background="#ffffff")
    np.testing.assert_array_equal(read(encoded(pixels, transparency=7), transform), [[255, 100]])


def test_black_and_white_is_0_and_255() -> None:
    pixels = np.array([[True, False]])
    np.testing.assert_array_equal(
        read(encoded(Image.fromarray(pixels)), ImageTransform(height=1, width=2, mode="grey")), [[255, 0]]
    )


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    """(C, M, Y, K) = (0, 255, 255, 0) is red, (255, 0, 255, 0) green, and K = 255 black."""
    inks = np.zeros((8, 24, 4), np.uint8)
    inks[:, :8] = [0, 255, 255, 0]
    inks[:, 8:16] = [255, 0, 255, 0]
    inks[:, 16:] = [0, 0, 0, 255]
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    source = encoded(Image.fromarray(inks, "CMYK"), kind, **options)
    found = read(source, ImageTransform(height=8, width=24, mode="rgb"))[4, [4, 12, 20]]
    np.testing.assert_allclose(found, [[255, 0, 0], [0, 255, 0], [0, 0, 0]], atol=4)


def profile_of(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, of a display, with these tags (ICC.1:2001-04)."""
    start, entries, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        entries += name + struct.pack(">II", start + len(content), len(data))
        content += data
    white = struct.pack(">3i", *(round(value * 65_536) for value in (0.9642, 1.0, 0.8249)))
    head = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(content), b"lcms", 0x02100000, b"mntr", space, b"XYZ ", bytes(12), b"acsp"
    )
    return (head + bytes(28) + white).ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + content


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))


LINEAR = b"curv\0\0\0\0\0\0\0\0"
"""The curve of a channel without gamma."""
LINEAR_RGB = profile_of(
    b"RGB ",
    {
        b"rXYZ": xyz(0.4360, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), LINEAR),
        b"wtpt": xyz(0.9642, 1, 0.8249),
    },
)
"""The primaries of sRGB, but without its gamma."""
LINEAR_GREY = profile_of(b"GRAY", {b"kTRC": LINEAR, b"wtpt": xyz(0.9642, 1, 0.8249)})


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_embedded_profile_is_converted_to_srgb(kind: str) -> None:
    """sRGB's gamma: 0.2157 becomes 1.055 * 0.2157 ** (1 / 2.4) - 0.055 = 0.5020, which is 128 of 255."""
    pixels = np.array([[[0, 55, 255]] * 4] * 4, np.uint8)
    found = read(encoded(pixels, kind, icc_profile=LINEAR_RGB), same_size(pixels))
    np.testing.assert_allclose(found[0, 0], [0, 128, 255], atol=2)
    see_through = np.dstack([pixels, np.full((4, 4), 255, np.uint8)])
    np.testing.assert_array_equal(read(encoded(see_through, kind, icc_profile=LINEAR_RGB), same_size(pixels)), found)
    grey = np.full((4, 4), 55, np.uint8)
    np.testing.assert_allclose(read(encoded(grey, kind, icc_profile=LINEAR_GREY), same_size(grey)), 128, atol=2)


def test_ignores_a_profile_that_changes_nothing_or_does_not_fit() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for ignored in (lab, srgb, b"no profile"):  # of another mode, the same, damaged
        np.testing.assert_array_equal(read(encoded(NOISE, icc_profile=ignored), same_size(NOISE)), NOISE)


def test_takes_the_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    transform = ImageTransform(height=4, width=4, mode="grey")
    for kind in ("GIF", "PNG", "TIFF"):
        source = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert (read(source, transform) == 10).all()


def test_crop_pad_and_stretch() -> None:
    """Four columns 0, 40, 80, 120, each 2 high, become squares of side 2."""
    pixels = np.array([[0, 40, 80, 120]] * 2, np.uint8)
    square: dict[str, Any] = {"height": 2, "width": 2, "mode": "grey", "background": "#ff0000"}
    crop = read(encoded(pixels), ImageTransform(**square, fit="crop"))
    np.testing.assert_array_equal(crop, [[40, 80]] * 2)
    tall = read(encoded(pixels), ImageTransform(**{**square, "height": 4, "width": 4}, fit="pad"))
    np.testing.assert_array_equal(tall, [[76] * 4, [0, 40, 80, 120], [0, 40, 80, 120], [76] * 4])  # red is 76 in grey
    stretch = read(encoded(pixels), ImageTransform(**square, fit="stretch"))
    assert (stretch[:, 0] + stretch[:, 1] == 120).all()  # symmetric
    assert (stretch[:, 0] < 40).all()


@pytest.mark.parametrize("mode", ["L", "F"])
def test_pads_a_gray_photo_with_a_colored_background(mode: str) -> None:
    pixels = np.full((1, 3), 255, np.uint8)
    source = encoded(pixels) if mode == "L" else encoded(np.full((1, 3), 0.5, np.float32), "TIFF")
    grey = 255 if mode == "L" else 127.5
    found = read(source, ImageTransform(height=3, width=3, mode="rgb", fit="pad", background="#010203"))
    np.testing.assert_array_equal(found, [[[1, 2, 3]] * 3, [[grey] * 3] * 3, [[1, 2, 3]] * 3])


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), fit=st.sampled_from(["crop", "pad", "stretch"]),
    target=st.tuples(st.integers(1, 20), st.integers(1, 20)), value=st.integers(0, 255),
)  # fmt: skip
def test_a_photo_of_one_color_stays_this_color(
    height: int, width: int, fit: Any, target: tuple[int, int], value: int
) -> None:
    transform = ImageTransform(
        height=target[0], width=target[1], mode="grey", fit=fit, background=f"#{value:02x}{value:02x}{value:02x}"
    )
    found = read(encoded(np.full((height, width), value, np.uint8)), transform)
    np.testing.assert_allclose(found, value, atol=1e-3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_extreme_shape_is_fitted(fit: Any) -> None:
    found = read(encoded(np.full((1, 5_000), 9, np.uint8)), ImageTransform(height=8, width=8, mode="grey", fit=fit))
    assert found.shape == (8, 8)
    assert (found == 9).any()


def test_a_large_jpeg_is_reduced_while_it_is_decoded() -> None:
    """1,600 x 1,200 / 4 leaves 300 pixels, more than twice 96; / 8 would leave 150."""
    large = Image.fromarray(SMOOTH).resize((1_600, 1_200), Image.Resampling.BICUBIC)
    source, transform = encoded(large, "JPEG", quality=95), ImageTransform(height=32, width=32, mode="rgb")
    reduced, whole = open_photo(source, "photo", transform), open_photo(source, "photo")
    assert (reduced.size, whole.size) == ((400, 300), (1_600, 1_200))
    assert reduced.info["size"] == whole.info["size"] == (1_600, 1_200)
    assert np.abs(to_pixels(reduced, transform) - to_pixels(whole, transform)).max() <= 1


def test_threads_read_the_same_pixels() -> None:
    sources = [encoded(np.roll(NOISE, shift, axis=0), kind) for shift in range(8) for kind in ("PNG", "TIFF", "BMP")]
    transform = EVERY_FIT[0]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda source: read(source, transform), sources * 4))
    np.testing.assert_array_equal(together, [read(source, transform) for source in sources] * 4)


@pytest.mark.parametrize("size", [(1_000, 10), (10, 1_000), (40, 30)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "F"])
def test_a_preview_is_a_small_webp(size: tuple[int, int], mode: str) -> None:
    photo = Image.new(mode, size, 0)
    small = Image.open(io.BytesIO(preview(photo)), formats=["WEBP"])
    assert max(small.size) == min(PREVIEW, max(size))
    assert photo.size == size


def test_an_error_says_what_the_file_is() -> None:
    assert "found an empty file" in refused(b"")
    assert "found a file of another type, which begins with b'%PDF-1.7'" in refused(b"%PDF-1.7 ...")
    assert "found No such file or directory" in refused(Path("absent.png"))
    assert "expected a readable photo, found a damaged file" in refused(encoded(NOISE, "PNG")[:8] + bytes(99))


@given(
    keep=st.floats(0, 0.9), kind=st.sampled_from(["PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF", "GIF", "HEIF", "AVIF"])
)
def test_names_a_truncated_photo(keep: float, kind: str) -> None:
    source = encoded(NOISE if kind != "GIF" else Image.fromarray(NOISE).quantize(64), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(source[: int(keep * len(source))])


@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF", "GIF", "HEIF", "AVIF"]))
def test_a_damaged_photo_is_read_or_named(data: st.DataObject, kind: str) -> None:
    source = bytearray(encoded(NOISE if kind != "GIF" else Image.fromarray(NOISE).quantize(64), kind))
    for _ in range(3):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(DataError):
            assert np.isfinite(read(bytes(source), EVERY_FIT[0])).all()


def test_damaged_orientation_is_upright() -> None:
    source = encoded(NOISE, "TIFF")
    assert (read(source, same_size(NOISE)) == NOISE).all()
    broken = encoded(NOISE, "PNG", exif=b"Exif\0\0MM\0*broken")
    assert (read(broken, same_size(NOISE)) == NOISE).all()


def test_refuses_too_many_pixels_before_decoding() -> None:
    assert "expected a photo of at most 99 pixels, found 10 x 10" in refused(
        encoded(np.zeros((10, 10), np.uint8)), max_pixels=99
    )
    header = b"P5 9000 9999 255\n"  # no pixel follows
    assert "expected a photo of at most 89,478,485 pixels, found 9,000 x 9,999" in _without_warnings(header)
    assert "expected a photo of at most 89,478,485 pixels, found Image size (" in refused(b"P5 90000 99999 255\n")
    assert "expected a photo of at most 65,535 pixels on each side, found 1 x 65,536" in refused(b"P5 1 65536 255\n")


def _without_warnings(source: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return refused(source)


def test_a_heic_photo_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_heif_is_installed", lambda: False)
    source = encoded(SMOOTH, "HEIF")
    assert "to read a HEIC photo, found no such package. Run `pip install 'lookalike[images]'`." in refused(source)
    np.testing.assert_array_equal(read(encoded(NOISE), same_size(NOISE)), NOISE)
