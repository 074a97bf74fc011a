"""The examples in docs/examples are valid for systemd, sh and Kubernetes, and call existing commands."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lookalike.cli.retraining import BUSY, FAILED, KEPT, USER_ERROR
from tests.factories import ROOT
from tests.lookalike.helpers import run

DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((EXAMPLES / name).read_text(encoding="utf-8"))
    return parser


def cron_job() -> Any:
    return yaml.safe_load((EXAMPLES / "retrain-cronjob.yml").read_text(encoding="utf-8"))


def check_command(words: list[str]) -> None:
    """Check that the options are those of `lookalike retrain`."""
    assert words[0].rpartition("/")[2] == "lookalike"
    assert words[1] == "retrain"
    help_text = run("retrain", "--help").out
    assert [word for word in words if word.startswith("--") and word not in help_text] == []


def test_the_systemd_service_runs_retrain_and_accepts_its_exit_codes() -> None:
    service = unit("lookalike-retrain.service")["Service"]
    words = shlex.split(service["ExecStart"])
    check_command(words)
    assert service["ReadWritePaths"] == words[words.index("--store") + 1]
    assert service["SuccessExitStatus"].split() == [str(KEPT), str(BUSY)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_both_units(tmp_path: Path) -> None:
    for name in ("lookalike-retrain.service", "lookalike-retrain.timer"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        text = text.replace("/opt/lookalike/bin/lookalike", "/bin/true").replace("User=lookalike", "User=root")
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "lookalike" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_cron_job_runs_retrain_one_at_a_time(tmp_path: Path) -> None:
    job = cron_job()
    assert (job["apiVersion"], job["kind"], job["spec"]["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (rule,) = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [FAILED, USER_ERROR]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (script,) = container["args"]
    check_command(shlex.split(script.splitlines()[0]))
    for code, wanted in {0: 0, KEPT: 0, FAILED: FAILED, USER_ERROR: USER_ERROR, BUSY: BUSY}.items():
        stub = tmp_path / "lookalike"
        stub.write_text(f"#!/bin/sh\nexit {code}\n")
        stub.chmod(0o755)
        done = subprocess.run([*container["command"], script], env={"PATH": str(tmp_path)}, check=False)
        assert done.returncode == wanted


def test_the_guide_names_the_real_exit_codes_and_commands() -> None:
    guide = (DOCS / "retraining.md").read_text(encoding="utf-8")
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", guide, re.MULTILINE)]
    assert codes == [0, KEPT, FAILED, USER_ERROR, BUSY, 130]
    for line in re.findall(r"^lookalike (.*?)(?:#.*)?$", guide, re.MULTILINE):
        words = line.split()
        help_text = run(words[0], "--help")
        assert help_text.code == 0
        assert [word for word in words if word.startswith("--") and word not in help_text.out] == []
    for target in re.findall(r"\]\(([^)#]+)\)", guide):
        assert (DOCS / target).exists()
