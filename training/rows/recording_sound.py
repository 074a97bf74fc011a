"""Recordings without column names: .npy arrays, .wav files, and compressed sound by the extra `audio`.

Integer samples of any number of bits are scaled to numbers from -1 to below 1, so that files of different depth agree.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows.recording_blocks import Block, Source, channels_note, no_codes, pick_channels

__all__ = ["open_npy_recording", "open_sound", "open_wav"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FORMATS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_BROKEN = (ValueError, OSError, EOFError, TypeError, SyntaxError)
_TRUNCATED = "The file is truncated. Copy or download it again."


def open_npy_recording(path: Path, name: str, wanted: tuple[str, ...]) -> Source:
    """Open an array of shape (samples, channels) or (samples,) as one recording, through a memory map."""

    def load() -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except _BROKEN as error:
            raise DataError(str(path), expected="an intact .npy file", found=str(error)[:200]) from error
        return array[:, None] if array.ndim == 1 else array

    array = load()
    if array.dtype.kind not in "biuf" or array.ndim != 2 or not array.shape[1]:
        expected = "numbers of shape (samples, channels) or (samples,)"
        raise DataError(str(path), expected=expected, found=f"{array.dtype} of shape {array.shape}")
    if array.shape[1] > array.shape[0]:
        expected, remedy = "more samples than channels", "Save the transposed array."
        raise DataError(str(path), expected=expected, found=f"shape {array.shape}", remedy=remedy)
    channels, columns = pick_channels(path, array.shape[1], wanted)

    def blocks(size: int) -> Iterator[Block]:
        array = load()
        for first in range(0, len(array), size):
            part = np.asarray(array[first : first + size])[:, columns]
            narrow = np.can_cast(part.dtype, np.float32)
            values = part.astype(np.float32) if narrow else part.astype(np.float64)
            yield Block(name, values, no_codes(len(part)), row=first)

    return Source(path, blocks, channels, notes=channels_note(array.shape[1], channels))


@dataclass(frozen=True)
class _Wav:
    """The format of a .wav file, and the place of its samples."""

    kind: tuple[int, int]
    """The number of the encoding, and the bits of a sample."""
    channels: int
    rate: int
    start: int
    count: int


def open_wav(path: Path, name: str, wanted: tuple[str, ...]) -> Source:
    """Open a .wav file with samples of 8, 16, 24 or 32 bits, or of floating point, as one recording.

    Neither Python's `wave` (no floating point, no extensible format) nor SciPy (no memory map of 24 bits) reads all of
    these block by block.
    """
    with path.open("rb") as file:
        head = _read_head(path, file)
    channels, columns = pick_channels(path, head.channels, wanted)
    sample = head.channels * head.kind[1] // 8

    def blocks(size: int) -> Iterator[Block]:
        with path.open("rb") as file:
            file.seek(head.start)
            for first in range(0, head.count, size):
                count = min(size, head.count - first)
                raw = file.read(count * sample)
                if len(raw) < count * sample:
                    raise DataError(str(path), f"{head.count:,} samples", "fewer samples", remedy=_TRUNCATED)
                values = _decoded(raw, head.kind).reshape(count, head.channels)[:, columns]
                yield Block(name, values, no_codes(count), row=first)

    return Source(path, blocks, channels, rate=float(head.rate), notes=channels_note(head.channels, channels))


def _read_head(path: Path, file: BinaryIO) -> _Wav:
    """Read the chunks up to the samples; see "Multimedia Programming Interface and Data Specifications 1.0", 1991."""
    if (magic := file.read(12))[:4] != b"RIFF" or magic[8:] != b"WAVE":
        raise DataError(str(path), expected="a .wav file, which begins with RIFF and WAVE", found=repr(magic[:12]))
    form = b""
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            return _checked(path, form, file.tell(), size)
        if name == b"fmt ":
            form = file.read(min(size, 40))
            size -= len(form)
        file.seek(size + size % 2, io.SEEK_CUR)
    raise DataError(str(path), expected="a chunk of samples", found="no such chunk", remedy=_TRUNCATED)


def _checked(path: Path, form: bytes, start: int, size: int) -> _Wav:
    if len(form) < 16:
        raise DataError(str(path), expected="a chunk with the format before the samples", found="no such chunk")
    encoding, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if encoding == _EXTENSIBLE and len(form) >= 26:
        encoding = struct.unpack("<H", form[24:26])[0]
    if (encoding, bits) not in _FORMATS or not channels or not rate or frame != channels * bits // 8:
        expected = "samples of 8, 16, 24 or 32 bits, or floating point of 32 or 64 bits"
        found = f"encoding {encoding} with {bits} bits, {channels} channels, {rate} samples per second"
        raise DataError(str(path), expected=expected, found=found, remedy="Convert the file, for example with ffmpeg.")
    if size > (there := path.stat().st_size - start):
        remedy = "The file is truncated, or was written to a pipe: convert it, for example with ffmpeg."
        raise DataError(str(path), expected=f"{size:,} bytes of samples", found=f"{there:,}", remedy=remedy)
    return _Wav((encoding, bits), channels, rate, start, size // frame)


def _decoded(raw: bytes, kind: tuple[int, int]) -> NDArray[np.floating]:
    """Bytes of samples -> (n,) float32, or float64 if float32 does not represent all values."""
    encoding, bits = kind
    if encoding == _FLOAT:
        return np.frombuffer(raw, f"<f{bits // 8}")
    if bits == 8:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if bits == 16:
        return np.frombuffer(raw, "<i2").astype(np.float32) / (1 << 15)
    if bits == 32:
        return np.frombuffer(raw, "<i4") / (1 << 31)
    wide = np.zeros((len(raw) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)  # the high bytes, so that the sign is in its place
    return (wide.reshape(-1).view("<i4") >> 8).astype(np.float32) / (1 << 23)


def open_sound(path: Path, name: str, wanted: tuple[str, ...]) -> Source:
    """Open a .flac or .ogg file as one recording. Raises DataError if the extra `audio` is not installed."""
    with _sound(path) as file:
        rate, count = float(file.samplerate), int(file.channels)
    channels, columns = pick_channels(path, count, wanted)

    def blocks(size: int) -> Iterator[Block]:
        first = 0
        with _sound(path) as file:
            for part in file.blocks(size, dtype="float32", always_2d=True):
                yield Block(name, part[:, columns], no_codes(len(part)), row=first)
                first += len(part)

    return Source(path, blocks, channels, rate=rate, notes=channels_note(count, channels))


@contextmanager
def _sound(path: Path) -> Iterator[Any]:
    try:
        import soundfile
    except ImportError as error:
        remedy = "Run `pip install 'lookalike[audio]'`, or convert the file to .wav."
        found = "that soundfile is not installed"
        raise DataError(str(path), "the extra `audio` for sound files", found=found, remedy=remedy) from error
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise DataError(str(path), expected="an intact sound file", found=str(error)) from error
