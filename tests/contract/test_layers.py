"""Promises about the tree: who imports whom, and that every public name says what it is."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "sbi", "ml_repository", "aimle_server", "aimle_client")
MAY_IMPORT = {
    "schemas": set(),
    "sbi": {"schemas"},
    "ml_repository": {"schemas", "sbi"},
    "aimle_client": {"schemas", "sbi"},
    "aimle_server": {"schemas", "sbi", "ml_repository", "aimle_client"},
}
DRIVERS = {"motor", "pymongo", "bson", "gridfs"}
NEEDS_A_SERVER = {ROOT / "aimle_client/testing.py"}
"""Starts a server for applications' tests, so it needs one."""


def modules(folder: str) -> list[Path]:
    """The Python files below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards_only(package: str) -> None:
    """`schemas` stands on nothing of ours, and each package only on those below it."""
    for path in set(modules(package)) - NEEDS_A_SERVER:
        upward = imports(path) & set(PACKAGES) - MAY_IMPORT[package] - {package}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


def test_the_conformance_suite_knows_nothing_of_this_server() -> None:
    """It judges other servers too, so it stands on HTTP and OpenAPI documents alone."""
    allowed = {*sys.stdlib_module_names, "aiohttp", "jsonschema", "pytest", "referencing", "support", "yaml"}
    for path in modules("tests/conformance"):
        assert imports(path) <= allowed, path.name


def test_procedures_know_neither_http_nor_the_database() -> None:
    """A procedure decides; HTTP is the handlers' affair, and documents the stores'."""
    for path in modules("aimle_server/procedures"):
        assert not imports(path) & (DRIVERS | {"aiohttp"}), path.name


def test_the_ue_side_needs_no_database_driver() -> None:
    """A device installs no database driver to take part."""
    for folder in ("aimle_client", "sbi", "schemas"):
        for path in set(modules(folder)) - NEEDS_A_SERVER:
            assert not imports(path) & DRIVERS, path.name


def test_one_module_opens_the_database() -> None:
    """A change of driver is a change of one module."""
    openers = {path.name for package in PACKAGES for path in modules(package) if "motor" in imports(path)}
    assert openers == {"database.py"}


def public_definitions() -> Iterator[tuple[str, ast.AST]]:
    """Every module, and every public class, function and method of our packages."""
    for package in PACKAGES:
        for path in modules(package):
            tree = ast.parse(path.read_text())
            yield f"{path.relative_to(ROOT)}", tree
            for node in tree.body:
                yield from _public(node, str(path.relative_to(ROOT)))


def _public(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
        "_"
    ):
        yield f"{where}:{node.name}", node
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                yield from _public(member, f"{where}:{node.name}")


def test_every_public_name_has_a_docstring() -> None:
    """Whoever reads a name finds what it means beside it."""
    silent = [where for where, node in public_definitions() if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert silent == []
