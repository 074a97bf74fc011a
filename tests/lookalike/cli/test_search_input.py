import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lookalike.cli import search_input
from lookalike.cli.search_input import photo_from
from lookalike.index.items.previews import CONTENT
from lookalike.index.versions.store import Store
from lookalike.training.errors import DataError
from tests.lookalike.helpers import refused, run
from tests.photos import COLORS, TRANSFORM, photo, photo_store, row_of


def test_reads_a_photo_as_the_encoder_does() -> None:
    rows = photo_from(io.BytesIO(photo((1, 2, 3))), TRANSFORM)
    np.testing.assert_array_equal(rows, [row_of((1, 2, 3))])


@pytest.mark.parametrize("content", [b"", b"[[1, 2]]", photo((1, 2, 3), "JPEG")[:-30]])
def test_refuses_what_is_no_photo(content: bytes) -> None:
    with pytest.raises(DataError, match=r"standard input: expected .* photo"):
        photo_from(io.BytesIO(content), TRANSFORM)


def test_refuses_a_photo_for_an_encoder_of_other_rows() -> None:
    with pytest.raises(DataError, match="the encoder was not trained on photos"):
        photo_from(io.BytesIO(photo((1, 2, 3))), None)


def test_reads_no_more_than_a_photo_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_input, "MOST_BYTES", 10)
    with pytest.raises(DataError, match="a photo of at most 10 bytes"):
        photo_from(io.BytesIO(photo((1, 2, 3))), TRANSFORM)


@pytest.mark.slow
def test_searches_with_a_photo_a_file_and_a_folder(tmp_path: Path) -> None:
    store = photo_store(tmp_path)
    search = [sys.executable, "-m", "lookalike", "search", "-", "--store", str(store.folder), "--limit", "1"]
    done = subprocess.run(search, input=photo(COLORS["07.png"]), capture_output=True, check=True)
    of_stdin = json.loads(done.stdout)
    assert (of_stdin["query"], of_stdin["hits"][0]["id"]) == ("-", "07.png")
    (line,) = run("search", tmp_path / "photos" / "07.png", "--store", store.folder, "--limit", 1).out.splitlines()
    assert json.loads(line)["hits"] == of_stdin["hits"]
    lines = run("search", tmp_path / "photos", "--store", store.folder, "--limit", 1).out.splitlines()
    assert [json.loads(line)["hits"][0]["id"] for line in lines] == sorted(COLORS)


def test_a_build_says_how_large_the_previews_will_be(tmp_path: Path) -> None:
    store = photo_store(tmp_path)
    build = ("build", tmp_path / "photos", "--encoder", tmp_path / "encoder", "--store", store.folder)
    done = run(*build)
    assert "previews: about 0.0 MB for 12 items; --no-previews leaves them out" in done.err
    assert (store.path(int(done.out)) / CONTENT).exists()
    done = run(*build, "--no-previews")
    assert "previews" not in done.err
    assert not (store.path(int(done.out)) / CONTENT).exists()


def test_standard_input_is_refused_for_other_rows(tiny_store: Store) -> None:
    refused(run("search", "-", "--store", tiny_store.folder), "not trained on photos")
