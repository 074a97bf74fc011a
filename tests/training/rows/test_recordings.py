"""Recordings of every kind of file as windows, checked by hand."""

import io
import json
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.errors import ConfigError, DataError
from lookalike.training.rows import Rows, open_rows, recordings
from lookalike.training.transforms import InputSpec, WindowTransform


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


def _wav(path: Path, bits: int) -> None:
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


FILES: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: write_csv(path, a=SAMPLES[:, 0], b=SAMPLES[:, 1]),
    "a.parquet": lambda path: pa_parquet.write_table(pa.table({"a": SAMPLES[:, 0], "b": SAMPLES[:, 1]}), path),
    "a.npy": lambda path: np.save(path, SAMPLES),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(SAMPLES)),
    "a8.wav": lambda path: _wav(path, 8),
    "a16.wav": lambda path: _wav(path, 16),
    "a24.wav": lambda path: _wav(path, 24),
    "a32.wav": lambda path: _wav(path, 32),
    "extensible.wav": _extensible,
    "float.wav": lambda path: scipy.io.wavfile.write(path, 10, SAMPLES.astype(np.float32)),
    "double.WAV": lambda path: scipy.io.wavfile.write(path, 10, SAMPLES),
    "a.flac": lambda path: soundfile.write(path, SAMPLES, 10, subtype="PCM_16"),
}


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


def test_the_hop_is_half_of_the_window_by_default_and_may_leave_samples_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(20.0))
    assert windows(open_rows(str(tmp_path / "a.npy"), DataConfig(window=8)))[1] == [
        "a.npy@0",
        "a.npy@4",
        "a.npy@8",
        "a.npy@12",
    ]
    values, ids, _ = windows(open_rows(str(tmp_path / "a.npy"), DataConfig(window=3, hop=7)))
    assert ids == ["a.npy@0", "a.npy@7", "a.npy@14"]
    assert values[:, :, 0].tolist() == [[0, 1, 2], [7, 8, 9], [14, 15, 16]]


def test_channels_are_chosen_by_name_or_by_number(tmp_path: Path) -> None:
    FILES["a.csv"](tmp_path / "a.csv")
    FILES["a.npy"](tmp_path / "a.npy")
    by_name = open_rows(str(tmp_path / "a.csv"), settings(channels=("b",)))
    by_number = open_rows(str(tmp_path / "a.npy"), settings(channels=("1",)))
    assert windows(by_name)[0].tolist() == windows(by_number)[0].tolist()
    assert windows(by_name)[0][0, :, 0].tolist() == SAMPLES[:4, 1].tolist()


def test_windows_and_payloads_are_in_seconds_of_the_time_column(tmp_path: Path) -> None:
    times = 100 + np.arange(40) / 10
    path = write_csv(tmp_path / "a.csv", t=times, x=np.arange(40), id=np.arange(40))
    rows = open_rows(str(path), settings(window="1s", hop="500ms", time="t"))
    values, ids, payloads = windows(rows)
    transform = rows.transform
    assert isinstance(transform, WindowTransform)
    assert (transform.window, transform.hop, transform.rate, transform.max_gap) == (10, 5, 10.0, 1.0)
    assert transform.channels == ("x",)
    assert ids == ["a.csv@100", "a.csv@100.5", "a.csv@101", "a.csv@101.5", "a.csv@102", "a.csv@102.5", "a.csv@103"]
    assert payloads[1] == {"recording": "a.csv", "start": 100.5, "end": 101.5}
    assert values[1, :, 0].tolist() == list(range(5, 15))


@pytest.mark.parametrize(
    ("texts", "start", "end"),
    [
        (["2026-03-31 01:30:00", "2026-03-31 01:30:01", "2026-03-31 01:30:02"], "T01:30:00.000000", "T01:30:02.000000"),
        ([f"2026-03-31T01:30:0{n}.5" for n in range(3)], "T01:30:00.500000", "T01:30:02.500000"),
        ([f"2026-03-31T03:30:0{n}+02:00" for n in range(3)], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000, 1774920601000, 1774920602000], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000000, 1774920601000000, 1774920602000000], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000000001, 1774920601000000001, 1774920602000000001], "T01:30:00.000000Z", "T01:30:02.000000Z"),
    ],
)  # fmt: skip
def test_dates_are_shown_as_dates(tmp_path: Path, texts: list[Any], start: str, end: str) -> None:
    path = write_csv(tmp_path / "a.csv", t=texts, x=[1, 2, 3])
    _, ids, payloads = windows(open_rows(str(path), settings(window=2, hop=1, time="t")))
    assert payloads[0] == {"recording": "a.csv", "start": f"2026-03-31{start}", "end": f"2026-03-31{end}"}
    assert ids[0] == f"a.csv@2026-03-31{start}"
    assert len(ids) == 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_dates_are_exact(tmp_path: Path, unit: str) -> None:
    times = pa.array(np.arange(3) + np.datetime64("2026-03-31T01:30:00"), pa.timestamp(unit, "Europe/Paris"))
    pa_parquet.write_table(pa.table({"when": times, "x": pa.array([1, None, 3])}), tmp_path / "a.parquet")
    rows = open_rows(str(tmp_path / "a.parquet"), settings(window=3, time="when", max_missing=0.5))
    values, _, payloads = windows(rows)
    assert values[0, :, 0].tolist() == [1, 2, 3]
    assert payloads[0]["start"] == "2026-03-31T01:30:00.000000Z"


def test_a_gap_splits_a_recording(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2, 2.3, 5.0, 5.1]
    path = write_csv(tmp_path / "a.csv", t=times, x=range(11))
    rows = open_rows(str(path), settings(time="t", max_gap="500ms", rate=10))
    values, ids, _ = windows(rows)
    assert ids == ["a.csv@0", "a.csv@2"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert "2 gaps of more than 0.5 s split recordings" in rows.notes
    assert "left out: 1 segment shorter than a window" in rows.notes


def test_a_gap_that_is_short_enough_is_interpolated(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0.0, 0.1, 0.2, 0.5, 0.6], x=[0, 1, 2, 8, 9])
    values, _, _ = windows(open_rows(str(path), settings(time="t", window=7, rate=10)))
    np.testing.assert_allclose(values[0, :, 0], [0, 1, 2, 4, 6, 8, 9])


def test_an_uneven_clock_is_resampled_to_the_mean_of_its_usual_intervals(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0, 15, 31, 46, 62, 78, 94], x=[0, 15, 31, 46, 62, 78, 94])  # milliseconds
    rows = open_rows(str(path), settings(time="t", rate=1 / 16))
    assert "resampled from 0.0625 to 0.0666667 to 0.0625 samples per second" in rows.notes
    np.testing.assert_allclose(windows(rows)[0][0, :, 0], [0, 16, 32, 48])


def test_the_rate_is_the_rounded_median_of_the_recordings(tmp_path: Path) -> None:
    for name, rate in (("a", 49.9999999), ("b", 10.0), ("c", 100.0)):
        write_csv(tmp_path / f"{name}.csv", t=np.arange(60) / rate, x=np.arange(60))
    rows = open_rows(str(tmp_path), settings(time="t"))
    assert isinstance(rows.transform, WindowTransform)
    assert rows.transform.rate == 50.0


def test_windows_with_many_missing_values_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", x=[0, 1, None, 3, 4, 5, 6, "NA", None, 9, 10, 11], n=range(12))
    rows = open_rows(str(path), settings(max_missing=0.25, channels=("x",)))
    values, ids, _ = windows(rows)
    assert ids == ["a.csv@0", "a.csv@2", "a.csv@4", "a.csv@8"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 3, 4, 5], [4, 5, 6, 6], [9, 9, 10, 11]]
    assert rows.count == 4
    assert "skipped: 1 window because more than 25% of a channel's values are missing" in rows.notes


def test_the_label_of_a_window_is_that_of_most_samples(tmp_path: Path) -> None:
    labels = ["run", "run", "walk", "walk", "walk", None, None, None]
    path = write_csv(tmp_path / "a.csv", x=range(8), activity=labels)
    _, _, payloads = windows(open_rows(str(path), settings(label="activity", window=3, hop=1)))
    assert [payload.get("label") for payload in payloads] == ["run", "walk", "walk", "walk", "walk", None]


def test_of_equally_many_labels_the_earliest_in_the_file_wins(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", x=range(4), label=["b", "a", "a", "b"])
    assert windows(open_rows(str(path), settings()))[2][0]["label"] == "b"


def test_a_folder_has_a_recording_in_each_file_and_labels_in_its_folders(tmp_path: Path) -> None:
    for name in ("walk/one.csv", "walk/two.csv", "run/three.csv", "four.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_csv(tmp_path / name, x=range(5))
    (tmp_path / "README.txt").write_text("no recording")
    (tmp_path / "walk" / "._one.csv").write_bytes(b"\0")
    rows = open_rows(str(tmp_path), settings())
    _, ids, payloads = windows(rows)
    assert ids == ["four.csv@0", "run/three.csv@0", "walk/one.csv@0", "walk/two.csv@0"]
    assert [payload.get("label") for payload in payloads] == [None, "run", "walk", "walk"]
    assert rows.notes[0] == "4 recordings, 4 windows of 4 samples, one every 2 samples"


def test_a_column_names_the_recording(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", who=[7] * 5 + ["b"] * 3 + ["c"] * 4, x=range(12))
    rows = open_rows(str(path), settings(recording="who"))
    values, ids, payloads = windows(rows)
    assert ids == ["7@0", "c@0"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert payloads[1] == {"recording": "c", "start": 0, "end": 4}


def test_parquet_reads_only_the_columns_that_it_needs(tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": pa.array(["a"] * 4).dictionary_encode(),
            "x": pa.array([1, 2, 3, 4], pa.int8()),
            "label": pa.array([1.5, 1.5, None, float("nan")]),
            "text": ["q"] * 4,
        }
    )
    pa_parquet.write_table(table, tmp_path / "a.parquet")
    _, ids, payloads = windows(open_rows(str(tmp_path / "a.parquet"), settings(recording="who")))
    assert (ids, payloads[0]["label"]) == (["a@0"], 1.5)


def test_an_encoder_reads_other_recordings_as_its_own(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", t=np.arange(40) / 20, x=np.arange(40), y=np.zeros(40))
    rows = open_rows(str(tmp_path / "a.csv"), settings(time="t", channels=("x",)))
    spec = InputSpec((), rows.transform, settings(time="t", channels=("x",)))
    write_csv(tmp_path / "b.csv", y=np.zeros(80), t=np.arange(80) / 40, x=np.arange(80) / 2)
    other = open_rows(str(tmp_path / "b.csv"), None, spec)
    assert other.transform == rows.transform
    np.testing.assert_allclose(windows(other)[0][6:-6], windows(rows)[0][6:-6], atol=0.01)
    assert other.suited(spec) is other
    assert other.settings is None


def test_sound_at_another_rate_is_resampled(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(8_000) / 8_000)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8_000, tone.astype(np.float32))
    rows = open_rows(str(tmp_path / "a.wav"), settings(window="100ms", hop="100ms", rate=2_000))
    values, ids, _ = windows(rows)
    assert (rows.count, ids[1]) == (10, "a.wav@0.1")
    assert "resampled from 8000 to 2000 samples per second" in rows.notes
    expected = np.sin(2 * np.pi * 100 * np.arange(2_000) / 2_000)
    np.testing.assert_allclose(values.reshape(-1)[20:-20], expected[20:-20], atol=5e-3)


def test_a_column_that_looks_like_a_clock_is_no_channel(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", Time=range(4), x=range(4))
    rows = open_rows(str(path), settings())
    assert rows.shape == (4, 1)
    assert any("column Time is left out" in note and "--time" in note for note in rows.notes)
    assert open_rows(str(path), settings(channels=("Time", "x"))).shape == (4, 2)


def test_repeated_times_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0, 1, 1, 2, 3, 4], x=[0, 1, 99, 2, 3, 4])
    rows = open_rows(str(path), settings(time="t"))
    assert windows(rows)[0][0, :, 0].tolist() == [0, 1, 2, 3]
    assert "left out: 1 sample with the time of the sample before" in rows.notes


@pytest.mark.slow
@limits(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 200),
    size=st.integers(1, 9),
    samples=st.integers(1, 50),
    window=st.integers(1, 12),
    hop=st.integers(1, 15),
)
def test_the_windows_do_not_depend_on_the_size_of_chunks_and_blocks(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, samples: int, window: int, hop: int
) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.choice([0.0, 0.09, 0.1, 0.1, 0.1, 0.13, 3.0], 120)
    columns = {
        "t": np.round(np.cumsum(steps), 6),
        "who": np.repeat(["a", "b", "c"], 40),
        "x": [
            None if missing else value
            for missing, value in zip(generator.random(120) < 0.1, generator.normal(size=120), strict=True)
        ],
        "label": generator.choice(["u", "v", "w"], 120),
    }
    path = write_csv(tmp_path_factory.mktemp("recordings") / "a.csv", **columns)
    given_settings = settings(
        window=window, hop=hop, time="t", recording="who", rate=10 if seed % 2 else 4, max_missing=0.5
    )
    try:
        whole = open_rows(str(path), given_settings)
    except DataError:
        return  # no window is that short
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "block_samples", lambda channels: samples)
        parts = open_rows(str(path), given_settings)
        found = windows(parts, size)
        assert {len(chunk.ids) for chunk in list(parts.chunks(size))[:-1]} <= {size}
    expected = windows(whole)
    assert parts.count == whole.count == len(found[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1:] == expected[1:]
    assert len(set(found[1])) == len(found[1])


@pytest.mark.slow
def test_a_long_recording_needs_constant_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.npy"
        np.save(path, np.zeros((count, 4), np.float32))
        tracemalloc.start()
        rows = open_rows(str(path), settings(window=64, hop=16))
        assert sum(len(chunk.ids) for chunk in rows.chunks(1_000)) == (count - 64) // 16 + 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2_000_000) < 1.5 * peak(400_000)  # of 6.4 and 32 MB of samples, and four times as much in windows


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("backwards", {"t": [0, 1, 3, 2], "x": range(4)}, {"time": "t"}, r"row 3, column t: expected times that do not go"),
    ("no time", {"t": [0, 1, None, 2], "x": range(4)}, {"time": "t"}, r"row 2, column t: expected a number of seconds"),
    ("bad date", {"t": ["2026-01-01", "soon"], "x": [1, 2]}, {"time": "t"}, r"row 1, column t: .*'soon'"),
    ("coarse", {"t": [0, 0, 0, 1], "x": range(4)}, {"time": "t"}, r"expected times that rise .*--rate"),
    ("interleaved", {"who": [*"aabba"], "x": range(5)}, {"recording": "who"}, r"row 4: .*Sort the table"),
    ("no name", {"who": ["a", None], "x": range(2)}, {"recording": "who"}, r"row 1, column who: expected the name"),
    ("no such channel", {"x": range(4)}, {"channels": ("y",)}, r"expected a column 'y', as data.channels names it"),
    ("no such time", {"x": range(4)}, {"time": "t"}, r"expected a column 't', as data.time names it"),
    ("no such label", {"x": range(4)}, {"label": "kind"}, r"expected a column 'kind', as data.label names it"),
    ("text", {"x": ["a", "b"]}, {}, r"expected a column of numbers, as a channel"),
    ("text as channel", {"x": ["a", "b"]}, {"channels": ("x",)}, r"column x: expected numbers, as in every channel"),
    ("infinite", {"x": [1, 2, "inf", 4]}, {}, r"row 2, column x: expected a finite number"),
    ("short", {"x": range(3)}, {}, r"expected a recording of at least 4 samples, found at most 3 without a gap"),
    ("missing", {"x": [1, None, 1, None, 1, None], "y": range(6)}, {}, r"windows with at most 10% of missing values"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "fields", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_recordings(tmp_path: Path, columns: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    path = write_csv(tmp_path / "a.csv", **columns)
    with pytest.raises(DataError, match=message):
        open_rows(str(path), settings(**fields))


def test_a_duration_needs_a_clock(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(40.0))
    with pytest.raises(ConfigError, match=r"data.window: .*found '2s'. Name the column .* --time, .*--rate"):
        open_rows(str(tmp_path / "a.npy"), settings(window="2s"))
    with pytest.raises(ConfigError, match=r"data.max_gap: expected samples with times"):
        open_rows(str(tmp_path / "a.npy"), settings(max_gap="2s"))
    rows = open_rows(str(tmp_path / "a.npy"), settings(window="2s", rate=5))
    assert rows.shape == (10, 1)


def _truncated(path: Path) -> None:
    _wav(path, 16)
    path.write_bytes(path.read_bytes()[:-10])


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated.wav": (_truncated, "expected 80 bytes of samples, found 70"),
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


def test_other_errors_of_a_path_and_of_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at that path"):
        open_rows(str(tmp_path / "a.csv"), settings())
    with pytest.raises(DataError, match="a folder with recordings"):
        open_rows(str(tmp_path), settings())
    FILES["a.npy"](tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"found a \.npy file\. Leave out --time"):
        open_rows(str(tmp_path / "a.npy"), settings(time="t"))
    with pytest.raises(DataError, match="found 2 channels without names"):
        open_rows(str(tmp_path / "a.npy"), settings(channels=("a", "b", "c")))
    with pytest.raises(ConfigError, match=r"from 1 to 1,048,576 samples, found 0\.01s, which is 0 samples"):
        open_rows(str(tmp_path / "a.npy"), settings(window="0.01s", rate=10))


def test_the_transform_is_plain_json(tmp_path: Path) -> None:
    FILES["a.npy"](tmp_path / "a.npy")
    transform = open_rows(str(tmp_path / "a.npy"), settings(normalize="standard", normalize_over="all")).transform
    assert isinstance(transform, WindowTransform)
    fields = json.loads(json.dumps(transform.model_dump(mode="json")))
    assert WindowTransform.model_validate(fields) == transform
    assert (fields["normalize"], fields["normalize_over"]) == ("standard", "all")
