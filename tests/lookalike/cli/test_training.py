import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.transforms import ImageTransform
from tests.lookalike.helpers import refused, run

QUICK = ("--set", "model.hidden=[16]", "--set", "model.latent_dim=4", "--set", "fit.epochs=2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty color photos of mixed sizes in two subfolders, an empty file, and a file of another type."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(40):
        path = folder / ("light" if number % 2 else "dark") / f"{number:02}.{('png', 'jpg', 'webp', 'tif')[number % 4]}"
        path.parent.mkdir(exist_ok=True)
        low = 100 * (number % 2)
        pixels = random.integers(low, low + 100, (20 + number, 50 - number, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").touch()
    return folder


def test_a_folder_with_unreadable_photos_names_them(photos: Path, tmp_path: Path) -> None:
    reading = ("--max-unreadable", "0")
    refused(run("train", photos, "--run", tmp_path / "run", *reading, *QUICK), "1 of 41 unreadable: empty.jpg (")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_from_photos_to_a_search_with_copies_of_a_photo(photos: Path, tmp_path: Path) -> None:
    runs, store = tmp_path / "run", tmp_path / "store"
    reading = ("--set", "data.image_size=12")
    trained = run("train", photos, "--run", runs, *reading, *QUICK)
    assert trained.code == 0, trained.err
    assert "input: photos as 12 x 12 pixels, rgb (crop)\n" in trained.out
    assert f"{photos}: skipped 1 of 41 photos that cannot be read\n" in trained.err
    assert f"{photos}: skipped files of other types (1): notes.txt\n" in trained.err
    listed = (runs / "skipped.csv").read_text(encoding="utf-8").splitlines()
    assert listed == ["file,reason", 'empty.jpg,"expected a photo, found an empty file"']
    assert load_encoder(runs / "encoder").transform == ImageTransform(height=12, width=12, mode="rgb")
    built = ("build", photos, "--encoder", runs, "--store", store)
    refused(run(*built, "--max-unreadable", "0.02"), "1 of 41 unreadable: empty.jpg (")
    assert run(*built).code == 0
    assert (store / "skipped.csv").read_text(encoding="utf-8").splitlines() == listed
    assert run("promote", 1, "--store", store).code == 0

    original = Image.open(photos / "dark" / "00.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    original.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    original.convert("RGBA").save(tmp_path / "see-through.png")
    for name in ("turned.png", "see-through.png"):
        found = run("search", tmp_path / name, "--store", store, "--limit", 1)
        assert found.code == 0, found.err
        (hit,) = json.loads(found.out)["hits"]
        assert (hit["id"], round(hit["score"], 5)) == ("dark/00.png", 1.0)
        assert hit["payload"] == {"file": "dark/00.png", "label": "dark", "width": 50, "height": 20}
