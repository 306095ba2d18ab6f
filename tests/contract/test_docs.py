"""What the documentation says of the tests is so."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\|(?! promise |---).*\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def test_every_promise_names_its_tests() -> None:
    """Each row of the promises names at least one test, and all that are named exist."""
    rows = ROW.findall((ROOT / "docs/reliability.md").read_text())
    assert len(rows) > 20
    assert [row for row in rows if not TEST.search(row)] == []
    named = {test for row in rows for test in TEST.findall(row)}
    assert {test for test in named if test[1] not in _tests(ROOT / test[0])} == set()


def _tests(path: Path) -> set[str]:
    """The tests of a file, those of a class as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text()).body if path.exists() else ():
        match node:
            case ast.ClassDef(name=name, body=body):
                found |= {
                    f"{name}::{test.name}"
                    for test in body
                    if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
    return found
