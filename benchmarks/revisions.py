"""Are training, embedding and search as fast as in another revision? `python -m benchmarks.revisions REVISION`.

ours    this code: an epoch of the shipped autoencoder on the 60,000 training images of Fashion-MNIST, the embedding of
        these images, and searches in a version of them, all with an index of one fixed kind
peer    the same in the other revision

Each revision runs in one process. The processes take turns, round by round, so other work on the machine slows both
alike. The seeds are the same, so the validation loss and the recall must be equal. `benchmarks.regression` compares
/search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.regression import checkout, environment_for
from benchmarks.report import Bar, Row, alternate, medians, report, row

__all__ = ["main"]

ROUNDS = 7
LOSS = 0.03
"""The share of the peer's speed that may be lost."""
SPEEDS = {
    "train": "an epoch, 60,000 rows",
    "embed": "embed 60,000 rows",
    "rows": "1,000 searches with one row each",
    "single": "1,000 searches with one embedding each",
    "batch": "10 searches with 1,000 embeddings each",
    "filtered": "100 searches with a filter",
}
CHILD = """
import importlib, json, sys, time
from pathlib import Path
import faiss, numpy as np, torch

def of(new, old, *names):
    try:
        module = importlib.import_module("lookalike." + new)
    except ModuleNotFoundError:
        module = importlib.import_module(old)
    return [getattr(module, name) for name in names]

[train] = of("training.fit.job", "training.job", "train")
[load_config] = of("training.config", "training.config", "load_config")
[open_rows, read_sample] = of("training.rows", "training.rows", "open_rows", "read_sample")
[build] = of("index.versions.build", "index.build", "build")
[Store] = of("index.versions.store", "index.store", "Store")
[Target] = of("index.ann.target", "index.target", "Target")
[read_filter] = of("index.items.filters", "index.filters", "read_filter")
torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
faiss.omp_set_num_threads(1)
folder, state = Path(sys.argv[1]), {}

def epoch(folder):
    config = load_config(None, ["fit.epochs=1", "fit.device=cpu", "fit.precision=fp32"])
    return train(open_rows("fashion-mnist"), config, folder)

def prepared():
    done = epoch(folder / "run")
    store = Store(folder / "store")
    target = Target(0.5, key="IVF512,SQfp16")
    version = store.open(build(open_rows("fashion-mnist"), folder / "run", store, target=target, device="cpu"))
    queries = read_sample(open_rows("fashion-mnist:test"), 1_000, 0)[0]
    searcher = getattr(version, "searcher", None)
    state.update(version=version, queries=queries, embeddings=version.embed(queries), images=open_rows("fashion-mnist"))
    state["searcher"] = searcher if hasattr(searcher, "search_rows") else version
    state["some"] = read_filter({"field": "label", "in": [1, 2]})
    evidence = json.loads((store.path(1) / "manifest.json").read_text())["evidence"]
    loss = json.loads((folder / "run" / "encoder" / "manifest.json").read_text())["history"][-1]["validation_loss"]
    return {"recall": evidence["recall"], "validation loss": loss}

def segment(name):
    searcher, embeddings, queries = state["searcher"], state["embeddings"], state["queries"]
    if name == "train":
        epoch(folder / f"again-{time.time_ns()}")
    elif name == "embed":
        for chunk in state["images"].chunks():
            state["version"].embed(chunk.inputs)
    elif name == "rows":
        for place in range(1_000):
            searcher.search_rows(queries[place : place + 1], 10)
    elif name == "single":
        for place in range(1_000):
            searcher.search(embeddings[place : place + 1], 10)
    elif name == "batch":
        for _ in range(10):
            searcher.search(embeddings, 10)
    else:
        for place in range(100):
            searcher.search(embeddings[place : place + 1], 10, state["some"])

print(json.dumps(prepared()), flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    segment(line.strip())
    print(json.dumps(time.perf_counter() - began), flush=True)
"""


class Child:
    """A process with the code of one revision; `quality` is what its version achieved."""

    def __init__(self, folder: Path, code: dict[str, str]) -> None:
        folder.mkdir()
        command = [sys.executable, "-c", CHILD, str(folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | code)
        self.quality: dict[str, float] = json.loads(self._line())

    def seconds(self, segment: str) -> float:
        """Run a segment and return its seconds."""
        print(segment, file=self._process.stdin, flush=True)
        return float(json.loads(self._line()))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the process has no output")
        return self._process.stdout.readline()


def compare(revision: str, rounds: int) -> list[Row]:
    """Rows of the report."""
    rows = []
    with tempfile.TemporaryDirectory() as name, checkout(revision, Path(name) / "code") as there:
        children = {
            "ours": Child(Path(name) / "ours", environment_for(Path.cwd())),
            "peer": Child(Path(name) / "peer", environment_for(there)),
        }
        for segment, claim in SPEEDS.items():
            segments = {name: partial(child.seconds, segment) for name, child in children.items()}
            alternate(segments, 1)  # warms up
            found = medians(alternate(segments, rounds))
            bar = Bar("peer / ours", ">=", 1 - LOSS)
            rows.append(row(claim, "s", ours=found["ours"], peer=found["peer"], bar=bar))
        for quality, value in children["ours"].quality.items():
            rows.append(row(quality, "", ours=value, peer=children["peer"].quality[quality]))
        for child in children.values():
            child.close()
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", help="of this repository, such as a tag or a commit")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    report("revisions", compare(asked.revision, asked.rounds), f"The peer is {asked.revision}.")


if __name__ == "__main__":
    main()
