"""Random histories of a collection, each operation held against a plain dictionary with exact search.

ours    operations after which ids, scores, order, filters, counts or payloads were others than the dictionary's

Upserts, replacements, deletions, batches; searches by vector, with a filter and by id; compactions, versions by other
encoders, promotes, rollbacks; and crashes, after which all that is left is what is on disk. Several collections follow
one log, as workers do, each as far behind as it happens to be and on a version of its own; in every fourth history
another process writes too. `--seed N` runs the history of that seed alone (what another process does in between is not
in the seed).
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from benchmarks.history import History, MismatchError
from benchmarks.report import Bar, report, row
from lookalike.index.ann.vectors import one_thread
from lookalike.training.progress import progress_bar

__all__ = ["in_memory", "main", "run", "told"]

OPERATIONS, EACH = 200_000, 2_000
BESIDE = 4
"""Every so many-th history has another process that writes."""


def run(seed: int, operations: int = EACH) -> Counter[str]:
    """One history; how many there were of each operation.

    Raises:
        MismatchError: an answer was wrong.
    """
    torch.set_num_threads(1)  # threads that wait for one another take longer than what there is to do
    with one_thread(), tempfile.TemporaryDirectory(prefix="lookalike-", dir=in_memory()) as folder:
        history = History(Path(folder), seed, others=seed % BESIDE == BESIDE - 1)
        try:
            for _ in range(operations):
                history.step()
            history.settle()
        finally:
            history.close()
    return history.done


def in_memory() -> str | None:
    """A folder in memory, if there is one: no machine loses its power here, so no call has to wait for a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main() -> None:
    """Run them; `report` prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--first", type=int, default=0, help="the first history's seed")
    parser.add_argument("--seed", type=int, help="this history alone")
    given = parser.parse_args()
    count = -(-given.operations // EACH)
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + count))
    done: Counter[str] = Counter()
    wrong: list[int] = []
    with progress_bar("histories", len(seeds), "histories") as advance:
        for seed in seeds:
            try:
                done += run(seed)
            except MismatchError as error:
                wrong.append(seed)
                print(f"seed {seed}: {error}", file=sys.stderr)
            advance(1, f"seed {seed}")
    told(done, wrong, seeds)


def told(done: Counter[str], wrong: list[int], seeds: list[int]) -> None:
    """Print and write what came of the histories of these seeds."""
    rows = [row("operations checked", "operations", ours=done.total())]
    rows += [row(f"of them {name}", "operations", ours=times) for name, times in sorted(done.items())]
    rows.append(row("histories with a wrong answer", "histories", ours=len(wrong), bar=Bar("ours", "<=", 0)))
    report("histories", rows, f"seeds {seeds[0]} to {seeds[-1]}; wrong: {wrong or 'none'}")


if __name__ == "__main__":
    main()
