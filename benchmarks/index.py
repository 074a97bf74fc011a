"""Is the tuned index the fastest there is, and what is the whole chain worth against raw pixels?

ours    `index.ann.tune` over the embeddings of Fashion-MNIST's 60,000 training images without 6,000, of which 1,000
        are its queries; then the 6,000 are added. Searched through `VectorIndex.search`, with its checks
peer    the fastest of hnswlib, usearch, voyager, ScaNN and scalable-vs (benchmarks.peers), each at the best of its
        sweep over the same queries that are used here: the 10,000 test images
floor   comparison with all items, by FAISS

All with one thread, at recall@10 of at least 0.95 and of at least 0.99. The second half compares the whole chain, the
encoder and the tuned index at 0.95, with hnswlib on the raw pixels, by the labels of the hits.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import FLOORS, Candidate, Pixels, batch_rate, best, raw_pixels, single_us
from benchmarks.report import Bar, Row, alternate, medians, report, row
from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import recalls
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import tune
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.versions.embed import embed
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import evenly, open_rows, read_sample

__all__ = ["main"]

K = 10
ROUNDS = 9
HELD, TUNED_WITH = 6_000, 1_000
"""Items that are added last, and the number of them that tune the index."""
ALONE = 1_000
"""Queries that are sent one at a time."""

Vectors = NDArray[np.float32]


def tuned(items: Vectors, recall: float) -> VectorIndex:
    """The index over all items, (n, dim), tuned with the last of them, which are added at the end."""
    kept, out = items[:-HELD], items[-HELD:]
    found = tune(Embeddings(kept, "cosine"), out[evenly(len(out), TUNED_WITH)], Target(recall))
    print(
        f"asked for {recall}: {found.index.spec.key} {found.index.spec.search}; {found.told(Target(recall))['reason']}"
    )
    found.index.add(out)
    return found.index


def as_candidate(index: VectorIndex) -> Candidate:
    """Our index as a candidate that is timed like the peers."""
    return Candidate(
        "ours",
        f"{index.spec.key} {index.spec.search}",
        index.bytes,
        lambda: None,
        lambda queries, k: index.search(queries, k)[1],
        lambda query, k: index.search(query[None, :], k)[1],
    )


def against_peers(items: Vectors, queries: Vectors) -> list[Row]:
    """Two rows per floor: all queries at once, and one query at a time."""
    exact = VectorIndex(IndexSpec("Flat", "cosine"), items.shape[1])
    exact.add(items)
    truth = exact.search(queries, K)[1]
    others = best(items, queries, truth)
    faiss.omp_set_num_threads(1)
    rows = []
    for floor in FLOORS:
        ours = as_candidate(tuned(items, floor))
        found = float(recalls(ours.search(queries, K), truth).mean())
        fastest = {name: one for (name, at), one in others.items() if at == floor}
        for way, measure, unit in (("batch", batch_rate, "queries/s"), ("single", single_us, "µs")):
            each = {name: getattr(one, way).candidate for name, one in fastest.items()} | {"ours": ours}
            each["exact"] = as_candidate(exact)
            asked = queries if way == "batch" else queries[:ALONE]
            taken = medians(alternate({n: partial(measure, c, asked) for n, c in each.items()}, ROUNDS))
            own, slowest = taken.pop("ours"), taken.pop("exact")
            name = (max if way == "batch" else min)(taken, key=lambda peer: taken[peer])
            for peer, value in taken.items():
                one = getattr(fastest[peer], way)
                print(f"{floor} {way} {peer}: {value:,.1f} {unit}, recall {one.recall:.4f}, {one.candidate.settings}")
            bar = Bar("ours / peer", ">=", 1.3) if way == "batch" else Bar("peer / ours", ">=", 1.0)
            claim = f"{floor}, {way}: ours {ours.settings} ({found:.4f}); peer {name}"
            rows.append(row(claim, unit, ours=own, peer=taken[name], floor=slowest, bar=bar))
    return rows


def whole_promise(
    encoder: Encoder, index: VectorIndex, parts: tuple[Vectors, list[object], Vectors, list[object]]
) -> list[Row]:
    """The chain against hnswlib on raw pixels: precision, speed with and without encoding, bytes."""
    items, item_labels, queries, query_labels = parts
    known, wanted = np.array(item_labels), np.array(query_labels)
    pixels: Pixels = raw_pixels(items, known, queries, wanted)
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    asked, raw = embed(encoder, queries, "cosine"), pixels.measured.candidate
    precision = float((known[index.search(asked, K)[1]] == wanted[:, None]).mean())
    without = as_candidate(index)
    chain = Candidate(
        "chain",
        without.settings,
        without.bytes,
        lambda: None,
        lambda rows, k: index.search(embed(encoder, rows, "cosine"), k)[1],
        lambda one, k: index.search(embed(encoder, one[None, :], "cosine"), k)[1],
    )
    taken = medians(
        alternate(
            {
                "raw": lambda: batch_rate(raw, queries),
                "without": lambda: batch_rate(without, asked),
                "with": lambda: batch_rate(chain, queries),
                "raw alone": lambda: single_us(raw, queries[:ALONE]),
                "without alone": lambda: single_us(without, asked[:ALONE]),
                "with alone": lambda: single_us(chain, queries[:ALONE]),
            },
            ROUNDS,
        )
    )
    each = index.bytes / len(index)
    alone, both = taken["without alone"], taken["with alone"]
    return [
        row("label precision@10", "", ours=precision, peer=pixels.label_precision, bar=Bar("ours / peer", ">=", 1)),
        row("search", "queries/s", ours=taken["without"], peer=taken["raw"], bar=Bar("ours / peer", ">=", 8)),
        row("encoding and search", "queries/s", ours=taken["with"], peer=taken["raw"], bar=Bar("ours / peer", ">=", 3)),
        row("search, alone", "µs", ours=alone, peer=taken["raw alone"], bar=Bar("peer / ours", ">=", 8)),
        row("encoding and search, alone", "µs", ours=both, peer=taken["raw alone"], bar=Bar("peer / ours", ">=", 3)),
        row("bytes an item", "bytes", ours=each, peer=4.0 * items.shape[1], bar=Bar("peer / ours", ">=", 24)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run on fashion-mnist [default: a new run]")
    run: Path | None = parser.parse_args().run
    items, labels = read_sample(rows := open_rows("fashion-mnist"), rows.count, seed=0)
    queries, query_labels = read_sample(test := open_rows("fashion-mnist:test"), test.count, seed=0)
    with tempfile.TemporaryDirectory() as name:
        if run is None:
            train(rows, load_config(), run := Path(name) / "run")
        encoder = load_encoder(run / "encoder")
    last = np.isin(np.arange(len(items)), evenly(len(items), HELD))
    order = np.argsort(last, kind="stable")  # held-out items are added last
    items, labels = items[order], [labels[i] for i in order]
    vectors = embed(encoder, items, "cosine")
    compared = against_peers(vectors, embed(encoder, queries, "cosine"))
    report(
        "index", compared + whole_promise(encoder, tuned(vectors, FLOORS[0]), (items, labels, queries, query_labels))
    )


if __name__ == "__main__":
    main()
