"""Open recordings as rows of windows: one file, a folder of files, or a table with a column that names the recording.

The first pass over the files counts the windows exactly; each later pass makes them in chunks, in constant memory. The
id of a window is `recording@start`. The payload has `start` too: the time of the window's first sample in seconds, a
date in ISO 8601 if the source has dates, or the number of the sample if there is no clock. `end` is exclusive.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.errors import ConfigError, DataError
from lookalike.training.rows.base import Chunk, Rows, evenly
from lookalike.training.rows.file_kinds import TABLES, ending
from lookalike.training.rows.recording_blocks import Source, block_samples
from lookalike.training.rows.recording_windows import HEAD, Piece, WindowCounts, clock_rate, pieces_of, windows_of
from lookalike.training.transforms import InputSpec, WindowTransform
from lookalike.training.transforms.cut_windows import start_text

__all__ = ["SUFFIXES", "open_recordings"]

ARRAYS, SOUND = (".npy", ".wav"), (".flac", ".ogg")
SUFFIXES = (*TABLES, *ARRAYS, *SOUND)
MEASURED = 100
"""The most files whose clocks are measured to find the rate, and the most recordings that are measured in a file."""
_MEASURED_SAMPLES = 200_000
_MAX_SAMPLES = 1 << 20
"""The most samples of a window or a hop."""
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_GAP = 10
"""By default, a gap of more than this many samples splits a recording."""


def open_recordings(path: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open recordings as windows; `settings` and `spec` as in `open_rows`.

    Raises DataError if a file cannot be read or there is no window, and ConfigError if the settings need a clock that
    the recordings do not have.
    """
    given = spec.transform if spec and isinstance(spec.transform, WindowTransform) else None
    if given:
        settings = replace(settings, channels=given.channels, time=given.time, recording=given.recording)
    sources = _open_sources(path, settings, strict=given is None)
    transform = given or _transform(sources, settings)
    counts = WindowCounts()
    size = block_samples(len(transform.channels))
    for source in sources:
        for _ in pieces_of(source, transform, size, counts):
            pass
    if not counts.windows:
        raise _no_window(path, transform, counts)
    return Rows(
        str(path),
        transform.shape,
        counts.windows,
        False,
        lambda count: _chunks(sources, transform, count),
        transform=transform,
        group="recording",
        settings=settings if spec is None else None,
        notes=tuple(_notes(sources, transform, counts)),
        reopen=partial(_reopen, path),
    )


def _reopen(path: Path, settings: DataConfig, spec: InputSpec | None) -> Rows:
    from lookalike.training.rows.sources import open_rows

    return open_rows(str(path), settings, spec)


def _open_sources(path: Path, settings: DataConfig, *, strict: bool) -> list[Source]:
    """Open one file, or all files of a folder; `strict`: refuse a file without columns if settings name columns."""
    if not path.is_dir():
        return [_open_source(path, path.name, settings, strict=strict)]
    paths = sorted(p for p in path.rglob("*") if _is_recording(p))
    if not paths:
        raise DataError(str(path), f"a folder with recordings: {' '.join(SUFFIXES)}", found="no recordings")
    sources = []
    for each in paths:
        inside = each.relative_to(path)
        source = _open_source(each, inside.as_posix(), settings, strict=strict)
        settings = replace(settings, channels=source.channels)  # the first file chooses
        label = None if inside.parent == Path() else inside.parent.as_posix()
        sources.append(replace(source, label=label))
    return sources


def _is_recording(path: Path) -> bool:
    """Whether a file in a folder is a recording: a .txt file may be a description."""
    return ending(path) in SUFFIXES and ending(path) != ".txt" and not path.name.startswith(".") and path.is_file()


def _open_source(path: Path, name: str, settings: DataConfig, *, strict: bool) -> Source:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(str(path), expected="a file or a folder", found="nothing at that path")
    if ending(path) in TABLES:
        from lookalike.training.rows.recording_tables import open_table_recordings

        return open_table_recordings(path, name, settings, strict=strict)
    from lookalike.training.rows.recording_sound import open_npy_recording, open_sound, open_wav

    openers = {".npy": open_npy_recording, ".wav": open_wav, **dict.fromkeys(SOUND, open_sound)}
    if suffix not in openers:
        expected = f"a recording: {' '.join(SUFFIXES)}, or a folder of recordings"
        found = f"the file name extension {suffix}" if suffix else "no file name extension"
        raise DataError(str(path), expected=expected, found=found, remedy="Leave out --window to read rows.")
    for setting in ("time", "recording"):
        if strict and getattr(settings, setting):
            expected = f"a table, because --{setting} names a column"
            raise DataError(str(path), expected=expected, found=f"a {suffix} file", remedy=f"Leave out --{setting}.")
    return openers[suffix](path, name, settings.channels)


def _transform(sources: list[Source], settings: DataConfig) -> WindowTransform:
    """Choose the windows by the settings, and by the rates of the recordings."""
    rate = _rate(sources, settings)
    window = _samples(settings.window, "window", rate)
    hop = max(1, window // 2) if settings.hop == "auto" else _samples(settings.hop, "hop", rate)
    max_gap = None
    if settings.max_gap != "auto" and not settings.time:
        remedy = "Name the column of the times with --time."
        raise ConfigError("data.max_gap", expected="samples with times", found="no times", remedy=remedy)
    if settings.time and rate:
        max_gap = _GAP / rate if settings.max_gap == "auto" else _seconds(settings.max_gap)
        if not max_gap:
            raise ConfigError("data.max_gap", expected="a time longer than 0", found=settings.max_gap)
    return WindowTransform(
        window=window,
        hop=hop,
        channels=sources[0].channels,
        rate=rate,
        time=settings.time,
        recording=settings.recording,
        max_gap=max_gap,
        max_missing=settings.max_missing,
        normalize=settings.normalize,
        normalize_over=settings.normalize_over,
    )


def _rate(sources: list[Source], settings: DataConfig) -> float | None:
    if settings.rate != "auto":
        return float(settings.rate)
    rates: list[float] = []
    for number in evenly(len(sources), MEASURED):
        source = sources[number]
        rates += [source.rate] if source.rate else _clock_rates(source) if settings.time else []
    if not rates:
        if settings.time:
            remedy = "Name the rate with --rate."
            expected = "a recording of at least two samples"
            raise DataError(str(sources[0].path), expected=expected, found="no such recording", remedy=remedy)
        return None
    return _rounded(median(rates))


def _rounded(rate: float) -> float:
    """Round a rate to as few digits as possible; the result differs from the rate by at most a millionth."""
    return next(short for digits in range(1, 18) if abs((short := float(f"{rate:.{digits}g}")) - rate) <= 1e-6 * rate)


def _clock_rates(source: Source) -> list[float]:
    """Measure the rates of the first recordings of a file, as `pieces_of` does."""
    heads: dict[str, list[NDArray[Any]]] = {}
    count = 0
    for block in source.blocks(HEAD):
        if block.times is None or len(heads) > MEASURED or count >= _MEASURED_SAMPLES:
            break
        heads.setdefault(block.recording, []).append(block.times)
        count += len(block.times)
    rates = (clock_rate(np.concatenate(times), source, name) for name, times in heads.items())
    return [rate for rate in rates if rate]


def _samples(length: int | str, setting: str, rate: float | None) -> int:
    """Return a length in samples; a duration needs a rate."""
    if isinstance(length, str):
        if rate is None:
            expected, found = "a number of samples, because the recordings have no times", repr(length)
            remedy = "Name the column of the times with --time, or the samples per second with --rate."
            raise ConfigError(f"data.{setting}", expected=expected, found=found, remedy=remedy)
        samples = round(_seconds(length) * rate)
    else:
        samples = length
    if not 1 <= samples <= _MAX_SAMPLES:
        expected = f"from 1 to {_MAX_SAMPLES:,} samples"
        raise ConfigError(f"data.{setting}", expected=expected, found=f"{length}, which is {samples:,} samples")
    return samples


def _seconds(duration: str) -> float:
    number = duration.rstrip("msinh")
    return float(number) * _UNITS[duration[len(number) :]]


def _chunks(sources: list[Source], transform: WindowTransform, size: int) -> Iterator[Chunk]:
    """Yield all windows in chunks of `size`; a chunk may have windows of several recordings, and the last has fewer."""
    samples, parts, count = block_samples(len(transform.channels)), list[Chunk](), 0
    for source in sources:
        for piece in pieces_of(source, transform, samples, WindowCounts()):
            first = 0
            while first < len(piece.starts):
                parts.append(_chunk(piece, source, transform, slice(first, first + size - count)))
                first += len(parts[-1].ids)
                count += len(parts[-1].ids)
                if count == size:
                    yield _joined(parts)
                    parts, count = [], 0
    if parts:
        yield _joined(parts)


def _chunk(piece: Piece, source: Source, transform: WindowTransform, chosen: slice) -> Chunk:
    values, payloads = windows_of(piece, source, transform, chosen)
    ids = [f"{piece.recording}@{start_text(payload['start'], transform.rate)}" for payload in payloads]
    return Chunk(ids, values, payloads)


def _joined(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    ids = [name for part in parts for name in part.ids]
    return Chunk(ids, np.concatenate([p.inputs for p in parts]), [each for part in parts for each in part.payloads])


def _no_window(path: Path, transform: WindowTransform, counts: WindowCounts) -> DataError:
    window = f"{transform.window:,} samples"
    if counts.skipped:
        expected = f"windows with at most {transform.max_missing:.0%} of missing values in each channel"
        remedy = "Name only the channels that have values with --channels, or set a greater data.max_missing."
        return DataError(str(path), expected=expected, found=f"{counts.skipped:,} with more", remedy=remedy)
    found = f"at most {counts.longest:,} samples without a gap" if counts.names else "no sample"
    shorter = "Set a shorter --window, or a longer --max-gap." if counts.gaps else "Set a shorter --window."
    remedy = shorter if counts.names else ""
    return DataError(str(path), expected=f"a recording of at least {window}", found=found, remedy=remedy)


def _notes(sources: list[Source], transform: WindowTransform, counts: WindowCounts) -> Iterator[str]:
    """Describe how the recordings were read."""
    rate = transform.rate
    length = "" if rate is None else f" ({transform.window / rate:.4g} s)"
    names, windows = _count(len(counts.names), "recording"), _count(counts.windows, "window")
    yield f"{names}, {windows} of {transform.window:,} samples{length}, one every {transform.hop:,} samples"
    more = ", ..." if len(transform.channels) > 20 else ""
    yield f"{_count(len(transform.channels), 'channel')}: {', '.join(transform.channels[:20])}{more}"
    if counts.gaps:
        yield f"{_count(counts.gaps, 'gap')} of more than {transform.max_gap:.4g} s split recordings"
    if counts.short:
        yield f"left out: {_count(counts.short, 'segment')} shorter than a window"
    if counts.skipped:
        share = f"more than {transform.max_missing:.0%} of a channel's values are missing"
        yield f"skipped: {_count(counts.skipped, 'window')} because {share}"
    if counts.repeated:
        yield f"left out: {_count(counts.repeated, 'sample')} with the same time as the sample before"
    yield from _resampled(sources, transform, counts)
    yield from dict.fromkeys(note for source in sources for note in source.notes)


def _resampled(sources: list[Source], transform: WindowTransform, counts: WindowCounts) -> Iterator[str]:
    if (rate := transform.rate) is None:
        return
    rates = [source.rate for source in sources if source.rate]
    if counts.steps[1]:
        rates = [1 / step for step in counts.steps]
    if rates and max(abs(each / rate - 1) for each in rates) > 0.01:
        least, most = min(rates), max(rates)
        rates_text = f"{least:.6g}" if f"{least:.6g}" == f"{most:.6g}" else f"between {least:.6g} and {most:.6g}"
        yield f"resampled from {rates_text} to {rate:.6g} samples per second"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
