import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lookalike.index.versions.store import Store
from tests.factories import blobs
from tests.lookalike.helpers import run, save

COMMAND = [sys.executable, "-m", "lookalike"]


def test_the_installed_command_equals_the_module() -> None:
    script = Path(sys.executable).with_name("lookalike")
    texts = [
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
        for command in (COMMAND, [str(script)])
    ]
    first, second = (re.sub("^Usage: .*? \\[", "Usage: [", text) for text in texts)
    assert first == second


def test_shows_the_help_without_a_command() -> None:
    assert "Commands:" in run().out + run().err


def test_names_a_file_that_cannot_be_written_without_a_traceback(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (["versions", "--store", tmp_path / "file"], ["build", "digits", "--encoder", tmp_path / "file"]):
        done = run(*arguments, *(["--store", tiny_store.folder] if arguments[0] == "build" else []))
        assert (done.code, done.out) == (2, "")
        assert str(tmp_path / "file") in done.err.splitlines()[-1]
        assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["folder", "link", "pipe"])
def test_embed_replaces_only_a_plain_file(tiny_store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    done = run("embed", "digits:test", "--store", tiny_store.folder, "--out", tmp_path / name)
    assert done.code == 2
    assert "a regular file to replace" in done.err
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_embed_leaves_no_files(tiny_store: Store, tmp_path: Path, number: int) -> None:
    """Embeds many rows, so that there is time to interrupt the command."""
    rows = save(tmp_path / "rows.npy", blobs(800_000, 64))
    (tmp_path / "out").mkdir()
    embed = ["embed", str(rows), "--store", str(tiny_store.folder), "--out", str(tmp_path / "out" / "E.npy")]
    with subprocess.Popen([*COMMAND, *embed], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as popen:
        while popen.poll() is None and not _bytes_written(tmp_path / "out"):  # after all imports
            time.sleep(0.001)
        popen.send_signal(number)
        _, errors = popen.communicate(timeout=60)
    assert popen.returncode == 130
    assert ("lookalike: SIGTERM: the work ends\n" in errors) is (number == signal.SIGTERM)
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def _bytes_written(folder: Path) -> int:
    """The bytes of embeddings that were written so far."""
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))
