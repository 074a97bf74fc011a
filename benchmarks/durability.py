"""Nothing acknowledged is lost, and a verified version serves, whatever happens to the process or to the disk.

ours    how often an acknowledged change was lost, a change appeared that was never sent, no verified version served,
        an error was reported as a traceback, or the next attempt failed

A writer is killed at random moments, 500 times. Then each step that changes a store is interrupted at every system
call by which it writes, syncs, renames or removes: it is killed before the call, or the call reports a full disk
(ENOSPC) or a broken disk (EIO), once or from then on.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.failures import NotHeldError
from benchmarks.injected import CALLS, FAULTS, Fault, traced
from benchmarks.killed import killed
from benchmarks.report import Bar, report, row
from benchmarks.retrained import Retrained
from benchmarks.steps import KEPT, SHARED_BYTES, STEPS, TRACEBACK, Held, attempt, read_outcomes
from lookalike.index.ann.vectors import one_thread
from lookalike.training.progress import progress_bar

__all__ = ["interrupt", "main", "report_results"]

KILLS = 500
MOST = 40
"""If a step makes a call more often, it is interrupted at this many of the calls, evenly spaced."""
MOST_OF_LONG = 3
"""The same for a retraining, which takes seconds."""


def interrupt(name: str, folder: Path, kinds: list[str], most: int = MOST) -> tuple[Counter[str], list[str]]:
    """Interrupt a step by each fault.

    Returns:
        The number of faults by kind and call, and the faults after which a requirement did not hold.
    """
    held = Retrained(folder / "made") if name == "resumed retrain" else Held(name, folder / "made")
    most = min(most, MOST_OF_LONG) if isinstance(held, Retrained) else most
    shared = folder / "outcomes"
    done: Counter[str] = Counter()
    wrong: list[str] = []
    target = held.copy(folder / "store")
    shared.write_bytes(b"\0" * SHARED_BYTES)
    counts = traced(attempt, name, target, shared).calls
    held.check(target, read_outcomes(shared), killed=False)
    faults = list(_faults(counts, kinds, most))
    with progress_bar(name, len(faults), "faults") as advance:
        for fault in faults:
            came = True
            try:
                came = _attempt(held, fault, held.copy(folder / "store"), shared, name)
            except Exception as error:
                wrong.append(f"{name}, {fault.kind} at {fault.call} {fault.number}: {error!r}; {read_outcomes(shared)}")
                print(wrong[-1], file=sys.stderr)
            done[f"{fault.kind}, {fault.call}" if came else "did not come"] += 1
            advance(1, f"{fault.kind}, {fault.call} {fault.number}")
    return done, wrong


def _attempt(held: Held | Retrained, fault: Fault, store: Path, shared: Path, name: str) -> bool:
    """Make one attempt; returns whether the fault happened: a step does not always make a call equally often."""
    shared.write_bytes(b"\0" * SHARED_BYTES)
    process, outcomes = traced(attempt, name, store, shared, fault=fault), read_outcomes(shared)
    if any(outcome.startswith(TRACEBACK) for outcome in outcomes):
        raise NotHeldError("a traceback")
    done = held.check(store, outcomes, killed=process.killed)
    passes = fault.kind.endswith(("once", "times")) and isinstance(held, Held)  # strace counts per thread
    if passes and not (outcomes[-1] == "done" or KEPT in outcomes[-1]):
        raise NotHeldError("the next try in the same process failed")
    held.again(store, done=done)
    return process.came


def _faults(counts: Counter[str], kinds: list[str], most: int) -> Iterator[Fault]:
    for kind in kinds:
        for call in CALLS:
            if kind.startswith("ENOSPC") and call in ("unlink", "unlinkat", "rmdir"):  # these calls need no space
                continue
            numbers = range(1, counts[call] + 1)
            for number in numbers[:: -(-len(numbers) // most) or 1]:
                yield Fault(kind, call, number)


def main() -> None:
    """Interrupt every step; `report` prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--kinds", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seen: Counter[str] = Counter()
    faults: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    with one_thread():
        if options.kills:
            seen, wrong = killed(options.kills, options.seed)
        for name in options.steps:
            with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
                faults[name], bad = interrupt(name, Path(folder), options.kinds)
            wrong += bad
    report_results(seen, faults, wrong)


def report_results(seen: Counter[str], faults: dict[str, Counter[str]], wrong: list[str]) -> None:
    """Print and write the results of the random kills, and of each step's faults."""
    rows = [row(f"random kills: {name}", "times", ours=times) for name, times in seen.items()]
    for name, done in faults.items():
        rows += [row(f"{name}: {fault}", "times", ours=times) for fault, times in sorted(done.items())]
    rows.append(row("faults in all", "times", ours=sum(done.total() for done in faults.values())))
    rows.append(row("something did not hold", "times", ours=len(wrong), bar=Bar("ours", "<=", 0)))
    report("durability", rows, "\n".join(wrong))


if __name__ == "__main__":
    main()
