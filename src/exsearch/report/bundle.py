"""Joins ES modules into one script, because the page may not load any files.

A browser refuses to import from `file://`, and an import map of `data:` addresses would need a looser content security
policy. So every module becomes a function called once, after those it imports from:

    import { el } from "./dom.js";            const dom = (() => { ...; return { el }; })();
    export function table() { ... }           const table = (() => { const { el } = dom; ...; return { table }; })();

Only module syntax that can be joined this simply is accepted: named imports of neighbouring files before all other
code, and `export` before a function, a class or a constant. Anything else is an error that names the file and the line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_IMPORT = re.compile(r'import\s*\{\s*(\w+(?:\s*,\s*\w+)*\s*,?)\s*\}\s*from\s*"\./([a-z][a-z0-9-]*\.js)";')
_EXPORT = re.compile(r"export (?=(?:(?:async )?function\*? ?|class )(\w+)|const (\w+) =)")
_STATEMENT = re.compile(r"^[ \t]*(?:import|export)\b(?!\s*:)|\bimport\s*[(.]", re.MULTILINE)
_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True)
class _Module:
    imports: dict[str, list[str]]
    """Names by file."""
    exports: list[str]
    body: str
    """Without imports, and without the word `export`."""


def bundle(entry: str, read: Callable[[str], str]) -> str:
    """Return the module `entry` and everything it imports as one script; `read` returns the text of a file.

    Raises ValueError for syntax that it does not accept, for a name that no module exports, for modules that import
    each other in a circle, and for text that would end a script element.
    """
    modules: dict[str, _Module] = {}
    _load(entry, read, modules, ())
    parts = "\n".join(_function(name, module) for name, module in modules.items())
    return f'\n(() => {{\n"use strict";\n\n{parts}}})();\n'


def _load(name: str, read: Callable[[str], str], modules: dict[str, _Module], importers: tuple[str, ...]) -> None:
    """Add the module to `modules`, after those that it imports from."""
    if name in importers:
        raise ValueError(f"{name} imports itself by way of {', '.join(importers[importers.index(name) + 1 :]) or name}")
    if name in modules:
        return
    module = _parse(name, read(name))
    for other, names in module.imports.items():
        _load(other, read, modules, (*importers, name))
        if unknown := [each for each in names if each not in modules[other].exports]:
            raise ValueError(f"{name} imports {', '.join(unknown)} from {other}, which exports no such name")
    modules[name] = module


def _parse(name: str, text: str) -> _Module:
    imports: dict[str, list[str]] = {}
    start = _blank_end(text, 0)
    while match := _IMPORT.match(text, start):
        imports.setdefault(match[2], []).extend(re.findall(r"\w+", match[1]))
        start = _blank_end(text, match.end())
    exports: list[str] = []

    def without_export(match: re.Match[str]) -> str:
        exports.append(match[1] or match[2])
        return ""

    body = re.sub(rf"^{_EXPORT.pattern}", without_export, text[start:], flags=re.MULTILINE)
    if refused := _STATEMENT.search(body):
        # A removed `export` shortens a line but never removes one.
        number = text[:start].count("\n") + body[: refused.start()].count("\n") + 1
        line = text.splitlines()[number - 1].strip()
        raise ValueError(f"{name}, line {number}: the report's modules may not say: {line}")
    if "</script" in text.lower():
        raise ValueError(f"{name}: contains </script, which would end the page's script")
    return _Module(imports, exports, body)


def _blank_end(text: str, start: int) -> int:
    """Return the position of the code after white space and comments."""
    match = _BLANK.match(text, start)
    return match.end() if match else start


def _function(name: str, module: _Module) -> str:
    """Return code that assigns the module's exports to a constant."""
    imports = [f"const {{ {', '.join(names)} }} = {_constant(other)};" for other, names in module.imports.items()]
    exports = f"return {{ {', '.join(module.exports)} }};"
    lines = [*imports, module.body, exports]
    return f"// {name}\nconst {_constant(name)} = (() => {{\n" + "\n".join(lines) + "\n})();\n"


def _constant(name: str) -> str:
    """Return a name that no module defines: two words joined by `$`."""
    return "module$" + name.removesuffix(".js").replace("-", "_")
