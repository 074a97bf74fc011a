"""The house's rules, read off the source: who imports whom, how large things are, what is never loaded."""

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("training", "index", "service", "lessons", "lookalike")
ABOVE = {floor: set(FLOORS[number + 1 :]) for number, floor in enumerate(FLOORS)}
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for floor in FLOORS
    for path in sorted((ROOT / floor).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}

OF_TRAINING = {
    "index": {
        *("training.rows", "training.artifact", "training.errors", "training.sealed", "training.progress"),
        *("training.manifest", "training.origin", "training.politeness", "training.preprocess", "training.untrained"),
        *("training.known_range", "training.robust"),
    },
    "service": {
        *("training.artifact", "training.columns", "training.errors", "training.origin", "training.preprocess"),
        *("training.sealed", "training.known_range"),
    },
}
"""What a floor may import of the training floor."""
FITTING = {
    *("training.checkpoint", "training.corruption", "training.estimator", "training.export", "training.fitting"),
    *("training.job", "training.judge", "training.loop", "training.losses", "training.optim", "training.precision"),
    "training.probe",
}
MANY_PARAMETERS = {
    *(("training.estimator", "__init__"), ("lookalike.cli", "build"), ("lookalike.cli", "serve")),
    *(("lookalike.cli_retraining", "retrain"), ("service.client.clients", "search"), ("service.client.requests", "of")),
}
"""A scikit-learn estimator names each of its parameters, a command each of its options, a call what it asks for."""
UNSAFE = (
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("torch.load", "torch.save", "torch.jit", "torch.export", "torch.hub", "torch.package"),
    *("eval", "exec"),
)
"""What can run code from a file."""

each_module = pytest.mark.parametrize("name", SOURCES)


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """The modules that a source imports, anywhere in it; `from package import module` is of the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def ours(name: str) -> set[str]:
    return {module for module in imported(TREES[name], set(SOURCES)) if module in SOURCES}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def names_used(tree: ast.AST) -> Iterator[str]:
    """Every name in a source, dotted, and everything that it imports."""
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
    """Lines of the body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *filter(None, [given.vararg]), *given.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in {"self", "cls"}]


def test_all_floors_are_here() -> None:
    assert {name.partition(".")[0] for name in SOURCES} == set(FLOORS)
    assert {"index.build", "training.rows.base", "service.app", "lookalike.cli", "index"} <= set(SOURCES)


@each_module
def test_imports_go_down(name: str) -> None:
    assert not {module for module in ours(name) if module.partition(".")[0] in ABOVE[name.partition(".")[0]]}


@pytest.mark.parametrize("floor", OF_TRAINING)
def test_a_floor_takes_of_training_only_what_is_for_it(floor: str) -> None:
    taken = {m for name in SOURCES if name.partition(".")[0] == floor for m in ours(name) if m.startswith("training.")}
    assert taken <= OF_TRAINING[floor]


@pytest.mark.parametrize("floor", ["index", "service"])
def test_no_floor_above_reaches_the_training_loop_by_any_path(floor: str) -> None:
    reached, waiting = set[str](), [name for name in SOURCES if name.partition(".")[0] == floor]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += ours(name) - reached
    assert "training.artifact" in reached
    assert not reached & FITTING


def test_no_modules_import_each_other() -> None:
    list(graphlib.TopologicalSorter({name: ours(name) - {name} for name in SOURCES}).static_order())


def test_starting_the_service_loads_no_training_and_no_analysis() -> None:
    script = "import sys, service.app, service.server; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"service.app", "training.artifact", "faiss", "torch"} <= loaded
    assert not loaded & (FITTING | {"sklearn", "pandas", "scipy", "matplotlib", "lookalike", "typer"})


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_itself_loads_nothing(floor: str) -> None:
    script = f"import sys, {floor}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {*SOURCES, "torch", "numpy", "sklearn"} == {floor}


def test_no_other_floor_gives_more_than_its_modules() -> None:
    assert {floor for floor in FLOORS if list(imported(TREES[floor], set(SOURCES)))} == {"training"}


@each_module
def test_a_module_says_what_it_is_and_what_it_gives(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [public for public in module.__all__ if not hasattr(module, public)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@each_module
def test_a_module_fits_the_house(name: str) -> None:
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 350
    assert {f.name: body_lines(f) for f in functions(TREES[name]) if body_lines(f) > 60} == {}
    many = {f.name: parameters(f) for f in functions(TREES[name]) if len(parameters(f)) > 7}
    assert {function for function in many if (name, function) not in MANY_PARAMETERS} == set()
    assert [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)] == []


@each_module
def test_a_module_runs_no_code_from_files(name: str) -> None:
    assert unsafe_in(TREES[name]) == set()


@each_module
def test_arrays_are_loaded_without_pickle(name: str) -> None:
    loads = [
        n for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and dotted(n.func) in {"np.load", "numpy.load"}
    ]
    for call in loads:
        asked = {keyword.arg: keyword.value for keyword in call.keywords}.get("allow_pickle")
        assert isinstance(asked, ast.Constant)
        assert asked.value is False


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
def test_these_rules_can_be_broken(source: str) -> None:
    assert unsafe_in(ast.parse(source)) != set()


@pytest.mark.parametrize("source", ["import torch\nmodel.eval()", "np.load(x)", "safetensors.torch.load_file(p)"])
def test_these_rules_can_be_kept(source: str) -> None:
    assert unsafe_in(ast.parse(source)) == set()
