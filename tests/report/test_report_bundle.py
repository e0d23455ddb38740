"""The modules of the report as one script: in order, each in its own scope, and nothing accepted that would differ."""

import pytest

from exsearch.report.bundle import bundle

DOM = 'export const NONE = "";\n\nexport function el(tag) {\n  return tag;\n}\n\nfunction hidden() {}\n'


def joined(entry: str, **others: str) -> str:
    files = {"report.js": entry} | {f"{name.replace('_', '-')}.js": text for name, text in others.items()}
    return bundle("report.js", files.__getitem__)


def test_a_module_comes_once_and_after_those_it_imports_from() -> None:
    script = joined(
        'import { list } from "./question-list.js";\nimport { el } from "./dom.js";\n\nlist(el);\n',
        question_list='// List.\nimport {\n  el,\n  NONE,\n} from "./dom.js";\nexport const list = () => el(NONE);\n',
        dom=DOM,
    )
    assert [line for line in script.splitlines() if line.startswith("// ")] == [
        "// dom.js",
        "// question-list.js",
        "// report.js",
    ]
    assert "const { el, NONE } = module$dom;\nconst list = () => el(NONE);\n\nreturn { list };" in script
    assert "return { NONE, el };" in script
    assert '"use strict";' in script
    assert "export" not in script and "import" not in script


REFUSED = {
    "default": 'import el from "./dom.js";\n',
    "namespace": 'import * as dom from "./dom.js";\n',
    "renamed": 'import { el as make } from "./dom.js";\n',
    "side effect": 'import "./dom.js";\n',
    "other folder": 'import { el } from "../dom.js";\n',
    "package": 'import { el } from "lit";\n',
    "late": 'start();\nimport { el } from "./dom.js";\n',
    "indented": "{\n  export function late() {}\n}\n",
    "dynamic": 'const dom = await import("./dom.js");\n',
    "meta": "console.log(import.meta.url);\n",
    "variable": "export let count = 0;\n",
    "list": "const a = 1;\nexport { a };\n",
    "export default": "export default 1;\n",
    "pattern": "export const { a } = data;\n",
    "anonymous": "export function () {}\n",
    "passed on": 'export { el } from "./dom.js";\n',
}


@pytest.mark.parametrize("form", REFUSED)
def test_other_forms_of_modules_are_refused_with_file_and_line(form: str) -> None:
    entry = "// What it is.\n\nexport const A = 1;\n" + REFUSED[form] if form != "late" else "\n\n" + REFUSED[form]
    word = next(line.strip() for line in REFUSED[form].splitlines() if "import" in line or "export" in line)
    with pytest.raises(ValueError, match="the report's modules may not say") as refusal:
        joined(entry, dom=DOM)
    assert str(refusal.value).startswith("report.js, line ") and str(refusal.value).endswith(word)
    number = int(str(refusal.value).split("line ")[1].split(":")[0])
    assert entry.splitlines()[number - 1].strip() == word


@pytest.mark.parametrize("name", ["hidden", "gone"])
def test_a_name_that_is_not_exported_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"report\.js imports {name} from dom\.js, which exports no such name"):
        joined(f'import {{ el, {name} }} from "./dom.js";\n', dom=DOM)


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.js imports itself by way of b\.js"):
        joined(
            'import { a } from "./a.js";\na();\n',
            a='import { b } from "./b.js";\nexport function a() {}\n',
            b='import { a } from "./a.js";\nexport function b() {}\n',
        )


def test_text_that_would_end_the_script_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report\.js: contains </script"):
        joined('document.title = "</Script>";\n')


def test_words_of_modules_elsewhere_are_only_words() -> None:
    script = joined('// We import what others export.\nconst shown = { import: 1, text: "export it" };\n')
    assert '"export it"' in script
