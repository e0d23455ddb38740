"""The workflow of a public forge runs what .ci/run runs, by targets that the Makefile has."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def workflow() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def commands(job: dict[str, Any]) -> list[str]:
    """The commands of a job, one for each value of its matrix."""
    lines = [step["run"] for step in job["steps"] if "run" in step]
    for name, values in job.get("strategy", {}).get("matrix", {}).items():
        place = f"${{{{ matrix.{name} }}}}"
        lines = [line.replace(place, value) for line in lines for value in (values if place in line else [""])]
    return lines


def targets(lines: list[str]) -> set[str]:
    return {match[1] for line in lines if (match := re.match(r"make ([\w-]+)", line))}


def run_targets() -> set[str]:
    return targets((ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines())


def test_the_workflow_runs_what_a_change_must_pass_and_the_newest_versions() -> None:
    jobs = workflow()["jobs"]
    assert targets(commands(jobs["test"])) | targets(commands(jobs["check"])) == run_targets()
    assert targets(commands(jobs["newest"])) == {"test-newest"}


def test_every_target_is_one_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = targets([line for job in workflow()["jobs"].values() for line in commands(job)]) | run_targets()
    assert len(named) >= 5
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_versions_of_python_are_allowed_and_the_oldest_is_among_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = workflow()["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert len(versions) >= 2 and project["requires-python"] == f">={versions[0]}"


def test_the_workflow_needs_no_secret_and_may_only_read() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "secrets." not in text and workflow()["permissions"] == {"contents": "read"}


def test_torch_is_the_version_of_the_makefile() -> None:
    [version] = re.findall(r"^TORCH \?= (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert workflow()["env"]["TORCH"].split()[0] == version
