"""wrk as a load: requests made before the clock starts, and the quantiles of their latency."""

import json
import math
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.report import alternate

__all__ = ["Load", "alternated", "attempt", "wrk"]

T = TypeVar("T")
FAILURES = (RuntimeError, OSError, subprocess.SubprocessError)

_SCRIPT = """
local requests, i = {}, 0
init = function()
  for line in io.lines(os.getenv("BODIES")) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end
request = function()
  i = i % #requests + 1
  return requests[i]
end
done = function(summary, latency)
  local bad = 0
  for _, count in pairs(summary.errors) do bad = bad + count end
  io.write(string.format('FIGURES {"rate": %f, "p50": %f, "p99": %f, "p999": %f, "errors": %d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, bad))
end
"""


@dataclass(frozen=True)
class Load:
    """Requests per second, and quantiles of their latency in milliseconds."""

    rate: float
    p50: float
    p99: float
    p999: float


def wrk(url: str, bodies: Path, *, connections: int, seconds: float, cores: str) -> Load:
    """Post the bodies, one per line, from `connections` connections of one thread of wrk.

    Raises:
        RuntimeError: an answer was not a 200, or a connection broke.
    """
    script = bodies.with_suffix(".lua")
    script.write_text(_SCRIPT)
    command = ["taskset", "--cpu-list", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script)]
    environment = {**os.environ, "BODIES": str(bodies)}
    printed = subprocess.run([*command, url], env=environment, capture_output=True, text=True, check=True).stdout
    figures = json.loads(re.findall(r"FIGURES (\{.*\})", printed)[0])
    if figures.pop("errors"):
        raise RuntimeError(printed)
    return Load(**figures)


def attempt(name: str, call: Callable[[], T]) -> T | None:
    """The result of a peer's call; None if the peer fails, which is printed."""
    try:
        return call()
    except FAILURES as error:
        print(f"FAILED  {name}: {str(error).strip()[-300:]}")
        return None


def alternated(loads: Mapping[str, Callable[[], Load]], rounds: int) -> dict[str, Load]:
    """The median of each figure over alternating rounds, without the peers that failed.

    Raises:
        RuntimeError: the load "ours" failed.
    """
    found: dict[str, list[Load] | None] = {name: [] for name in loads}

    def step(name: str, load: Callable[[], Load]) -> float:
        kept = found[name]
        if kept is None:
            return math.nan
        one = load() if name == "ours" else attempt(name, load)
        if one is None:
            found[name] = None
            return math.nan
        kept.append(one)
        return one.rate

    alternate({name: partial(step, name, load) for name, load in loads.items()}, rounds)
    return {name: _median(each) for name, each in found.items() if each}


def _median(loads: list[Load]) -> Load:
    return Load(**{f.name: statistics.median(getattr(load, f.name) for load in loads) for f in fields(Load)})
