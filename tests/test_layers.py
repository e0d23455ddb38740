"""The house of DESIGN: a package imports only from those below it."""

import ast
from pathlib import Path

import exsearch

LAYERS = [
    {
        *("errors", "shape", "files", "api_key", "http_client", "loopback", "progress", "config", "effects"),
        *("streams", "metrics_log", "tracking", "precision", "memory", "onednn", "stopping", "worker", "compute"),
        *("coroutines", "children", "cluster", "checkpoint", "foreign", "gzipped", "ids", "locks", "mapping"),
        *("merging", "parquet", "quoting", "reported", "toml", "trouble", "thoughts"),
    },
    {"corpus"},
    {"retrieval", "engine"},
    {"questions"},
    {"world", "agent"},
    {"training"},
    {"encoder_training", "evaluation"},
    {"warmup", "runs"},
    {"em"},
    {"report", "serving", "compat"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SOURCE = Path(exsearch.__file__).parent


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, anywhere in it."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    modules = {node.module.split(".")[1] for node in nodes if node.module and node.module.startswith("exsearch.")}
    names = {name.name for node in nodes if node.module == "exsearch" for name in node.names}
    return modules | (names & set(LEVEL))


def test_arrows_point_down() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    assert len(files) > 40
    for path in files:
        own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        above = {name for name in imported(path) if LEVEL[name] > LEVEL[own]}
        assert not above, f"{path.relative_to(SOURCE)} imports {above}, which lies above {own}"


def test_retrieval_knows_no_language_model_and_engine_knows_no_text() -> None:
    for path in (SOURCE / "retrieval").rglob("*.py"):
        assert "engine" not in imported(path)
    for path in (SOURCE / "engine").rglob("*.py"):
        assert not imported(path) & {"questions", "corpus", "retrieval"}
