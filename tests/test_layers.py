"""Imports lead one way, from a layer to itself or below; files and functions stay short."""

import ast
from pathlib import Path

import networkx
import pytest

import graphpred

ROOT = Path(graphpred.__file__).parent

LAYERS = (
    {"errors"},
    {"files", "seeds", "threads", "activations"},
    {"canonical", "architecture", "weights"},
    {"space", "objective", "matching"},
    {"tidying", "columns", "delimited", "tables", "encoding", "split", "targets", "task"},
    {"network"},
    {"population"},
    {"reversible", "factored"},
    {"searchers"},
    {"pairs"},
    {"synthetic"},
    {"meta"},
    {"fitting", "streaming"},
    {"estimators"},
    {"report", "export", "experiments", "compare"},
    {"cli"},
)
"""Modules and packages of graphpred from the bottom up."""

FORBIDDEN = {("synthetic", "pairs")}
"""Imports that the order alone would allow: the prior over data sets knows nothing of pairs."""

MAX_FILE_LINES = 420
MAX_FUNCTION_LINES = 60


def module_name(path):
    parts = ("graphpred", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports(tree):
    """Modules of graphpred that are imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports must be absolute"
            if node.module and node.module.split(".")[0] == "graphpred":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                modules = [name for name in names if name in FILES]
                yield from modules or [node.module]
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "graphpred")


IMPORTS = {name: set(imports(tree)) for name, tree in TREES.items()}


def component(module):
    """What stands directly under graphpred: ``search`` for ``graphpred.searchers.base``."""
    return module.split(".")[1]


def level(module):
    levels = [i for i, layer in enumerate(LAYERS) if component(module) in layer]
    assert levels, f"{module} must have a place in LAYERS"
    return levels[0]


def inner_modules():
    return [name for name in FILES if name != "graphpred"]


def test_the_package_is_found():
    assert {"graphpred", "graphpred.errors", "graphpred.searchers.base"} <= FILES.keys()
    assert "graphpred.errors" in IMPORTS["graphpred.architecture"]


@pytest.mark.parametrize("name", inner_modules())
def test_module_imports_from_its_own_or_lower_layers(name):
    upwards = [other for other in IMPORTS[name] if level(other) > level(name)]

    assert not upwards, f"{name} must not import from layers above it"


@pytest.mark.parametrize("name", inner_modules())
def test_module_imports_from_modules_not_from_the_top(name):
    assert "graphpred" not in IMPORTS[name], f"{name} must import from the module that defines"


@pytest.mark.parametrize(("importer", "imported"), sorted(FORBIDDEN))
def test_forbidden_imports(importer, imported):
    for name in inner_modules():
        if component(name) == importer:
            assert imported not in {component(other) for other in IMPORTS[name]}


def test_there_are_no_import_cycles():
    graph = networkx.DiGraph()
    for name, targets in IMPORTS.items():
        graph.add_edges_from((name, target) for target in targets if target != name)

    assert list(networkx.simple_cycles(graph)) == []


@pytest.mark.parametrize("name", FILES)
def test_file_is_short(name):
    n_lines = len(FILES[name].read_text(encoding="utf-8").splitlines())

    assert n_lines <= MAX_FILE_LINES


def body_lines(function):
    """Lines of a function from its first decorator to its end, without the docstring."""
    first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
    n_lines = function.end_lineno - first + 1
    if ast.get_docstring(function, clean=False) is not None:
        n_lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return n_lines


@pytest.mark.parametrize("name", FILES)
def test_functions_are_short(name):
    functions = [
        node
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: body_lines(f) for f in functions if body_lines(f) > MAX_FUNCTION_LINES}

    assert not long


def test_upward_and_hidden_imports_would_be_seen():
    code = "def f():\n    from graphpred.searchers import search\n    import graphpred.meta.model\n"

    found = set(imports(ast.parse(code)))

    assert found == {"graphpred.searchers", "graphpred.meta.model"}
    assert level("graphpred.searchers") > level("graphpred.task")
    with pytest.raises(AssertionError, match="must have a place in LAYERS"):
        level("graphpred.stray")
