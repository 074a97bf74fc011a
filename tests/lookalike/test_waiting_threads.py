import os
import subprocess
import sys

import pytest

from tests.factories import ROOT

CHILD = "import os, sys, lookalike; assert 'torch' not in sys.modules; print(*map(os.environ.get, sys.argv[1:]))"
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "passive 3000 0"), ({"OMP_WAIT_POLICY": "active"}, "active None None")]
)
def test_openmp_threads_sleep_while_they_wait_unless_the_user_chose(chosen: dict[str, str], expected: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment = {**plain, "PYTHONPATH": str(ROOT / "src"), **chosen}
    done = subprocess.run([sys.executable, "-c", CHILD, *NAMES], env=environment, stdout=-1, text=True, check=True)
    assert done.stdout.strip() == expected
