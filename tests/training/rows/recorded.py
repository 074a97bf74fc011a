"""Small recordings of every kind of file, and how tests read them."""

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import scipy.io.wavfile
import soundfile
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows

__all__ = ["FILES", "SAMPLES", "settings", "truncated", "windows", "write_csv", "write_wav"]


def settings(**fields: Any) -> DataConfig:
    return DataConfig(**({"window": 4, "hop": 2} | fields))


def windows(rows: Rows, size: int | None = None) -> tuple[NDArray[Any], list[str], list[dict[str, Any]]]:
    """All windows, (n, window, channels), their ids and payloads."""
    chunks = list(rows.chunks(size, np.float64))
    values = np.concatenate([chunk.inputs for chunk in chunks]).reshape(-1, *rows.shape)
    return values, [name for c in chunks for name in c.ids], [payload for c in chunks for payload in c.payloads]


def write_csv(path: Path, **columns: Any) -> Path:
    lines = [
        ",".join(columns),
        *(",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


SAMPLES = np.round(np.sin(np.arange(20.0)[:, None] * [0.3, 0.7]) * 100) / 128


"""(20, 2) from -1 to 1; every kind of file holds these multiples of 1 / 128 exactly."""


def write_wav(path: Path, bits: int) -> None:
    scaled = np.rint(SAMPLES * (1 << (bits - 1))).astype(np.int64)
    raw = (scaled + 128).astype(np.uint8).tobytes() if bits == 8 else b""
    if bits > 8:
        raw = b"".join(int(value).to_bytes(bits // 8, "little", signed=True) for value in scaled.reshape(-1))
    with wave.open(str(path), "wb") as file:
        file.setparams((2, bits // 8, 10, len(SAMPLES), "NONE", ""))
        file.writeframes(raw)


def _extensible(path: Path) -> None:
    """Write 24 bits as audio programs do: with an extensible format, and a chunk of an odd length before it."""
    soundfile.write(path, SAMPLES, 10, format="WAVEX", subtype="PCM_24")
    content = path.read_bytes()
    extra = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    path.write_bytes(content[:12] + extra + content[12:])


def truncated(path: Path) -> None:
    write_wav(path, 16)
    path.write_bytes(path.read_bytes()[:-10])


FILES: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: write_csv(path, a=SAMPLES[:, 0], b=SAMPLES[:, 1]),
    "a.parquet": lambda path: pa_parquet.write_table(pa.table({"a": SAMPLES[:, 0], "b": SAMPLES[:, 1]}), path),
    "a.npy": lambda path: np.save(path, SAMPLES),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(SAMPLES)),
    "a8.wav": lambda path: write_wav(path, 8),
    "a16.wav": lambda path: write_wav(path, 16),
    "a24.wav": lambda path: write_wav(path, 24),
    "a32.wav": lambda path: write_wav(path, 32),
    "extensible.wav": _extensible,
    "float.wav": lambda path: scipy.io.wavfile.write(path, 10, SAMPLES.astype(np.float32)),
    "double.WAV": lambda path: scipy.io.wavfile.write(path, 10, SAMPLES),
    "a.flac": lambda path: soundfile.write(path, SAMPLES, 10, subtype="PCM_16"),
}
