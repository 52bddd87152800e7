"""The layout of the repository, and what its folder names must not break."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from penstock import catalog

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 250
SHOW = "import platform; print(platform.__file__); platform.system()"


def test_platform_is_the_standard_librarys_here() -> None:
    import platform

    assert Path(platform.__file__ or "").parent == Path(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("extra", ["", str(ROOT)])
def test_platform_is_the_standard_librarys_for_whatever_runs_from_the_root(extra: str) -> None:
    env = {**os.environ, "PYTHONPATH": extra}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parent == Path(sysconfig.get_path("stdlib"))


def test_no_folder_of_the_root_shadows_a_module() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "it would shadow the standard library's platform"
    assert not (ROOT / "workloads" / "__init__.py").exists(), (
        "a namespace: third parties may have workloads/ too"
    )
    standard = sys.stdlib_module_names
    assert [path.name for path in ROOT.glob("*.py") if path.stem in standard] == []


def test_the_top_level_is_the_agreed_one() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    agreed = {"platform", "workloads", "deploy", "tests", "cluster.yaml", "pyproject.toml", "README.md"}
    assert {name for name in top if not name.startswith(".")} - agreed <= {"Makefile", "LICENSE"}


def test_every_file_holds_one_noun() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("platform", "workloads")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := sum(bool(line.strip()) for line in path.open(encoding="utf-8"))) > LONGEST
    }
    assert long == {}, "files with more than 250 lines that are not blank"


def test_every_built_in_workload_enters_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["penstock.workloads"]
    folders = {path.parent.name for path in (ROOT / "workloads").glob("*/__init__.py")}
    assert set(declared) == folders
    for name in declared:
        assert catalog.find(name).name == name
        for file in ("README.md", "config.py", "data.py", "model.py", "task.py", "predict.py"):
            assert (ROOT / "workloads" / name / file).is_file(), f"workloads/{name}/{file} is missing"


def test_the_two_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo:", "test:", "install:", "soak:"):
        assert f"\n{target}" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_s_tree_names_every_file() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The tree")[2].partition("\n## ")[0]
    package = ROOT / "platform" / "penstock"
    names = {
        f"{path.parent.name}/" if path.stem == "__init__" else path.name for path in package.rglob("*.py")
    }
    assert {name for name in names if name not in tree} == set()


def test_the_readme_s_tutorial_is_what_penstock_new_writes() -> None:
    from penstock.templates import contents

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = contents("waves")
    for path, text in made.items():
        assert text.strip() in readme, f"the README differs from the template of {path}"
    python = [line for path, text in made.items() if path.endswith(".py") for line in text.splitlines()]
    assert len([line for line in python if line.strip()]) <= 80


def test_rllib_is_imported_in_one_place() -> None:
    """import-linter knows of other packages by their first name only."""
    home = ROOT / "platform" / "penstock" / "rl"
    files = [*(ROOT / "platform").rglob("*.py"), *(ROOT / "workloads").rglob("*.py")]
    using = {
        path for path in files if "ray.rllib" in re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
    }
    assert using and {path for path in using if home not in path.parents} == set()


def test_the_go_environments_import_numpy_numba_and_gymnasium_alone() -> None:
    code = "import sys, workloads.go.env, workloads.go.vector; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"numpy", "numba", "gymnasium"} <= loaded
    assert not loaded & {"penstock", "torch", "ray", "pydantic", "pandas", "typer"}
