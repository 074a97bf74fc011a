"""The commands with existing embeddings, with an ONNX model, and the export of an encoder."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from lookalike.index.versions.store import Store
from lookalike.training.artifact.onnx_encoder import run_model
from tests.factories import cloud
from tests.lookalike.helpers import refused, run, save
from tests.onnx_graphs import linear, save_graph

VECTORS = cloud(60, 5)


def test_existing_embeddings_from_a_file_to_hits(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = run("build", save(tmp_path / "v.npy", VECTORS), "--encoder", "none", "--store", store, "--index", "Flat")
    assert (done.code, done.out) == (0, "1\n"), done.err
    assert run("promote", 1, "--store", store).code == 0
    done = run("search", save(tmp_path / "q.npy", VECTORS[4:6]), "--store", store, "--limit", 1)
    assert [json.loads(line)["hits"][0]["id"] for line in done.out.splitlines()] == ["4", "5"]
    (line,) = run("search", "--id", "4", "--store", store).out.splitlines()
    assert "4" not in {hit["id"] for hit in json.loads(line)["hits"]}
    refused(run("search", "4", "--store", store), "An item has this id. To search with the item, use --id.")
    assert "--id" not in run("search", "60", "--store", store).err
    refused(run("why", "4", "5", "--store", store), "a version with an encoder")
    assert run("duplicates", "--store", store).code == 0
    assert run("drift", "--store", store).code == 0
    assert run("evaluate", 1, "--store", store).code == 0
    assert run("versions", "--store", store).code == 0
    refused(
        run("embed", tmp_path / "q.npy", "--store", store, "--out", tmp_path / "e.npy"), "a version with an encoder"
    )
    refused(run("retrain", "--store", store), "a version of existing embeddings")
    refused(run("export-encoder", "--onnx", tmp_path / "e.onnx", "--store", store), "a version of existing embeddings")
    assert not (tmp_path / "e.npy").exists()


def test_a_model_embeds_the_rows(tmp_path: Path) -> None:
    model = save_graph(tmp_path / "model.onnx", linear(cloud(5, 3)))
    rows, store = save(tmp_path / "rows.npy", VECTORS), tmp_path / "store"
    done = run("build", rows, "--encoder", model, "--store", store, "--index", "Flat")
    assert (done.code, done.out) == (0, "1\n"), done.err
    done = run("build", rows, "--encoder", save(tmp_path / "bad.onnx.npy", VECTORS), "--store", store)
    refused(done, "the folder of a run or of an encoder")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    refused(run("build", rows, "--encoder", tmp_path / "bad.onnx", "--store", store), "bad.onnx: expected")
    refused(run("build", rows, "--encoder", "none", "--store", store, "--set", "data.nope=1"), "data.nope")


@pytest.mark.slow
def test_an_exported_encoder_gives_the_same_embeddings(tiny_store: Store, tmp_path: Path) -> None:
    path, version = tmp_path / "encoder.onnx", tiny_store.open_champion()
    done = run("export-encoder", "--onnx", path, "--store", tiny_store.folder)
    assert (done.code, done.out) == (0, f"{path}: float32 (batch, 8, 8) to (batch, 8)\n"), done.err
    rows = np.array(version.held[:50])
    found = run_model(path, rows.reshape(-1, 8, 8))
    np.testing.assert_allclose(found, version.embed(rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load_model(str(path)).metadata_props}
    assert facts == {"lookalike.input_shape": [8, 8], "lookalike.columns": []}
    refused(run("export-encoder", 7, "--onnx", path, "--store", tiny_store.folder), "7")
    refused(
        run("export-encoder", "--onnx", tmp_path / "no" / "folder.onnx", "--store", tiny_store.folder), "no such path"
    )
    done = run("build", "digits", "--encoder", path, "--store", tmp_path / "store", "--index", "Flat")
    assert (done.code, done.out) == (0, "1\n"), done.err
