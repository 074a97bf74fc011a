"""The rules of the code, read from its source: the direction of imports, sizes, and modules that must not be loaded."""

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lookalike
from tests.factories import ROOT

ORDER = {
    "training": (
        *("errors", "choices", "array_types", "parallel", "progress", "robust", "scheduling", "sealed", "history"),
        *(
            "tables",
            "config",
            "transforms",
            "schedules",
            "rows",
            "models",
            "artifact",
            "moves",
            "corruption",
            "plan",
            "doctor",
            "fit",
        ),
        "evaluation",
    ),
    "index": ("errors", "shown", "limits", "arrays", "items", "ann", "versions", "changes", "evaluation", "drift"),
    "service": (
        *("client", "observability", "errors", "resources", "settings", "security", "parsing", "serving", "api"),
        *("app", "server"),
    ),
    "lessons": (),
    "": ("data", "encoders", "label_probe", "tracking", "retraining", "cli", "__main__", "__init__"),
}
"""The rooms and modules of each floor, from the lowest up; each may import those before it. "" is the command line."""
FLOORS = ("training", "index", "service", "lessons")
ABOVE = {floor: {"", *FLOORS[number + 1 :]} for number, floor in enumerate(FLOORS)} | {"": set()}
"""The floors that each floor must not import; "" is the command line."""
SOURCES = {
    ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
    for folder, rooms in ((ROOT, FLOORS), (ROOT / "src" / "lookalike", ("cli", "retraining", "")))
    for room in rooms
    for path in sorted((folder / room).rglob("*.py") if room else folder.glob("*.py"))
}
"""Each module's path by its name in the package `lookalike`."""
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}

OF_TRAINING = {
    "index": {
        *(
            "rows",
            "artifact",
            "tables",
            "transforms",
            "errors",
            "choices",
            "array_types",
            "parallel",
            "progress",
            "robust",
            "scheduling",
            "sealed",
        ),
        "evaluation.untrained",
    },
    "service": {"artifact", "tables", "transforms", "errors", "choices", "array_types", "sealed"},
}
"""The rooms and modules of the training floor that a floor may import."""
FITTING = {
    name
    for name in SOURCES
    if name.startswith(("training.fit.", "training.doctor.", "training.corruption", "training.evaluation."))
} - {"training.evaluation.untrained"}
UNSAFE = (
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("torch.load", "torch.save", "torch.jit", "torch.export", "torch.hub", "torch.package"),
    *("eval", "exec"),
)
"""Names that can run code from a file."""

each_module = pytest.mark.parametrize("name", SOURCES)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a source imports, anywhere in it; `from package import module` names the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("lookalike.") in SOURCES else node.module


def ours(name: str) -> set[str]:
    mine = (module.removeprefix("lookalike.") for module in imported(TREES[name]) if module.startswith("lookalike."))
    return {module for module in mine if module in SOURCES}


def floor_of(name: str) -> str:
    first = name.partition(".")[0]
    return first if first in FLOORS else ""


def room_of(name: str) -> str:
    """The room, or the single module, within a floor; empty for the floor's own `__init__`."""
    return name.removeprefix(floor_of(name)).removeprefix(".").partition(".")[0]


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def names_used(tree: ast.AST) -> Iterator[str]:
    """Every dotted name in a source, and everything that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield dotted(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unsafe_in(tree: ast.AST) -> set[str]:
    return {name for name in names_used(tree) if any(name == bad or name.startswith(f"{bad}.") for bad in UNSAFE)}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *filter(None, [arguments.vararg]), *arguments.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in {"self", "cls"}]


def loaded_by(statement: str) -> set[str]:
    """The modules that a new process has loaded after `statement`, without the prefix `lookalike.`"""
    script = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.removeprefix("lookalike.") for name in done.stdout.split()}


def test_finds_the_modules_of_every_floor() -> None:
    assert {floor_of(name) for name in SOURCES} == {*FLOORS, ""}
    assert {"index.versions.build", "training.rows.base", "service.app", "cli.app", "index", "__init__"} <= set(SOURCES)


@each_module
def test_no_module_imports_a_higher_floor(name: str) -> None:
    assert not {module for module in ours(name) if floor_of(module) in ABOVE[floor_of(name)]}


def test_every_room_is_in_the_order() -> None:
    for floor, order in ORDER.items():
        rooms = {room_of(name) for name in SOURCES if floor_of(name) == floor} - {""}
        assert rooms == set(order) or floor == "lessons"


@each_module
def test_no_module_imports_a_higher_room(name: str) -> None:
    order = ORDER[floor_of(name)]
    if room_of(name) in order:
        higher = order[order.index(room_of(name)) + 1 :]
        assert not {m for m in ours(name) if floor_of(m) == floor_of(name) and room_of(m) in higher}


@pytest.mark.parametrize("room", [name for name, path in SOURCES.items() if path.name == "__init__.py" and "." in name])
def test_the_docstring_of_a_room_has_its_contents_and_imports(room: str) -> None:
    text = ast.get_docstring(TREES[room]) or ""
    assert "\nImports " in text
    assert len(text.splitlines()) <= 5


@pytest.mark.parametrize("floor", OF_TRAINING)
def test_a_floor_imports_only_the_allowed_parts_of_training(floor: str) -> None:
    taken = {m for name in SOURCES if floor_of(name) == floor for m in ours(name) if m.startswith("training.")}
    allowed = OF_TRAINING[floor]
    assert [m for m in taken if room_of(m) not in allowed and m.removeprefix("training.") not in allowed] == []


@pytest.mark.parametrize("floor", ["index", "service"])
def test_index_and_service_never_import_the_training_loop_indirectly(floor: str) -> None:
    reached, waiting = set[str](), [name for name in SOURCES if floor_of(name) == floor]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += ours(name) - reached
    assert "training.artifact.encoder" in reached
    assert not reached & FITTING


def test_there_are_no_import_cycles() -> None:
    list(graphlib.TopologicalSorter({name: ours(name) - {name} for name in SOURCES}).static_order())


def test_the_service_starts_without_training_and_analysis_modules() -> None:
    loaded = loaded_by("import lookalike.service.app, lookalike.service.server")
    assert {"service.app", "training.artifact.encoder", "faiss", "torch"} <= loaded
    assert not loaded & (FITTING | {"sklearn", "pandas", "scipy", "matplotlib", "cli", "typer"})


def test_listing_versions_imports_no_numerical_library() -> None:
    loaded = loaded_by("import lookalike.cli.tables")
    assert "index.versions.manifest" in loaded
    assert not loaded & {"numpy", "torch", "faiss", "training.config", "training.transforms"}


@pytest.mark.parametrize("floor", FLOORS)
def test_importing_a_floor_imports_no_other_module(floor: str) -> None:
    assert loaded_by(f"import lookalike.{floor}") & {*SOURCES, "torch", "numpy", "sklearn"} - {"__main__"} == {floor}


def test_the_init_of_a_floor_imports_nothing() -> None:
    assert [floor for floor in FLOORS if list(imported(TREES[floor]))] == []


def test_the_package_exports_the_public_names() -> None:
    assert lookalike.__all__ == [
        *("AsyncClient", "AutoencoderEmbedder", "Client", "Store", "Watch", "build", "diagnose", "open_rows", "train")
    ]
    assert set(lookalike.__all__) <= set(dir(lookalike))
    for name in lookalike.__all__:
        assert getattr(lookalike, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(lookalike, "nothing")  # noqa: B009


def test_importing_the_package_imports_no_other_module() -> None:
    assert loaded_by("import lookalike") & {*SOURCES, "torch", "numpy", "sklearn"} <= {"__main__"}


@pytest.mark.parametrize("command", [["--help"], ["versions", "--help"], ["versions", "--store", "none"]])
def test_a_command_that_only_prints_loads_no_engine(command: list[str]) -> None:
    arguments = f"import contextlib, io, sys\nsys.argv = {['lookalike', *command]!r}"
    quiet = "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    main()"
    loaded = loaded_by(f"{arguments}\nfrom lookalike.__main__ import main\n{quiet}")
    assert "cli.app" in loaded
    assert not loaded & {"torch", "faiss", "sklearn", "scipy", "pyarrow", "fastapi"}


def test_the_linter_refuses_a_second_name_of_a_module(tmp_path: Path) -> None:
    """From the root, `import index` would load the folder; every module has one name, `lookalike.index`."""
    file = tmp_path / "module.py"
    program, config = Path(sys.executable).with_name("ruff"), ROOT / "pyproject.toml"
    ruff = [str(program), "check", "--config", str(config), "--select", "TID251"]
    for floor in FLOORS:
        file.write_text(f"import lookalike.{floor}\nfrom lookalike import {floor}\n")
        assert subprocess.run([*ruff, file], capture_output=True).returncode == 0
        for line in (f"import {floor}", f"from {floor} import x", f"import {floor}.x", f"from {floor}.x import y"):
            file.write_text(line)
            assert subprocess.run([*ruff, file], capture_output=True).returncode == 1


def test_no_test_imports_a_module_under_a_second_name() -> None:
    assert [name for name in sys.modules if name.partition(".")[0] in FLOORS] == []


@each_module
def test_a_module_has_a_docstring_and_a_valid_all(name: str) -> None:
    module = importlib.import_module(f"lookalike.{name}".removesuffix(".__init__"))
    assert module.__doc__
    assert [public for public in module.__all__ if not hasattr(module, public)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@each_module
def test_a_module_respects_the_size_limits(name: str) -> None:
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 350
    assert {f.name: body_lines(f) for f in functions(TREES[name]) if body_lines(f) > 60} == {}
    assert {f.name: parameters(f) for f in functions(TREES[name]) if len(parameters(f)) > 7} == {}
    assert [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)] == []


@each_module
def test_a_module_uses_nothing_that_runs_code_from_files(name: str) -> None:
    assert unsafe_in(TREES[name]) == set()


@each_module
def test_loads_arrays_without_pickle(name: str) -> None:
    loads = [
        n for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and dotted(n.func) in {"np.load", "numpy.load"}
    ]
    for call in loads:
        allowed = {keyword.arg: keyword.value for keyword in call.keywords}.get("allow_pickle")
        assert isinstance(allowed, ast.Constant)
        assert allowed.value is False


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch.jit",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "from torch.export import load",
        "import torch\nnet = torch.jit.script(net)",
        "eval('1')",
    ],
)
def test_finds_unsafe_names(source: str) -> None:
    assert unsafe_in(ast.parse(source)) != set()


@pytest.mark.parametrize("source", ["import torch\nmodel.eval()", "np.load(x)", "safetensors.torch.load_file(p)"])
def test_accepts_safe_names(source: str) -> None:
    assert unsafe_in(ast.parse(source)) == set()
