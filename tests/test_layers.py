"""Data flows one way: which module may import which."""

import ast
from pathlib import Path

import pytest

# A module of advlib and those of advlib that it may import. Nothing imports plots; plots and metrics
# take arrays only, and a slider takes figures, and so they import nothing but the checks.
MAY_IMPORT: dict[str, set[str]] = {
    "_checks": set(),
    "_pace": set(),
    "_graph": {"_checks"},
    "_traces": set(),
    "_models": {"_checks", "_graph", "_traces"},
    "data": {"_checks"},
    "attacks._result": set(),
    "attacks._norms": set(),
    "attacks.levels": {"_checks", "attacks", "data"},
    "attacks._seeds": set(),
    "attacks._loop": {"_checks", "_models", "_pace", "_traces", "attacks"},
    "attacks.gradient_sign": {"_checks", "_pace", "attacks", "data"},
    "attacks.adaptive": {"_checks", "_models", "_pace", "_traces", "attacks"},
    "attacks.auto": {"_checks", "_models", "_pace", "_traces", "attacks", "data"},
    "attacks.carlini": {"_checks", "_models", "_pace", "_traces", "attacks", "data"},
    "attacks.squares": {"_checks", "_models", "_pace", "_traces", "attacks"},
    "attacks.noise": {"_checks", "_pace", "attacks"},
    "attacks.saliency": {"_checks", "_pace", "attacks"},
    "attacks._candidates": {"_graph", "_models", "_traces", "attacks"},
    "attacks.pixel_search": {"_checks", "attacks"},
    "losses": set(),
    "training": {"_checks", "losses"},
    "networks._float32": set(),
    "networks.classifier": {"_checks", "networks"},
    "networks.vae": {"_checks", "losses", "networks"},
    "networks._reading": {"_checks", "_graph", "_models"},
    "networks._shipped": {"_checks", "data", "losses", "networks", "training"},
    "_flags": {"_models", "attacks", "metrics"},
    "evaluation": {"_checks", "_flags", "_models", "attacks", "metrics", "networks"},
    "detection": {"_checks", "_models"},
    "metrics": {"_checks"},
    "representation": {"_checks"},
    "activations": {"_checks", "_graph", "_pace", "networks"},
    "results": set(),
    "plots": {"_checks"},
    "slider": {"_checks"},
}
PACKAGE = Path(__file__).resolve().parents[1] / "advlib"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imported(source: str) -> set[str]:
    """Names of everything that a module imports, with dots."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package name advlib"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_obey_the_layers(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    assert module in MAY_IMPORT, f"say in MAY_IMPORT what {module} may import"
    names = imported(path.read_text(encoding="utf-8"))
    inside = {name.split(".")[1] for name in names if name.startswith("advlib.")}
    assert inside <= MAY_IMPORT[module]
    assert not any(name.split(".")[0] in {"notebooks", "tests", "tools"} for name in names)


def test_package_itself_imports_nothing() -> None:
    assert imported((PACKAGE / "__init__.py").read_text(encoding="utf-8")) == set()
