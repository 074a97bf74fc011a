"""Run the command line in this process, through its real entry point."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.__main__ import main

__all__ = ["Done", "refused", "run", "save"]


@dataclass(frozen=True)
class Done:
    """The exit code of a command and what it printed."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Done:
    """Run `lookalike ARGUMENTS`."""
    out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["lookalike", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = argv
    return Done(code, out.getvalue(), err.getvalue())


def refused(done: Done, about: str) -> None:
    """Assert that a command reported a user error: one line that contains `about`, and exit code 2."""
    lines = [line for line in done.err.splitlines() if line.startswith("lookalike: ")]
    assert (done.code, done.out, len(lines)) == (2, "", 1), done.err
    assert about in lines[0]
    assert "Traceback" not in done.err


def save(path: Path, rows: NDArray[np.float32]) -> Path:
    np.save(path, rows)
    return path
