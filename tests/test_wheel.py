"""The contents of the sdist and the wheel; the wheel works in a folder that has modules of the same names."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import jupytext  # type: ignore[import-untyped]
import nbclient
import pytest

from tests.factories import ROOT

BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""
SCRIPT = """
import sys
from lookalike import AutoencoderEmbedder, open_rows
rows = next(open_rows("digits").chunks(64)).inputs
model = AutoencoderEmbedder(latent_dim=2, hidden=(8,), epochs=1, device="cpu")
print(sys.prefix, model.fit(rows).transform(rows).shape)
"""

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> str:
    """The output of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


@dataclass(frozen=True)
class Built:
    """The sdist, the wheel that was built from it, and a new environment with the wheel."""

    sdist: Path
    wheel: Path
    environment: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT).split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            run("cp", "--no-dereference", ROOT / name, checkout / name, folder=ROOT)
    run(sys.executable, "-c", BUILD, "build_sdist", folder, folder=checkout)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-c", BUILD, "build_wheel", folder, folder=unpacked)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=folder)
    made = Built(sdist, wheel, environment)
    python = made.python
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, folder=folder)
    # Use this environment's dependencies, but not its `.pth` files, such as the editable install.
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with modules of the same names as our floors, which must not be imported."""
    for name in ("training", "index", "service", "lessons"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the user\\'s {name} was imported')")
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user\\'s {name}.py was imported')")
    return tmp_path


def sources() -> set[str]:
    """Each source file of the product by its path in the package."""
    folders = {ROOT / name: f"lookalike/{name}" for name in ("training", "index", "service", "lessons")}
    folders[ROOT / "src" / "lookalike"] = "lookalike"
    return {
        f"{inside}/{path.relative_to(folder)}"
        for folder, inside in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_contains_only_the_product(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        files = archive.infolist()
    assert {file.filename for file in files if ".dist-info/" not in file.filename} == sources()
    assert [file.filename for file in files if file.external_attr >> 28 == 0o12] == []


def test_the_sdist_contains_only_the_product_and_its_build_files(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []
    names = {member.name.partition("/")[2] for member in members if member.isfile()}
    product = {name.removeprefix("src/") for name in names if name.startswith("src/lookalike/")}
    assert product == sources()
    others = {name for name in names if not name.startswith(("src/lookalike/", "src/lookalike.egg-info/"))}
    assert others == {"MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def test_the_command_works_next_to_modules_of_the_same_names(built: Built, project: Path) -> None:
    command = built.python.with_name("lookalike")
    quick = ("--set", "fit.epochs=1", "--set", "fit.device=cpu")
    run(command, "train", "digits", "--run", "run", *quick, folder=project)
    run(command, "build", "digits", "--encoder", "run", "--store", "s", "--index", "Flat", folder=project)
    run(command, "promote", "1", "--store", "s", folder=project)
    assert "champion" in run(command, "versions", "--store", "s", folder=project)
    run(built.python, "-P", "-m", "lookalike.index.changes.compact", "s", "1", folder=project)


def test_python_m_works_next_to_modules_of_the_same_names(built: Built, project: Path) -> None:
    assert "Usage" in run(built.python, "-m", "lookalike", "search", "--help", folder=project)
    assert "[model]" in run(built.python, "-m", "lookalike", "settings", folder=project)


def test_a_script_works_next_to_modules_of_the_same_names(built: Built, project: Path) -> None:
    (project / "script.py").write_text(SCRIPT)
    assert run(built.python, "script.py", folder=project) == f"{built.environment} (64, 2)\n"


def test_a_notebook_works_next_to_modules_of_the_same_names(
    built: Built, project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = tmp_path_factory.mktemp("jupyter")
    command = [str(built.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "wheel", "language": "python"}
    (kernels / "kernels" / "wheel").mkdir(parents=True)
    (kernels / "kernels" / "wheel" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(kernels))
    notebook = jupytext.reads(SCRIPT, fmt="py")
    resources = {"metadata": {"path": str(project)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="wheel", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert printed == f"{built.environment} (64, 2)\n"
