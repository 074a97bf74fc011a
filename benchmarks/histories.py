"""Random histories of a collection; each operation is compared with a plain dictionary with exact search.

ours    operations after which ids, scores, order, filters, counts or payloads differed from the dictionary's

Upserts, replacements, deletions, batches; searches by vector, with a filter and by id; compactions, versions of other
encoders, promotions, rollbacks; and crashes, after which only the contents of the disk are left. Several collections
follow one log, as workers do, each at its own position and on its own version; in every fourth history a second process
writes too. `--seed N` runs the history of that seed alone (the seed does not determine what the second process does).
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

__all__ = ["in_memory", "main", "report_results", "run"]

OPERATIONS, EACH = 200_000, 2_000
BESIDE = 4
"""Every n-th history has a second process that writes."""


def run(seed: int, operations: int = EACH) -> Counter[str]:
    """Run one history; returns how often each operation ran.

    Raises:
        MismatchError: an answer was wrong.
    """
    torch.set_num_threads(1)  # threads that wait for each other take longer than the work itself
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
    """A folder in memory, if there is one: no machine loses power here, so no call has to wait for a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main() -> None:
    """Run the histories; `report` prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first history")
    parser.add_argument("--seed", type=int, help="the seed of a single history")
    options = parser.parse_args()
    count = -(-options.operations // EACH)
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + count))
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
    report_results(done, wrong, seeds)


def report_results(done: Counter[str], wrong: list[int], seeds: list[int]) -> None:
    """Print and write the results of the histories of these seeds."""
    rows = [row("operations checked", "operations", ours=done.total())]
    rows += [row(f"of them {name}", "operations", ours=times) for name, times in sorted(done.items())]
    rows.append(row("histories with a wrong answer", "histories", ours=len(wrong), bar=Bar("ours", "<=", 0)))
    report("histories", rows, f"seeds {seeds[0]} to {seeds[-1]}; wrong: {wrong or 'none'}")


if __name__ == "__main__":
    main()
