"""How fast are photos read, and does memory grow with their number?

ours    `training.rows.open_rows` on a folder: one pass over its chunks. Opening the folder, which decodes each photo
        once, has another line
peers   a `torch.utils.data.DataLoader` with one process per core, over a Dataset that reads each photo with Pillow to
        the same pixels: upright, RGB, resized and cropped. "whole" decodes all pixels of a JPEG file, "draft" lets the
        decoder reduce the photo by the same factor as ours

The script makes the photos: JPEG and PNG files of 12 megapixels, and small JPEG files. The pixels of "ours" and "draft"
are equal, and those of "whole" differ by less than 2 of 255; the lines say so, and the script stops otherwise. The peak
is the resident memory of a process that opens a folder and reads it once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from benchmarks.memory import own_bytes
from benchmarks.report import Bar, Row, alternate, medians, report, row, seconds
from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows, open_rows
from lookalike.training.transforms.photos import PREVIEW

__all__ = ["main"]

SIDE = 64
SETTINGS = DataConfig(image_size=SIDE)
LARGE, SMALL = (4_000, 3_000), (500, 375)
DISTINCT = 4
ROUNDS = 3
FEW, MANY = 20, 60
CORES = len(os.sched_getaffinity(0))


class PillowPhotos(Dataset[torch.Tensor]):
    """Photos as torchvision's ImageFolder reads them, resized and cropped; each an (SIDE, SIDE, 3) tensor of bytes."""

    def __init__(self, folder: Path, *, draft: bool) -> None:
        self.paths = sorted(folder.iterdir())
        self.draft = draft

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.paths[place]) as image:
            if self.draft:
                image.draft(None, (2 * PREVIEW, 2 * PREVIEW))
            upright = ImageOps.exif_transpose(image).convert("RGB")
        return torch.from_numpy(np.array(ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.BILINEAR)))


def write_photos(folder: Path, count: int, size: tuple[int, int], ending: str) -> Path:
    """Write photos of a few soft shapes and the noise of a sensor; links to `DISTINCT` different files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        path, original = folder / f"{number:05}.{ending}", folder / f"{number % DISTINCT:05}.{ending}"
        if number >= DISTINCT:
            os.link(original, path)
            continue
        soft = Image.fromarray(random.integers(0, 256, (9, 12, 3)).astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        noise = random.integers(-3, 4, (size[1], size[0], 1))
        photo = Image.fromarray((np.asarray(soft).astype(np.int16) + noise).clip(0, 255).astype(np.uint8))
        photo.save(path, quality=90) if ending == "jpg" else photo.save(path, compress_level=1)
    return folder


def read_ours(rows: Rows) -> NDArray[np.float32]:
    return np.concatenate([chunk.inputs for chunk in rows.chunks()])


def read_peer(folder: Path, *, draft: bool) -> NDArray[np.float32]:
    photos = PillowPhotos(folder, draft=draft)
    size = min(64, -(-len(photos) // (2 * CORES)))  # each process has batches even of a few files
    loader = DataLoader(photos, batch_size=size, num_workers=CORES)
    return np.concatenate([batch.numpy().reshape(len(batch), -1) for batch in loader]).astype(np.float32)


def speed(claim: str, folder: Path) -> list[Row]:
    """Compare files per second on one folder; the pixels must be the same."""
    rows, count, bar = open_rows(str(folder), SETTINGS), len(list(folder.iterdir())), Bar("ours / peer", ">=", 1)
    pixels = read_ours(rows)
    apart = {draft: float(np.abs(pixels - read_peer(folder, draft=draft)).max()) for draft in (False, True)}
    if apart[True] or apart[False] >= 2:
        raise ValueError(f"the pixels of {folder.name} differ by {apart}")
    same = {draft: f"pixels at most {most:g} of 255 apart" if most else "equal pixels" for draft, most in apart.items()}
    segments: dict[str, Callable[[], float]] = {
        "ours": lambda: count / seconds(lambda: read_ours(rows)),
        "whole": lambda: count / seconds(lambda: read_peer(folder, draft=False)),
        "draft": lambda: count / seconds(lambda: read_peer(folder, draft=True)),
        "open": lambda: count / seconds(lambda: open_rows(str(folder), SETTINGS)),
    }
    found = medians(alternate(segments, ROUNDS))
    ours = found["ours"]
    return [
        row(f"{claim}, beside whole decoding, {same[False]}", "files/s", ours=ours, peer=found["whole"], bar=bar),
        row(f"{claim}, beside draft decoding, {same[True]}", "files/s", ours=ours, peer=found["draft"], bar=bar),
        row(f"{claim}, opening the folder", "files/s", ours=found["open"]),
    ]


def peak(folder: Path) -> int:
    """Return the highest resident memory, in bytes, of a process that opens a folder and reads it once."""
    child = [sys.executable, "-m", "benchmarks.images", "--child", str(folder)]
    return int(json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--large", type=int, default=60, help="photos of 12 megapixels")
    parser.add_argument("--small", type=int, default=1_000, help="photos of 500 x 375 pixels")
    options = parser.parse_args()
    if options.child:
        read_ours(open_rows(str(options.child)))
        print(own_bytes("VmHWM"))
        return
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        large = write_photos(made / "large", options.large, LARGE, "jpg")
        png = write_photos(made / "png", options.large // 4, LARGE, "png")
        small = write_photos(made / "small", options.small, SMALL, "jpg")
        lines = speed("JPEG files of 12 megapixels", large)
        lines += speed("PNG files of 12 megapixels", png)
        lines += speed("JPEG files of 500 x 375", small)
        for ending in ("jpg", "png"):
            few, many = (write_photos(made / f"{ending}{count}", count, LARGE, ending) for count in (FEW, MANY))
            sizes = {"ours": peak(many) / 1e6, "floor": peak(few) / 1e6}
            claim = f"memory for {MANY} .{ending} files of 12 megapixels, beside {FEW}"
            lines.append(row(claim, "MB", **sizes, bar=Bar("ours / floor", "<=", 1.1)))
    report("images", lines, f"The pictures have {SIDE} x {SIDE} pixels; {CORES} threads, or {CORES} processes.")


if __name__ == "__main__":
    main()
