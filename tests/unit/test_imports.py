"""Which way imports may go: app → pages → pages.components → rlhf, never back; and what must stay free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Needed before a page's first paint, or by the command line's quick answers: torch alone takes seconds to import.
TORCH_FREE = [
    "rlhf",
    "rlhf.algorithms",
    "rlhf.architecture",
    "rlhf.bench",
    "rlhf.bradley_terry",
    "rlhf.catalogue",
    "rlhf.config",
    "rlhf.errors",
    "rlhf.estimate",
    "rlhf.events",
    "rlhf.jobs",
    "rlhf.labs.challenges",
    "rlhf.labs.interview",
    "rlhf.labs.memory_trial",
    "rlhf.labs.methods",
    "rlhf.memory",
    "rlhf.metrics",
    "rlhf.preferences",
    "rlhf.raters",
    "rlhf.rewards",
    "rlhf.runs",
    "rlhf.vote_files",
    "rlhf.votes",
]
HEAVY = {"torch", "transformers", "peft"}
STORAGE = ("rlhf.runs", "rlhf.jobs")
MAY_JOIN_ALGORITHMS_TO_STORAGE = {"rlhf.train", "rlhf.worker", "rlhf.__main__"}


def sources() -> dict[str, Path]:
    """Dotted name → file, for all the code of the app."""
    files = [*ROOT.glob("app.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("rlhf/**/*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


SOURCES = sources()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(module: str, *, at_import_only: bool) -> set[str]:
    """Modules that ``module`` imports: anywhere, or only when it is itself imported (not in functions, not for types)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if is_type_checking(node) or (at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} uses a relative import: write the whole name"
            base = node.module or ""
            for alias in node.names:
                # `from rlhf import ops` names a module, `from rlhf.ops import whiten` a thing inside one
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in SOURCES else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(SOURCES[module].read_text(encoding="utf-8")))
    return found


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def algorithm_files() -> set[str]:
    return {name for name in SOURCES if name.startswith("rlhf.algorithms.")}


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if under(name, "rlhf")))
def test_the_engine_knows_no_ui(module):
    names = imported(module, at_import_only=False)
    back = {name for name in names if any(under(name, top) for top in ("streamlit", "plotly", "pages", "app"))}
    assert not back, f"{module} imports {sorted(back)}: the engine must work without pages"


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if under(name, "pages")))
def test_pages_import_components_and_components_import_the_engine(module):
    names = imported(module, at_import_only=False)
    back = {n for n in names if under(n, "app") or (under(n, "pages") and n != "pages" and not under(n, "pages.components"))}
    assert not back, f"{module} imports {sorted(back)}: what pages share belongs into pages/components"


@pytest.mark.parametrize("module", sorted(algorithm_files()))
def test_algorithms_do_not_import_one_another_nor_storage(module):
    names = imported(module, at_import_only=False)
    others = {n for n in names if n in algorithm_files() and n != module}
    assert not others, f"{module} imports {sorted(others)}: algorithms meet in ops, advantages and types"
    storage = {n for n in names if any(under(n, room) for room in (*STORAGE, "rlhf.train", "rlhf.worker"))}
    assert not storage, f"{module} imports {sorted(storage)}: an algorithm knows no process and no file"


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_only_train_and_worker_join_algorithms_to_storage(module):
    names = imported(module, at_import_only=False)
    algorithms = sorted(names & algorithm_files())
    storage = sorted(n for n in names if any(under(n, room) for room in STORAGE))
    assert module in MAY_JOIN_ALGORITHMS_TO_STORAGE or not (algorithms and storage), f"{module} imports both {algorithms} and {storage}"


def test_engine_modules_form_no_cycle():
    engine = {name for name in SOURCES if under(name, "rlhf")}
    graph = {name: (imported(name, at_import_only=True) & engine) - {name} for name in engine}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules import one another in a circle: " + " → ".join(error.args[1]))


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_free_module_exists(module):
    assert module in SOURCES, f"{module} is on the torch-free list but is not there"


def test_first_paint_needs_no_torch():
    """The list above really is torch-free: imported for real in a fresh interpreter, one after another."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = sorted({HEAVY | {'streamlit', 'plotly'}!r} & set(sys.modules))\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *TORCH_FREE], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_pages_import_torch_only_when_something_is_to_be_computed():
    """No page and no component reaches torch while it is being imported; they import it inside the function that needs it."""

    def reaches_torch(module: str, seen: set[str]) -> list[str]:
        """The chain of imports from ``module`` to torch, or nothing."""
        for name in sorted(imported(module, at_import_only=True)):
            if name.split(".")[0] in HEAVY:
                return [module, name]
            if name in SOURCES and name not in seen:
                seen.add(name)
                if chain := reaches_torch(name, seen):
                    return [module, *chain]
        return []

    chains = [chain for module in SOURCES if not under(module, "rlhf") and (chain := reaches_torch(module, set()))]
    assert not chains, "\n".join(" → ".join(chain) for chain in chains)
