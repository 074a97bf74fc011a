"""Is /search as fast as in a given revision? `python -m benchmarks.regression REVISION`, with `git` and `wrk`.

peer    the same benchmark's server in that revision, with a store that its own code trained and built

Both are served on one core and have work in turns; one thread of `wrk` has the other core. Each round measures
both in turn, so that other load on the machine slows both equally.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.report import Bar, Row, report, row
from benchmarks.service import CONNECTIONS, LIMIT, Trial, check, prepare
from benchmarks.service_load import alternated
from benchmarks.service_process import ask, free_port, lookalike, running_server, store_of, two_cores
from lookalike.index.versions.store import Store

__all__ = ["main"]

SECONDS = 2
ROUNDS = 15
LOSS = 0.03
"""The share of the peer's rate that may be lost."""
_BUILD = "import sys; from pathlib import Path; from benchmarks.service_process import store_of; "
_BUILD += "store_of(None, Path(sys.argv[1]))"


@contextlib.contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A folder with the repository's files at a revision."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def environment_for(folder: Path) -> dict[str, str]:
    """The environment variables with which Python runs the code of a folder instead of this code."""
    return {"PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}", "PYTHONSAFEPATH": "1"}


def compare(trial: Trial, before: Store, code: dict[str, str]) -> list[Row]:
    """Rows of the report, at each number of connections."""
    server_core, client_core = two_cores()
    ports, rows = {"ours": free_port(), "before": free_port()}, list[Row]()
    with (
        running_server(lookalike(trial.store, ports["ours"]), [server_core]),
        running_server(lookalike(before, ports["before"]), [server_core], **code),
    ):
        check("ours", ports["ours"], trial)
        if len(ask(ports["before"], trial.lines()[0])["results"][0]["hits"]) != LIMIT:
            raise RuntimeError("the other revision returns a different answer")
        for connections in CONNECTIONS:
            loads = {name: partial(trial.load, port, connections, str(client_core)) for name, port in ports.items()}
            found = alternated(loads, trial.rounds)
            claim = f"POST /search, {connections} connection{'s' * (connections > 1)}"
            ours, theirs = found["ours"], found["before"]
            bar = Bar("ours / peer", ">=", 1 - LOSS)
            rows.append(row(claim, "requests/s", ours=ours.rate, peer=theirs.rate, bar=bar))
            rows.append(row(f"{claim}: p50", "ms", ours=ours.p50, peer=theirs.p50))
            rows.append(row(f"{claim}: p99", "ms", ours=ours.p99, peer=theirs.p99))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", help="a revision of this repository, such as a tag or a commit")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="the duration of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with checkout(options.revision, folder / "code") as there:
            code = environment_for(there)
            (folder / "before").mkdir()
            build = [sys.executable, "-c", _BUILD, str(folder / "before")]
            subprocess.run(build, env=os.environ | code, check=True)
            trial = prepare(store_of(None, folder), folder, options.seconds, options.rounds)
            rows = compare(trial, Store(folder / "before" / "store"), code)
    report("regression", rows, f"The peer is {options.revision}.")


if __name__ == "__main__":
    main()
