"""The layers: a package imports only from those below it, and no module imports itself through others."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import exsearch

LAYERS = [
    {"core"},
    {"processes"},
    {"config", "documents", "network"},
    {"corpus", "effects", "hardware", "logs"},
    {"engine", "wire"},
    {"retrieval"},
    {"questions"},
    {"agent", "world"},
    {"evaluation", "training"},
    {"encoder_training", "runs", "warmup"},
    {"em"},
    {"compat", "report", "serving", "verify"},
    {"api"},
    {"cli"},
]
"""From the lowest up. Packages of one layer do not import each other."""
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
SOURCE = Path(exsearch.__file__).parent
PLACE = re.compile(r"(exsearch(?:\.\w+)+)(?::\w+)?")
"""A module named in a string, to be imported or started later: alone, or with a class."""


def modules(source: Path) -> dict[str, Path]:
    """All modules but the face, `exsearch` itself, which names whatever is offered; of it only the version is used."""
    paths = {".".join(path.relative_to(source.parent).with_suffix("").parts): path for path in source.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items() if name != "exsearch.__init__"}


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules that a file names: where it is loaded, within functions, only for types, and in strings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            for name in node.names:
                below = f"{node.module}.{name.name}"
                found.add(below if below in known else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (place := PLACE.fullmatch(node.value)):
            found.add(place[1])
    return found & known


def graph(source: Path) -> dict[str, set[str]]:
    """Each module with those that it names; to name itself, as what starts itself does, is no circle."""
    found = modules(source)
    return {name: imported(path, set(found)) - {name} for name, path in found.items()}


@cache
def imports() -> dict[str, set[str]]:
    return graph(SOURCE)


def package_of(module: str) -> str:
    return module.split(".")[1]


def circle(arrows: dict[str, set[str]]) -> list[str] | None:
    """One of the circles, from a module back to it; None if there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return None


def test_every_package_has_a_layer() -> None:
    assert len(imports()) > 200
    missing = {package_of(module) for module in imports()} - set(LAYER)
    assert not missing, f"put {missing} into LAYERS, and into the two pages that draw them"


def test_the_documentation_draws_the_same_layers() -> None:
    root = Path(__file__).parents[2]
    guide = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The layers")[2]
    lines = guide.split("```")[1].splitlines()[1:]
    assert [set(re.split(r"\s\s+", line)[0].split(" | ")) for line in lines] == LAYERS[::-1]
    page = (root / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8").partition("## The parts")[2]
    rows = re.findall(r"^\| (`.*?`) \| ", page, re.MULTILINE)
    assert [set(re.findall(r"\w+", row)) for row in rows] == LAYERS[::-1]


def test_arrows_point_down() -> None:
    for module, below in imports().items():
        for other in below:
            down = package_of(other) == package_of(module) or LAYER[package_of(other)] < LAYER[package_of(module)]
            assert down, f"{module} imports {other}, which is not below it"


def test_no_module_imports_itself_by_way_of_others() -> None:
    found = circle(imports())
    assert found is None, f"a circle: {' <- '.join(found)}"


def test_retrieval_knows_no_language_model_and_engine_knows_no_text() -> None:
    for module, below in imports().items():
        packages = {package_of(other) for other in below}
        assert not (package_of(module) == "retrieval" and "engine" in packages), module
        assert not (package_of(module) == "engine" and packages & {"questions", "corpus", "retrieval"}), module


def test_a_circle_is_found_however_it_is_closed(tmp_path: Path) -> None:
    ways = {
        "a plain import": "from exsearch.low import above",
        "a module in a package": "import exsearch.low.above",
        "within a function": "def later():\n    from exsearch.low.above import Name",
        "for types alone": "import typing\nif typing.TYPE_CHECKING:\n    from exsearch.low.above import Name",
        "a class in a string": "KINDS = {'above': 'exsearch.low.above:Name'}",
        "a process": "start_module('exsearch.low.above')",
    }
    for number, (way, text) in enumerate(ways.items()):
        package = tmp_path / str(number) / "exsearch"
        (package / "low").mkdir(parents=True)
        (package / "__init__.py").write_text("NAMES = 'exsearch.low.above'\n")
        (package / "low" / "above.py").write_text("from exsearch.low.below import Base\n\nclass Name(Base): ...\n")
        (package / "low" / "below.py").write_text(f"{text}\n\nclass Base: ...\n")
        found = circle(graph(package))
        assert found is not None, way
        assert set(found) == {"exsearch.low.above", "exsearch.low.below"}, way
        (package / "low" / "below.py").write_text("'''Of exsearch.low.above, in words.'''\n\nclass Base: ...\n")
        assert circle(graph(package)) is None
