"""Does the service keep the contract of its OpenAPI description? schemathesis sends 20,000 cases, with all its checks.

ours    `lookalike serve` with a key, over HTTP, described by the /openapi.json that it serves itself: data that matches
        the description and data that does not, every method on every path, with the key, without, and with a wrong one

An answer breaks the contract if its status, content type, headers or body are not as described, if it is a 500, if data
that breaks the description is accepted, or if a call without the key is answered. A body that matches the description
may still be wrong (a row must have as many values as the encoder needs), so 404, 413 and 422 are valid answers to it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_process import free_port, lookalike, running_server, wait_until_ready
from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

__all__ = ["main"]

CASES = 20_000
MOST_EXAMPLES = 1_000
OPERATIONS = 10
"""The operations for which schemathesis can generate new cases without end."""
ROOT = Path(__file__).parent.parent
KEY = "a-key-for-this-run-alone"
_CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 413, 415, 422]
"""


def tiny_store(folder: Path) -> Store:
    """Make a promoted version of `digits`."""
    rows = open_rows("digits")
    train(rows, load_config(overrides=["fit.epochs=3", "model.hidden=[32]", "model.latent_dim=8"]), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store, target=Target(key="Flat"), device="cpu"))
    return store


def ask_all(port: int, folder: Path, examples: int, seed: int) -> tuple[dict[str, Any], Counter[str]]:
    """Run schemathesis once; returns its report, and how often each call was answered with each status."""
    report_file, events, config = folder / f"report-{seed}", folder / f"events-{seed}", folder / "schemathesis.toml"
    config.write_text(_CONFIG)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"http://127.0.0.1:{port}/openapi.json", "--checks", "all", "--mode", "all"),
        *("--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-shrink"),
        *("--suppress-health-check", "all", "--header", f"X-API-Key: {KEY}", "--output-sanitize", "false"),
        *("--report", "json,ndjson", "--report-json-path", str(report_file), "--report-ndjson-path", str(events)),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "benchmarks.contract_hooks"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if not report_file.is_file():
        raise RuntimeError(done.stdout[-3_000:] + done.stderr[-3_000:])
    found: dict[str, Any] = json.loads(report_file.read_bytes())
    if found["failures"] or found["errors"]:
        print(done.stdout[-20_000:])
    return found, statuses(events)


def statuses(events: Path) -> Counter[str]:
    """How often each call was answered with each status."""
    found: Counter[str] = Counter()
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
            for one in recorder.get("interactions", {}).values():
                found[f"{recorder['label']} {(one.get('response') or {}).get('status_code')}"] += 1
    return found


def keep_asking(port: int, folder: Path, cases: int) -> tuple[list[Row], str]:
    """Run schemathesis until there are enough cases; returns the rows of the report, and the statuses."""
    count, broken, errors, seen, seed = 0, 0, 0, Counter[str](), 0
    while count < cases:
        seed += 1
        examples = max(10, min(MOST_EXAMPLES, (cases - count) // OPERATIONS))
        found, each = ask_all(port, folder, examples, seed)
        count += found["test_cases"]["generated"]
        broken += found["test_cases"]["with_failures"]
        errors += len(found["errors"])
        seen += each
    fine = {
        path: sum(number for name, number in seen.items() if name.split()[1].startswith(path) and name.endswith(" 200"))
        for path in ("/embed", "/search", "/items")
    }
    failed = sum(number for name, number in seen.items() if name.endswith(" 500"))
    none = Bar("ours", "<=", 0)
    rows = [
        row("cases", "", ours=count),
        row("embeddings and searches that were answered with 200", "cases", ours=fine["/embed"] + fine["/search"]),
        row("calls of items that were answered with 200", "cases", ours=fine["/items"]),
        row("answers of 500", "cases", ours=failed, bar=none),
        row("answers that break the description", "cases", ours=broken, bar=none),
        row("errors of schemathesis itself", "", ours=errors, bar=none),
    ]
    return rows, ", ".join(f"{number} x {name}" for name, number in sorted(seen.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="a store with a promoted version of digits with 8 latent dimensions")
    parser.add_argument("--cases", type=int, default=CASES)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        store = Store(options.store) if options.store else tiny_store(Path(name))
        cores = sorted(os.sched_getaffinity(0))
        with running_server(
            lookalike(store, port), cores, LOOKALIKE_API_KEY=KEY, LOOKALIKE_LOG_LEVEL="error"
        ) as process:
            wait_until_ready(port, process)
            report("contract", *keep_asking(port, Path(name), options.cases))


if __name__ == "__main__":
    main()
