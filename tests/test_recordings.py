"""The whole chain over recordings: windows from files, from requests, from the change log and in a retraining agree."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import scipy.io.wavfile
from fastapi import FastAPI
from numpy.typing import NDArray

from lookalike.index.versions.embed import embed
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.client import AsyncClient, WindowPlace
from lookalike.training.rows import open_rows
from lookalike.training.transforms import WindowTransform
from tests.lookalike.helpers import refused, run
from tests.service.helpers import NPY, answered, call, from_npy, serving, settings_for, to_npy

RATE, SECONDS = 20, 60
WINDOW, HOP = 40, 10
QUICK = ("model.hidden=[32]", "model.latent_dim=4", "fit.epochs=4", "fit.device=cpu", "data.validation=0.2")


def recorded(seed: int, slow: float = 0.5, fast: float = 3.0) -> NDArray[np.float64]:
    """(samples, 2): a minute of slow and then of fast waves, in channels of very different units far from 0."""
    generator = np.random.default_rng(seed)
    times = np.arange(RATE * SECONDS) / RATE
    waves = np.where(times < SECONDS / 2, np.sin(2 * np.pi * slow * times), np.sin(2 * np.pi * fast * times))
    noise = generator.normal(0, 0.05, (len(times), 2))
    return np.stack([101_325 + 30 * waves, 1e-3 * waves], axis=1) + noise * [30, 1e-3]


def write(path: Path, samples: NDArray[np.float64]) -> Path:
    """Write recordings as people do: seconds since 1970, a label, and a hole of 20 s."""
    times = 1_700_000_000 + np.arange(len(samples)) / RATE + np.where(np.arange(len(samples)) < 800, 0, 20)
    labels = np.where(np.arange(len(samples)) < len(samples) / 2, "slow", "fast")
    lines = [
        f"{t:.3f},{a!r},{b!r},{label}"
        for t, (a, b), label in zip(times.tolist(), samples.tolist(), labels, strict=True)
    ]
    path.write_text("\n".join(["t,pressure,strain,label", *lines]))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, a run over its windows, and a store with the version built from it."""
    folder = tmp_path_factory.mktemp("recordings")
    path = write(folder / "rec.csv", recorded(0))
    words = ["--window", "2s", "--hop", "500ms", "--time", "t", "--normalize", "standard"]
    settings = [word for line in QUICK for word in ("--set", line)]
    trained = run("train", path, "--run", folder / "run", *words, *settings)
    assert trained.code == 0, trained.err
    assert "rec.csv: 1 recording, 114 windows of 40 samples (2 s), one every 10 samples" in trained.err
    assert "resolution-lost" not in trained.out
    assert run("build", path, "--encoder", folder / "run", "--store", folder / "store").out == "1\n"
    assert run("promote", 1, "--store", folder / "store").code == 0
    return folder


@pytest.fixture(scope="module")
def version(folder: Path) -> Version:
    return Store(folder / "store").open_champion("cpu")


def file_windows(folder: Path, version: Version) -> tuple[NDArray[np.float64], list[str]]:
    chunk = next(open_rows(str(folder / "rec.csv"), spec=version.encoder.inputs).chunks(1_000, np.float64))
    return chunk.inputs, chunk.ids


def test_the_encoder_has_the_transform_one_origin_and_one_scale_for_each_channel(version: Version) -> None:
    transform = version.encoder.transform
    assert isinstance(transform, WindowTransform)
    assert (transform.window, transform.hop, transform.rate, transform.max_gap) == (WINDOW, HOP, 20.0, 0.5)
    assert transform.channels == ("pressure", "strain")
    preprocess = version.encoder.preprocess
    assert preprocess.kind == "channel"
    assert preprocess.normalizer is not None
    assert preprocess.origin is not None
    assert {tuple(pair) for pair in preprocess.origin.reshape(-1, 2)} == {(preprocess.origin[0], 0.0)}
    assert len({tuple(pair) for pair in preprocess.factor.reshape(-1, 2).tolist()}) == 1


def test_a_search_with_a_file_finds_windows_of_the_same_kind(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "other.csv", recorded(7))
    lines = run("search", path, "--store", folder / "store", "--limit", 3).out.splitlines()
    answers = [json.loads(line) for line in lines]
    assert answers[0]["query"] == "other.csv@1700000000"
    right = [
        hit["payload"]["label"] == ("slow" if number < 57 else "fast")
        for number, a in enumerate(answers)
        for hit in a["hits"]
    ]
    assert np.mean(right) > 0.9
    first = answers[0]["hits"][0]["payload"]
    assert first.keys() == {"recording", "start", "end", "label"}
    assert first["end"] - first["start"] == 2


def test_a_search_with_another_kind_of_file(folder: Path, tmp_path: Path) -> None:
    samples = np.repeat(recorded(7), 2, axis=0)
    scipy.io.wavfile.write(tmp_path / "other.wav", 2 * RATE, samples)
    done = run("search", tmp_path / "other.wav", "--store", folder / "store", "--limit", 1)
    assert "resampled from 40 to 20 samples per second" in done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["query"] for answer in answers[:2]] == ["other.wav@0", "other.wav@0.5"]
    assert answers[0]["hits"][0]["payload"]["label"] == "slow"
    assert answers[-1]["hits"][0]["payload"]["label"] == "fast"
    np.save(tmp_path / "other.npy", recorded(7))
    assert run("search", tmp_path / "other.npy", "--store", folder / "store").code == 0
    scipy.io.wavfile.write(tmp_path / "mono.wav", RATE, recorded(7)[:, 0])
    refused(run("search", tmp_path / "mono.wav", "--store", folder / "store"), "mono.wav")


@pytest.mark.anyio
async def test_requests_embed_windows_as_files_do(folder: Path, version: Version) -> None:
    rows, _ = file_windows(folder, version)
    origin = version.encoder.origin
    assert origin is not None
    expected = embed(version.encoder, (rows - origin).astype(np.float32), "cosine")
    nested = rows[:3].reshape(3, WINDOW, 2)
    async with serving(settings_for(folder / "store"), version) as client:
        for inputs in (rows[:3].tolist(), nested.tolist(), [nested[0].tolist(), *rows[1:3].tolist()]):
            answer = await call(client, "/embed", inputs=inputs)
            assert answer.keys() == {"version", "embeddings"}
            np.testing.assert_array_equal(np.array(answer["embeddings"], np.float32), expected[:3])
        headers = {"Content-Type": NPY, "Accept": NPY}
        raw = await client.post("/embed", content=to_npy(nested), headers=headers)
        np.testing.assert_array_equal(from_npy(raw.content), expected[:3])


@pytest.mark.anyio
async def test_a_longer_segment_is_cut_into_windows(folder: Path, version: Version) -> None:
    rows, ids = file_windows(folder, version)
    samples = recorded(0)[: WINDOW + 2 * HOP + 3]
    segment, window = samples.tolist(), rows[50].reshape(WINDOW, 2).tolist()
    async with serving(settings_for(folder / "store"), version) as client:
        found = await call(client, "/search", inputs=[segment, window], limit=1)
        assert [result["hits"][0]["id"] for result in found["results"]] == [*ids[:3], ids[50]]
        places = [(0, 0, 2), (0, 0.5, 2.5), (0, 1, 3), (1, 0, 2)]
        assert found["windows"] == [{"input": n, "start": start, "end": end} for n, start, end in places]
        embedded = await call(client, "/embed", inputs=[segment, window])
        assert embedded["windows"] == found["windows"]
        assert len(embedded["embeddings"]) == 4
        again = await call(client, "/embed", inputs=[segment, window], encoding_format="base64")
        assert again["windows"] == found["windows"]


@pytest.mark.anyio
async def test_missing_samples_are_null_and_filled_as_in_a_file(folder: Path, version: Version) -> None:
    whole = recorded(0)[:WINDOW]
    gone, straight = whole.copy(), whole.copy()
    gone[10, 1] = np.nan
    straight[10, 1] = (whole[9, 1] + whole[11, 1]) / 2
    with_null = [[None if np.isnan(value) else value for value in sample] for sample in gone.tolist()]
    async with serving(settings_for(folder / "store"), version) as client:
        found = await call(
            client, "/embed", inputs=[with_null, straight.tolist(), [value for sample in with_null for value in sample]]
        )
        assert found["embeddings"][0] == found["embeddings"][1] == found["embeddings"][2]
        headers = {"Content-Type": NPY, "Accept": NPY}
        raw = await client.post("/embed", content=to_npy(gone[None]), headers=headers)
        assert from_npy(raw.content)[0].tolist() == np.array(found["embeddings"][0], np.float32).tolist()
        gone[5:10, 0] = np.nan  # five of forty samples
        refused_npy = await client.post("/embed", content=to_npy(gone[None]), headers=headers)
        answered(refused_npy, 422, "inputs[0]")
        body = {"inputs": [whole.tolist(), [[None, 1.0]] * WINDOW]}
        answered(await client.post("/embed", json=body), 422, "inputs[1]")


@pytest.mark.anyio
async def test_the_client_has_the_place_of_each_window(folder: Path, version: Version) -> None:
    apps: list[FastAPI] = []
    long, short = (recorded(0)[: WINDOW + count].tolist() for count in (HOP, 0))
    async with serving(settings_for(folder / "store"), version, apps.append):
        client = AsyncClient("http://localhost", max_rows=2, transport=httpx.ASGITransport(apps[0]))
        found = await client.search(inputs=[short, short, short, long], limit=1)
        assert len(found.results) == 5
        starts = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 0.5)]
        assert found.windows == tuple(WindowPlace(number, start, start + 2) for number, start in starts)
        assert (await client.search(inputs=[short, short], limit=1)).windows == ()
        embedded = await client.embed([short, short, short, long])
        assert embedded.windows == found.windows
        expected = embedded.embeddings[[0, 0, 0, 0]]
        np.testing.assert_array_equal(embedded.embeddings[:4], expected)
        assert not np.allclose(embedded.embeddings[4], embedded.embeddings[3])
        assert (await client.embed([short, short])).windows == ()
        await client.aclose()


WRONG: list[tuple[Any, str]] = [
    ([[[1.0, 2.0]] * (WINDOW - 1)], "inputs[0]"),
    ([[1.0] * (2 * WINDOW + 2)], "inputs[0]"),
    ([[[1.0, 2.0, 3.0]] * WINDOW], "inputs[0]"),
    ([[[1.0, "x"]] * WINDOW], "inputs[0]"),
    ([[[1.0, True]] * WINDOW], "inputs[0]"),
    ([[[1.0, 1e39]] * WINDOW], "inputs[0]"),
    ([[[1.0, 2.0]] * WINDOW, {"pressure": 1}], "inputs[1]"),
    ([7], "inputs[0]"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("inputs", "field"), WRONG, ids=range(len(WRONG)))
async def test_wrong_segments_are_named(folder: Path, version: Version, inputs: Any, field: str) -> None:
    async with serving(settings_for(folder / "store"), version) as client:
        answered(await client.post("/search", json={"inputs": inputs}), 422, field)


@pytest.mark.anyio
async def test_a_call_has_at_most_max_rows_windows(folder: Path, version: Version) -> None:
    async with serving(settings_for(folder / "store", max_rows=5), version) as client:
        five, six = ([[0.0, 1.0]] * (WINDOW + hops * HOP) for hops in (4, 5))
        assert len((await call(client, "/search", inputs=[five]))["results"]) == 5
        answered(await client.post("/search", json={"inputs": [six]}), 413, "inputs")
        body = {"items": [{"id": "a", "input": six}]}
        answered(await client.put("/items", json=body), 413, "items")


@pytest.mark.anyio
async def test_put_cuts_a_longer_segment_into_items(
    store_folder_copy: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.service.parsing.item_bodies.MAX_COPIES", 100_000)
    version = Store(store_folder_copy).open_champion("cpu")
    samples = recorded(3)
    items = [
        {"id": "long", "input": samples[: WINDOW + HOP].tolist(), "payload": {"label": "slow"}},
        {"id": "short", "input": samples[:WINDOW].tolist(), "payload": {"place": 1}},
    ]
    async with serving(settings_for(store_folder_copy), version) as client:
        answer = (await client.put("/items", json={"items": items})).json()
        assert (answer["count"], answer["clipped"]) == (3, 0)
        first = (await client.get("/items/long@0")).json()
        second = (await client.get("/items/long@0.5")).json()
        short = (await client.get("/items/short")).json()
        assert second["payload"] == {"recording": "long", "label": "slow", "start": 0.5, "end": 2.5}
        assert short["payload"] == {"place": 1}
        assert first["embedding"] == short["embedding"]  # the same window
        found = await call(client, "/search", inputs=[samples[HOP : WINDOW + HOP].tolist()], limit=1)
        assert found["results"][0]["hits"][0]["id"] == "long@0.5"
        several = {"id": "several", "input": recorded(4)[: WINDOW + HOP].tolist(), "payload": {"text": "x" * 65_000}}
        answered(await client.put("/items", json={"items": [several]}), 413, "items")
        assert (await client.get("/items/several@0")).status_code == 404
        assert (await client.put("/items", json={"items": [several | {"payload": {}}]})).json()["count"] == 2
        repeated = {"items": [items[0], {"id": "long@0.5", "input": items[1]["input"]}]}
        answered(await client.put("/items", json=repeated), 422, "items[2].id")


@pytest.mark.anyio
async def test_explains_a_segment_with_missing_samples(folder: Path, version: Version) -> None:
    samples: list[list[float | None]] = recorded(3)[: WINDOW + HOP].tolist()
    samples[1] = [None, None]
    async with serving(settings_for(folder / "store"), version) as client:
        found = await call(client, "/search", inputs=[samples[:WINDOW]], limit=1)
        hit = found["results"][0]["hits"][0]
        explained = await call(client, "/explain", input=samples[:WINDOW], id=hit["id"])
        assert explained["score"] == pytest.approx(hit["score"], abs=1e-4)
        answered(await client.post("/explain", json={"input": samples, "id": hit["id"]}), 413, "input")


@pytest.fixture
def store_folder_copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "store", tmp_path / "store"))


@pytest.mark.slow
def test_import_and_retraining_keep_the_transform(store_folder_copy: Path, folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "more.csv", recorded(5))
    done = run("import", path, "--store", store_folder_copy)
    assert done.code == 0, done.err
    done = run("retrain", "--store", store_folder_copy, "--force")
    assert done.code == 0, done.err
    retrained, first = (Store(store_folder_copy).open(number, "cpu").encoder for number in (2, 1))
    assert retrained.transform == first.transform
    assert retrained.preprocess.normalizer == first.preprocess.normalizer
    assert retrained.preprocess.kind == "channel"
    lines = run("search", path, "--store", store_folder_copy, "--limit", 1).out.splitlines()
    assert all(json.loads(line)["hits"][0]["id"] == json.loads(line)["query"] for line in lines)
