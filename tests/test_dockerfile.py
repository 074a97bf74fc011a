"""The Dockerfile without a Docker engine: its steps run in a temporary folder instead of `/`.

Steps that only an image's root may run (`useradd`, `chown`) are recorded instead.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lookalike.index.versions.store import Store
from tests.factories import ROOT

UID = 10_001
KEY = "a key for this test"
PORT = "8000"
IGNORED = shutil.ignore_patterns("__pycache__")

Step = tuple[str, str]


def parse(text: str) -> list[Step]:
    """The instruction and argument of every step, without comments, with continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    steps = re.sub(r"\\\n\s*", "", lines).splitlines()
    return [(word, rest.strip()) for word, _, rest in (step.partition(" ") for step in steps if step.strip())]


def only(steps: list[Step], word: str) -> str:
    (found,) = [rest for name, rest in steps if name == word]
    return found


STEPS = parse((ROOT / "Dockerfile").read_text(encoding="utf-8"))
LAST_STAGE = STEPS[max(i for i, (word, _) in enumerate(STEPS) if word == "FROM") :]
HEALTH = json.loads(only(LAST_STAGE, "HEALTHCHECK").partition("CMD ")[2])
COMMAND = json.loads(only(LAST_STAGE, "ENTRYPOINT")) + json.loads(only(LAST_STAGE, "CMD"))


def test_two_stages_from_one_pinned_base() -> None:
    bases = [rest.split()[0] for word, rest in STEPS if word == "FROM"]
    assert len(bases) == 2
    assert bases[0] == bases[1], "the environment is copied with its path, so Python must be the same"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])
    assert [rest for word, rest in LAST_STAGE if word == "RUN" and "pip" in rest] == []


def test_runs_as_a_user_who_is_not_root() -> None:
    assert only(LAST_STAGE, "USER") == str(UID)
    last_root_step = max(i for i, (word, _) in enumerate(LAST_STAGE) if word == "RUN")
    assert LAST_STAGE.index(("USER", str(UID))) > last_root_step


def test_one_port_and_one_volume() -> None:
    assert only(LAST_STAGE, "EXPOSE") == PORT
    assert only(LAST_STAGE, "VOLUME") == "/store"
    assert COMMAND == ["lookalike", "serve", "--store", "/store", "--host", "0.0.0.0", "--port", PORT]
    assert f"127.0.0.1:{PORT}/readyz" in HEALTH[-1]


def test_the_build_context_contains_only_what_the_build_copies() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [path for word, rest in STEPS if word == "COPY" and "--from" not in rest for path in rest.split()[:-1]]
    assert "*" in ignore
    assert sorted(line[1:] for line in ignore if line.startswith("!")) == sorted(copied)
    assert [path for path in copied if not (ROOT / path).exists()] == []


@dataclass
class Image:
    """The result of the steps: a folder for `/`, and the settings with which a container would start."""

    root: Path
    folder: Path = Path("/")
    env: dict[str, str] = field(default_factory=dict)
    noted: str = ""

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def moved(self, text: str) -> str:
        """A path of the image as a path under `root`."""
        return re.sub(r"(?<![\w./])/(opt/lookalike|home/lookalike|store|src)\b", rf"{self.root}/\1", text)

    def build(self) -> None:
        self.at("shims").mkdir()
        for name, does in SHIMS.items():
            shim = self.at("shims") / name
            shim.write_text(f"#!/bin/sh\n{does.format(log=self.at('noted'))}\n")
            shim.chmod(0o755)
        self.env = {**os.environ, "PATH": f"{self.at('shims')}:/usr/bin:/bin"}
        for word, rest in STEPS:
            getattr(self, f"do_{word.lower()}", lambda rest: None)(rest)
        self.noted = self.at("noted").read_text()

    def do_from(self, rest: str) -> None:
        self.folder = self.root

    def do_arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.env.setdefault(name, default.strip('"'))

    def do_env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.env[name] = self.moved(value.replace("$PATH", self.env["PATH"]))

    def do_workdir(self, rest: str) -> None:
        self.folder = self.at(rest)
        self.folder.mkdir(parents=True, exist_ok=True)

    def do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        if sources[0] == "--from=build":
            assert sources[1:] == [target], "both stages share one root here, as an environment must keep its path"
            return
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.folder / target, symlinks=True, ignore=IGNORED)
            else:
                shutil.copy(ROOT / source, self.folder / target)

    def do_run(self, rest: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", self.moved(rest)], cwd=self.folder, env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]


def find_python() -> tuple[str, dict[str, Any]]:
    """A Python like the base image's, and the user to run as: the image's user, if permitted and able to run it."""
    as_user: dict[str, Any] = {"user": UID, "group": UID, "extra_groups": ()} if os.geteuid() == 0 else {}
    version = "python{}.{}".format(*sys.version_info)
    for path in filter(None, [sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")]):
        with contextlib.suppress(PermissionError):
            subprocess.run([path, "-c", ""], check=True, cwd="/", **as_user)
            return path, as_user
    return sys.executable, {}


PYTHON, AS_USER = find_python()
SHIMS = {
    "python": f'exec {PYTHON} "$@"',
    "pip": f'exec {sys.executable} -m pip "$@"',
    "useradd": 'echo "useradd $*" >> {log}',
    "chown": 'echo "chown $*" >> {log}',
}


@pytest.fixture(scope="module")
def image(tiny_store: Store) -> Iterator[Image]:
    """The image, built once, with a store in its volume; other users may enter its folder, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="lookalike-image-") as folder:
        Path(folder).chmod(0o755)
        built = Image(Path(folder))
        built.build()
        shutil.copytree(tiny_store.folder, built.at("store"), dirs_exist_ok=True)
        if AS_USER:
            for path in built.at("store").rglob("*"):
                os.chown(path, UID, UID)
        yield built


@dataclass(frozen=True)
class Container:
    """Runs the image's commands with a free port instead of the image's, and as its user if permitted."""

    image: Image
    port: str
    key: str | None = None

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        env = {"PATH": f"{self.image.at('opt/lookalike/bin')}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        env |= {"LOOKALIKE_API_KEY": self.key} if self.key else {}
        command = [self.image.moved(part).replace(PORT, self.port) for part in command]
        command[0] = shutil.which(command[0], path=env["PATH"]) or command[0]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.image.folder, env=env, text=True, stdout=pipe, stderr=pipe, **AS_USER)

    def is_healthy(self) -> bool:
        with self.start(HEALTH) as check:
            check.communicate(timeout=30)
            return check.returncode == 0

    def ask(self, path: str, key: str = "") -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"X-API-Key": key})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return error.code


@pytest.fixture
def port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.slow
def test_the_user_owns_the_volume(image: Image) -> None:
    assert f"useradd --uid {UID}" in image.noted
    assert f"chown lookalike:lookalike {image.at('store')}" in image.noted


@pytest.mark.slow
def test_refuses_to_start_without_a_key(image: Image, port: str) -> None:
    with Container(image, port).start(COMMAND) as server:
        try:
            out, error = server.communicate(timeout=60)
        finally:
            server.kill()
    assert (server.returncode, out) == (2, "")
    assert "Set LOOKALIKE_API_KEY" in error


@pytest.mark.slow
def test_is_healthy_with_a_key_and_stops_at_sigterm(image: Image, port: str) -> None:
    container = Container(image, port, KEY)
    assert not container.is_healthy()
    with container.start(COMMAND) as server:
        try:
            until = time.monotonic() + 60
            while not container.is_healthy():
                assert server.poll() is None, server.communicate()
                assert time.monotonic() < until
            assert container.ask("/version") == 401
            assert container.ask("/version", KEY) == 200
            server.terminate()
            out, error = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 0, error
    assert out.startswith("version 1 at http://0.0.0.0:")
