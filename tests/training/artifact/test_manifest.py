"""An encoder's manifest that was changed and sealed again: it opens with the change, or the error names the field."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.manifest import EncoderManifest, Fields, check_fields
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import Sealed
from tests.training.helpers import changed_fields, error_of


@pytest.fixture
def encoder_folder(tiny_run: Path, tmp_path: Path) -> Path:
    """Of a training run, which says most. To be changed."""
    return Path(shutil.copytree(tiny_run / "encoder", tmp_path / "encoder"))


def test_any_field_of_any_other_type_or_size_is_refused_by_its_name_or_does_no_harm(encoder_folder: Path) -> None:
    whole = json.loads((encoder_folder / "manifest.json").read_text())
    assert whole.keys() - {"files"} == EncoderManifest.model_fields.keys() - {"columns"}
    refused, others = set[str](), 0
    for name, other in changed_fields(whole):
        text = json.dumps(other).encode()
        sealed = Sealed(encoder_folder, text)
        if error := error_of(partial(check_fields, sealed, EncoderManifest)):
            assert name in str(error)
            refused.add(name)
            continue
        others += 1
        if others % 20 and name not in {"input_shape", "latent_dim", "encoder", "decoder"}:
            continue  # they say how it was made: some are enough
        (encoder_folder / "manifest.json").write_bytes(text)
        (encoder_folder / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")
        if error := error_of(lambda: load_encoder(encoder_folder)):
            assert isinstance(error, ArtifactError)
            assert name in str(error) or "expected float32" in str(error)  # a size, and weights of another
    assert refused == whole.keys() - {"format", "files"}


class Size(Fields):
    width: Annotated[int, Field(ge=1)]
    share: float = 0.5
    beside: tuple[dict[str, int], ...] = ()


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({}, "width: expected a value, found nothing"),
        ({"width": 0}, "width: expected greater than or equal to 1, found 0"),
        ({"width": "3"}, "width: expected a valid integer, found 3"),
        ({"width": True}, "width: expected a valid integer, found True"),
        ({"width": 3.0}, r"width: expected a valid integer, found 3\.0"),
        ({"width": 3, "share": None}, "share: expected a valid number, found None"),
        ({"width": 3, "beside": [{}, {"x": "y"}]}, r"beside\[1\]\.x: expected a valid integer, found y"),
        ({"width": 3, "more": 1}, "more: expected no such field, found 1"),
    ],
)
def test_the_first_wrong_field_is_named(tmp_path: Path, header: dict[str, object], error: str) -> None:
    sealed = Sealed(tmp_path, json.dumps(header | {"files": {}}).encode())
    with pytest.raises(ArtifactError, match=f"manifest.json, {error}"):
        check_fields(sealed, Size)


def test_fields_that_are_as_the_model_has_them_are_read(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, b'{"width": 3, "share": 1, "files": {}}')
    assert check_fields(sealed, Size) == Size(width=3, share=1.0)
