"""Small test objects: rows, encoders with known weights, fast settings, changes, manifests."""

import dataclasses
import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.index.changes.change import Change
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.verdict import Verdict
from lookalike.training.artifact.encoder import write_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import TrainConfig, load_config
from lookalike.training.rows import Chunk, Rows, open_rows, sketches
from lookalike.training.sealed import seal
from lookalike.training.transforms import Interval, WindowTransform

__all__ = [
    "ROOT",
    "array_rows",
    "blobs",
    "cloud",
    "encoder_at",
    "flip",
    "log_changes",
    "made_rows",
    "no_room",
    "put",
    "quick",
    "read_all",
    "reseal",
    "retrained",
    "window_rows",
]

ROOT = Path(__file__).parents[1]
"""The root of the repository."""
QUICK = (
    "model.hidden=[8]",
    "model.latent_dim=3",
    "fit.epochs=3",
    "fit.batch_size=16",
    "fit.device='cpu'",
)


def cloud(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, width) float32, normally distributed."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def made_rows(
    inputs: NDArray[Any],
    ids: Sequence[str] | None = None,
    payloads: Sequence[dict[str, Any]] | None = None,
    *,
    batch: int = 1 << 30,
) -> Rows:
    """A source of `inputs` (n, width) in chunks of at most `batch` rows."""
    names = list(ids) if ids is not None else [f"row-{i}" for i in range(len(inputs))]
    notes = list(payloads) if payloads is not None else [{"number": i} for i in range(len(inputs))]

    def read(size: int) -> Iterator[Chunk]:
        size = min(size, batch)
        for first in range(0, len(inputs), size):
            part = slice(first, first + size)
            yield Chunk(names[part], inputs[part], notes[part])

    return Rows("made", inputs.shape[1:], len(inputs), False, read)


def encoder_at(
    folder: Path,
    matrix: NDArray[np.float32],
    *,
    held_out: NDArray[np.float32] | None = None,
    origin: Sequence[float] | None = None,
    fitted: float = 3e38,
) -> Path:
    """Write an encoder artifact to the new `folder` that maps a row (width,) to `(row - origin) @ matrix`, (latent,).

    Its manifest lists the held-out rows `held_out`, (n, width), and a range from -`fitted` to `fitted` for each column.
    It clips values beyond 21 times that range.
    """
    width, latent = matrix.shape
    encoder, decoder = nn.Linear(width, latent), nn.Linear(latent, width)
    encoder.weight.data, encoder.bias.data = torch.from_numpy(matrix.T.copy()), torch.zeros(latent)
    folder.mkdir(parents=True)
    write_encoder(
        folder,
        nn.Sequential(encoder),
        nn.Sequential(decoder),
        preprocess=fit_preprocessor(
            np.array([[-fitted], [fitted]], np.float32).repeat(width, axis=1),
            "none",
            origin=None if origin is None else np.array(origin, np.float64),
        ),
        header={
            "input_shape": [width],
            "latent_dim": latent,
            "output": "values",
            "held_out": [] if held_out is None else [int(sketch) for sketch in sketches(held_out)],
        },
    )
    return folder


def put(name: str, row: NDArray[Any], payload: dict[str, Any] | None = None) -> Change:
    """The change that puts an item; a deletion is `Change(name)`."""
    return Change(name, row, json.dumps(payload or {}))


def log_changes(store: Path, *changes: Change) -> int:
    """Append changes to the log of a store, and return the last sequence number."""
    with closing(ChangeLog(store)) as log:
        return log.append(changes)


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Flip one bit of the byte at `place`; negative places count from the end."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def reseal(folder: Path, format_name: str, header: dict[str, Any]) -> None:
    """Seal the changed `folder` again, like an attacker."""
    for name in ("manifest.json", "manifest.sha256"):
        (folder / name).unlink()
    seal(folder, format_name, {key: value for key, value in header.items() if key != "format"})


def retrained(
    parent: int, *, forced: bool = False, sequence: int = 0, compacted: bool = False, **more: Any
) -> dict[str, Any]:
    """The manifest fields that change in a retraining of version `parent` up to the change `sequence`.

    Args:
        compacted: whether the version is a compaction of the retrained one.
        more: other fields of the section `retraining`.
    """
    rows = dict.fromkeys(("new", "replaced", "deleted", "unreadable", "outside", "held"), 0)
    data = {"name": "digits", "sha256": "0" * 64, "rows": 1, "settings": "the defaults", "outside_first": []}
    verdict = Verdict(passes=not forced, decided_by="", reason="made", rows=0)
    retraining = {
        "job": "j",
        "trained_to": sequence,
        "gate": dataclasses.asdict(verdict),
        "forced": forced,
        "alignment": None,
        "rows": {"sequence": sequence, **data, **rows},
        **more,
    }
    return {"sequence": sequence, "lineage": {"parent": parent, "compacted": compacted, "retraining": retraining}}


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def quick(*overrides: str) -> TrainConfig:
    """Settings that train in a moment, with `section.key=value` overrides."""
    return load_config(None, [*QUICK, *overrides])


def blobs(count: int = 60, width: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """(count, width) around three centers."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 3, (3, width))
    return (centers[np.arange(count) % 3] + rng.normal(0, 0.5, (count, width))).astype(np.float32)


def array_rows(inputs: NDArray[Any], labels: list[Any] | None = None, *, pixels: bool = False) -> Rows:
    """A source of rows in memory."""
    payloads = [{} if labels is None else {"label": label} for label in labels or range(len(inputs))]

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), size):
            part = slice(first, first + size)
            ids = [str(i) for i in range(len(inputs))[part]]
            yield Chunk(ids, inputs[part].reshape(len(ids), -1), payloads[part])

    return Rows("memory", inputs.shape[1:], len(inputs), pixels, read)


def read_all(name: Path | str, size: int | None = None) -> Chunk:
    """Every row of a source, as one chunk."""
    chunks = list(open_rows(str(name)).chunks(size))
    return Chunk(
        [i for chunk in chunks for i in chunk.ids],
        np.concatenate([chunk.inputs for chunk in chunks]),
        [p for chunk in chunks for p in chunk.payloads],
    )


def window_rows(count: int = 12, windows: int = 25, *, window: int = 8, hop: int = 2) -> Rows:
    """Windows of noisy sines in two channels; recordings have four frequencies, and each window overlaps others."""
    generator = np.random.default_rng(0)
    time = np.arange(windows * hop + window)
    inputs, payloads = [], []
    for number in range(count):
        wave = np.sin(time[:, None] * (0.2 + 0.1 * (number % 4)) + [0, 1]) + 0.1 * generator.normal(size=(len(time), 2))
        for start in range(0, windows * hop, hop):
            inputs.append(wave[start : start + window])
            payloads.append({"recording": f"r{number}", "start": start, "end": start + window})
    values = np.array(inputs, np.float32)
    flat = values.reshape(len(values), -1)
    made = made_rows(flat, [f"{payload['recording']}@{payload['start']}" for payload in payloads], payloads)
    transform = WindowTransform(window=window, hop=hop, channels=("x", "y"))
    return dataclasses.replace(made, shape=values.shape[1:], transform=transform, group="recording")


def intervals(*counts: int, hop: int = 2, length: int = 4) -> list[Interval | None]:
    """`counts[0]` windows of a recording "0", `counts[1]` windows of a recording "1", ..., each overlaps the next."""
    return [Interval(str(n), i * hop, i * hop + length) for n, count in enumerate(counts) for i in range(count)]
