"""How much CPU time does an epoch take beside another busy process, and what does it cost that waiting threads sleep?

ours      one epoch of Fashion-MNIST with two threads, with the settings of the package: OpenMP threads soon sleep
spinning  the same with OpenMP's default settings: threads spin while they wait

Each is measured alone, and beside one busy process for each core. CPU time is user and system time of the process. Run
it on a quiet machine.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.report import Bar, alternate, medians, report, row

__all__ = ["main"]

ROUNDS = 3
SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""GNU OpenMP's value if no variable is set. If a variable is set, the package sets none."""
EPOCH = """
import json, os, time
import lookalike
import torch
from lookalike.training.config import load_config
from lookalike.training.fit.epoch_batches import EpochBatches
from lookalike.training.fit.fitting import prepare
from lookalike.training.fit.loop import train_epoch
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.rows import open_rows

torch.set_num_threads(2)
config = load_config()
rows = open_rows("fashion-mnist", config.data)
fitting = prepare(rows, split_rows(rows, config, shown=False), config)
pillars = fitting.model, fitting.loss, fitting.optimizer, fitting.data

def epoch():
    batches = EpochBatches(fitting.data, fitting.plan, State(), torch.device("cpu"))
    train_epoch(*pillars, plan=fitting.plan, epoch=batches, on_step=lambda value: None)

before, started = os.times(), time.perf_counter()
epoch()
after, seconds = os.times(), time.perf_counter() - started
print(json.dumps({"seconds": seconds, "cpu": after.user + after.system - before.user - before.system}))
"""


def epoch(environment: dict[str, str], figure: str, *, busy: bool) -> float:
    """Seconds, or seconds of CPU time, of an epoch in a new process."""
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    plain = {name: value for name, value in os.environ.items() if name not in names}
    with busy_cores(busy):
        done = subprocess.run([sys.executable, "-c", EPOCH], env=plain | environment, stdout=-1, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures[figure]


@contextmanager
def busy_cores(busy: bool) -> Iterator[None]:
    """Run an endless loop for each core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0) if busy]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--spins", nargs="*", default=[], help="further values of GOMP_SPINCOUNT to compare")
    options = parser.parse_args()
    variants = {"ours": {}, "spinning": SPINNING, **{spins: {"GOMP_SPINCOUNT": spins} for spins in options.spins}}
    busy = {name: partial(epoch, chosen, "cpu", busy=True) for name, chosen in variants.items()}
    alone = {name: partial(epoch, chosen, "seconds", busy=False) for name, chosen in variants.items()}
    used = medians(alternate({**busy, "alone": partial(epoch, {}, "cpu", busy=False)}, options.rounds))
    took = medians(alternate(alone, options.rounds))
    beside, bar = "an epoch beside busy processes, CPU time", Bar("ours / floor", "<=", 2.2)
    rows = [
        row(beside, "s", ours=used["ours"], floor=used["alone"], bar=bar),
        row(f"{beside}, threads that spin", "s", ours=used["spinning"], floor=used["alone"]),
        row("an epoch alone", "s", ours=took["ours"], peer=took["spinning"]),
    ]
    for spins in options.spins:
        rows.append(row(f"{beside}, {spins} spins", "s", ours=used[spins], floor=used["alone"], bar=bar))
        rows.append(row(f"an epoch alone, {spins} spins", "s", ours=took[spins], peer=took["spinning"]))
    report("waiting", rows, "floor: the same epoch alone; peer: threads that spin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
