"""The rooms of the package: imports go down their order, never up, and never in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "taptr_ros"

GENERATED = {"msg", "srv"}
"""Modules that rosidl generates."""

FLOORS = [
    {"__init__", "errors"},
    {"settings"},
    {"model"},
    {"runtime"},
    {"tracking"},
    {"bodies"},
    {"messages", "drawing"},
    {"sources"},
    {"evaluation", "view"},
    {"training", "nodes"},
    {"cli"},
    {"__main__"},
]
"""The rooms, and the modules beside them, from the lowest floor to the highest; those of one floor do not meet."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """The modules of this package that each of its modules imports, wherever in the module it does."""
    names = {module_name(path) for path in PACKAGE.rglob("*.py")}
    found = {}
    for path in PACKAGE.rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        targets = set()
        for node in nodes:
            if node.module and node.module.split(".")[0] == "taptr_ros":
                targets |= {f"{node.module}.{alias.name}" for alias in node.names} & names or {node.module}
        found[module_name(path)] = targets & names - {module_name(path)}
    return found


def room(module: str) -> str:
    return f"{module}.__init__".split(".")[1]


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in imports()} - GENERATED
    assert rooms == set().union(*FLOORS)


def test_imports_go_down() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    wrong = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if room(module) != room(target) and floor[room(target)] >= floor[room(module)]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    # Raises CycleError, which names the circle.
    TopologicalSorter(imports()).prepare()
