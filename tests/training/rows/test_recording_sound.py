"""Arrays and sound as recordings, checked by hand."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.transforms import WindowTransform
from tests.training.rows.recorded import FILES, SAMPLES, settings, truncated, windows, write_wav


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_windows(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    rows = open_rows(str(tmp_path / name), settings())
    values, ids, payloads = windows(rows)
    assert (rows.count, rows.shape, rows.pixels, rows.group) == (9, (4, 2), False, "recording")
    assert values.tolist() == [SAMPLES[start : start + 4].tolist() for start in range(0, 18, 2)]
    is_sound = not name.endswith((".csv", ".parquet", ".npy"))  # its rate of 10 per second is in the file
    assert ids[:3] == ([f"{name}@0", f"{name}@0.2", f"{name}@0.4"] if is_sound else [f"{name}@{n}" for n in (0, 2, 4)])
    first = {"recording": name, "start": 0.0, "end": 0.4} if is_sound else {"recording": name, "start": 0, "end": 4}
    assert payloads[0] == first


def test_ogg_is_read(tmp_path: Path) -> None:
    tone = np.sin(np.arange(16_000) / 8)
    soundfile.write(tmp_path / "a.ogg", tone, 16_000)
    rows = open_rows(str(tmp_path / "a.ogg"), settings(window="250ms", hop="250ms"))
    values, ids, _ = windows(rows)
    assert (rows.count, rows.shape) == (4, (4_000, 1))
    assert ids == ["a.ogg@0", "a.ogg@0.25", "a.ogg@0.5", "a.ogg@0.75"]
    np.testing.assert_allclose(values.reshape(-1), tone, atol=0.1)


def test_an_array_of_one_dimension_is_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.int16))
    rows = open_rows(str(tmp_path / "a.npy"), settings())
    assert windows(rows)[0][:, :, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert rows.transform == WindowTransform(window=4, hop=2, channels=("0",))


def test_sound_at_another_rate_is_resampled(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(8_000) / 8_000)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8_000, tone.astype(np.float32))
    rows = open_rows(str(tmp_path / "a.wav"), settings(window="100ms", hop="100ms", rate=2_000))
    values, ids, _ = windows(rows)
    assert (rows.count, ids[1]) == (10, "a.wav@0.1")
    assert "resampled from 8000 to 2000 samples per second" in rows.notes
    expected = np.sin(2 * np.pi * 100 * np.arange(2_000) / 2_000)
    np.testing.assert_allclose(values.reshape(-1)[20:-20], expected[20:-20], atol=5e-3)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated.wav": (truncated, "expected 80 bytes of samples, found 70"),
    "text.wav": (lambda path: path.write_text("not a sound at all"), "begins with RIFF"),
    "head.wav": (lambda path: path.write_bytes(b"RIFF\0\0\0\0WAVE"), "expected a chunk of samples"),
    "law.wav": (lambda path: soundfile.write(path, SAMPLES, 10, subtype="ULAW"), "encoding 7 with 8 bits"),
    "text.flac": (lambda path: path.write_text("not a sound at all"), "expected an intact sound file"),
    "text.npy": (lambda path: path.write_text("not an array"), "expected an intact .npy file"),
    "huge.npy": (lambda path: path.write_bytes(_claims(1 << 50)), "expected an intact .npy file"),
    "objects.npy": (lambda path: np.save(path, np.array([None, {}], object)), "expected an intact .npy file"),
    "words.npy": (lambda path: np.save(path, np.array(["a", "b"])), "expected numbers of shape"),
    "cube.npy": (lambda path: np.save(path, np.zeros((3, 3, 3))), r"found float64 of shape \(3, 3, 3\)"),
    "turned.npy": (lambda path: np.save(path, np.zeros((3, 500))), "Save the transposed array"),
    "text.parquet": (lambda path: path.write_text("no table"), "expected a readable parquet file"),
    "a.xyz": (lambda path: path.write_text("?"), "found the file name extension .xyz"),
}


def _claims(count: int) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": (count, 1), "fortran_order": False, "descr": "<f8"})
    return stream.getvalue() + b"\0" * 64


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    write, message = BROKEN[name]
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as raised:
        open_rows(str(tmp_path / name), settings())
    assert str(tmp_path / name) in str(raised.value)


def test_says_which_channels_are_left_out(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 16)
    note = "of the 2 channels of some files, only these are read: 1"
    assert note in open_rows(str(tmp_path / "a.wav"), settings(channels=("1",))).notes
    assert note not in open_rows(str(tmp_path / "a.wav"), settings()).notes
