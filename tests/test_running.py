"""How the suite runs: the signals that its child processes ignore, and the tests that it reports as slow."""

import subprocess
import sys
from pathlib import Path

from tests.factories import ROOT

CHILD = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
IN_BACKGROUND = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import tests.conftest
subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""
TESTS = """
import pytest

def test_without_a_mark():
    pass

@pytest.mark.slow
def test_with_a_mark():
    pass
"""
ALL_ARE_SLOW = """
import sys, pytest, tests.conftest
tests.conftest.SLOW_SECONDS = -1.0
sys.exit(pytest.main(["--assert=plain", "-c", "pyproject.toml", "-p", "tests.conftest", *sys.argv[1:]]))
"""


def printed(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_child_processes_of_a_background_suite_get_ctrl_c() -> None:
    assert printed(IN_BACKGROUND) == "True\n"


def test_the_summary_names_slow_tests_without_the_mark(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)
    named = [line for line in printed(ALL_ARE_SLOW, file).splitlines() if line.endswith("is not marked slow")]
    assert [line.partition(" took ")[0].rpartition("::")[2] for line in named] == ["test_without_a_mark"]
