"""A manifest that was changed and sealed again: the encoder loads with the change, or the error names the field."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.fields import Fields, check_fields
from lookalike.training.artifact.manifest import EncoderManifest
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import Sealed
from tests.training.helpers import changed_fields, error_of


@pytest.fixture
def encoder_folder(tiny_run: Path, tmp_path: Path) -> Path:
    """The artifact of a training run, which sets the most fields; the test may change it."""
    return Path(shutil.copytree(tiny_run / "encoder", tmp_path / "encoder"))


def test_a_changed_field_is_refused_by_name_or_does_no_harm(encoder_folder: Path) -> None:
    original = json.loads((encoder_folder / "manifest.json").read_text())
    assert original.keys() - {"files"} == EncoderManifest.model_fields.keys() - {"columns", "transform"}
    refused, accepted = set[str](), 0
    for name, changed in changed_fields(original):
        text = json.dumps(changed).encode()
        sealed = Sealed(encoder_folder, text)
        if error := error_of(partial(check_fields, sealed, EncoderManifest)):
            assert name in str(error)
            refused.add(name)
            continue
        accepted += 1
        if accepted % 20 and name not in {"input_shape", "latent_dim", "encoder", "decoder"}:
            continue  # these fields describe the training: a sample is enough
        (encoder_folder / "manifest.json").write_bytes(text)
        (encoder_folder / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")
        if error := error_of(lambda: load_encoder(encoder_folder)):
            assert isinstance(error, ArtifactError)
            assert name in str(error) or "expected float32" in str(error)  # a size that does not match the weights
    assert refused == original.keys() - {"format", "files"}


class Size(Fields):
    width: Annotated[int, Field(ge=1)]
    share: float = 0.5
    parts: tuple[dict[str, int], ...] = ()


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({}, "width: expected a value, found nothing"),
        ({"width": 0}, "width: expected greater than or equal to 1, found 0"),
        ({"width": "3"}, "width: expected a valid integer, found 3"),
        ({"width": True}, "width: expected a valid integer, found True"),
        ({"width": 3.0}, r"width: expected a valid integer, found 3\.0"),
        ({"width": 3, "share": None}, "share: expected a valid number, found None"),
        ({"width": 3, "parts": [{}, {"x": "y"}]}, r"parts\[1\]\.x: expected a valid integer, found y"),
        ({"width": 3, "more": 1}, "more: expected no such field, found 1"),
    ],
)
def test_the_first_wrong_field_is_named(tmp_path: Path, header: dict[str, object], error: str) -> None:
    sealed = Sealed(tmp_path, json.dumps(header | {"files": {}}).encode())
    with pytest.raises(ArtifactError, match=f"manifest.json, {error}"):
        check_fields(sealed, Size)


def test_reads_valid_fields(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, b'{"width": 3, "share": 1, "files": {}}')
    assert check_fields(sealed, Size) == Size(width=3, share=1.0)
