"""What of an installed package travels to a cluster: its own files, the same bytes for the same files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock.jobs.wheel import LIMIT, Wheel, amount, make

GIB = 1024**3
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiny"
version = "1.5"

[project.entry-points."penstock.workloads"]
tiny = "tiny:workload"

[tool.hatch.build.targets.wheel]
packages = ["source/tiny"]
"""


def names(wheel: Wheel) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(wheel.data)).namelist()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one package below source/."""
    package = tmp_path / "project" / "source" / "tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("workload = None\n")
    (package / "data.txt").write_text("words\n")
    (tmp_path / "project" / "pyproject.toml").write_text(PROJECT)
    return tmp_path / "project"


def editable(root: Path) -> Distribution:
    """What pip install --editable leaves of the project."""
    folder = root.parent / "site" / "tiny-1.5.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.5\n")
    (folder / "direct_url.json").write_text(
        json.dumps({"dir_info": {"editable": True}, "url": root.as_uri()})
    )
    return PathDistribution(folder)


def truncated(path: Path, size: int) -> None:
    """A file of that size that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def test_only_the_package_travels_whatever_lies_beside_it(root: Path) -> None:
    installed = editable(root)
    clean = make(installed)
    truncated(root / "stray.bin", GIB)
    truncated(root / "source" / "stray.bin", GIB)
    (root / ".venv").mkdir()
    truncated(root / ".venv" / "stray.bin", GIB)
    (root / "source" / "tiny" / "__pycache__").mkdir()
    (root / "source" / "tiny" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert make(installed) == clean
    assert clean.name == "tiny-1.5" and len(clean.data) < 4096
    inside = "tiny-1.5.dist-info/"
    expected = [f"{inside}METADATA", f"{inside}RECORD", f"{inside}WHEEL", f"{inside}entry_points.txt"]
    assert names(clean) == [*expected, "tiny/__init__.py", "tiny/data.txt"]


def test_a_huge_file_inside_the_package_is_named_and_not_read(root: Path) -> None:
    truncated(root / "source" / "tiny" / "weights.bin", 1024 * GIB)  # reading it would take hours
    with pytest.raises(PenstockError, match=r"takes 100\.0 MiB; largest: tiny/weights\.bin \(1\.0 TiB\)"):
        make(editable(root))


def test_many_files_below_the_limit_can_be_too_much_together(root: Path) -> None:
    for index in range(2):
        truncated(root / "source" / "tiny" / f"part{index}.bin", LIMIT * 2 // 3)
    with pytest.raises(PenstockError, match=r"133\.3 MiB and a cluster .*tiny/part0\.bin \(66\.7 MiB\)"):
        make(editable(root))


def test_the_same_files_are_the_same_bytes_and_a_changed_one_is_another_package(root: Path) -> None:
    installed = editable(root)
    before = make(installed)
    for path in root.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (root / "source" / "tiny" / "data.txt").chmod(0o600)
    assert make(installed).package == before.package
    (root / "source" / "tiny" / "data.txt").write_text("other words\n")
    assert make(installed).package != before.package


def test_building_leaves_the_project_as_it_was(root: Path) -> None:
    before = sorted(root.rglob("*"))
    make(editable(root))
    assert sorted(root.rglob("*")) == before


def test_a_missing_build_backend_and_a_broken_project_are_one_line(root: Path) -> None:
    installed = editable(root)
    file = root / "pyproject.toml"
    file.write_text(PROJECT.replace("hatchling.build", "no_such_backend.api"))
    with pytest.raises(PenstockError, match="'no_such_backend', which builds its wheel, is missing; pip"):
        make(installed)
    file.write_text(PROJECT.replace('"1.5"', '"one"'))
    with pytest.raises(PenstockError, match=r"hatchling\.build cannot build a wheel of .*Invalid version"):
        make(installed)


@pytest.fixture
def unpacked(root: Path, tmp_path: Path) -> Path:
    """The project as pip installs a wheel of it: files, a RECORD, and what is only this machine's."""
    place = tmp_path / "lib" / "site"
    zipfile.ZipFile(io.BytesIO(make(editable(root)).data)).extractall(place)
    with (place / "tiny-1.5.dist-info" / "RECORD").open("a") as record:
        record.write("../../bin/tiny,,\ntiny/__pycache__/__init__.cpython-311.pyc,,\n")
        record.write("tiny-1.5.dist-info/INSTALLER,,\ntiny-1.5.dist-info/direct_url.json,,\n")
    (place / "tiny-1.5.dist-info" / "INSTALLER").write_text("pip\n")
    (place / "tiny-1.5.dist-info" / "direct_url.json").write_text('{"url": "file:///secret/place"}')
    return place


def test_an_installed_wheel_is_packed_again_from_its_record(unpacked: Path, root: Path) -> None:
    installed = PathDistribution(unpacked / "tiny-1.5.dist-info")
    truncated(unpacked / "tiny" / "stray.bin", GIB)  # nobody's: no RECORD has it
    again = make(installed)
    assert again == make(PathDistribution(root.parent / "site" / "tiny-1.5.dist-info"))
    with zipfile.ZipFile(io.BytesIO(again.data)) as archive:
        rows = list(csv.reader(io.StringIO(archive.read("tiny-1.5.dist-info/RECORD").decode())))
        assert [row[0] for row in rows[:-1]] == [n for n in archive.namelist() if not n.endswith("RECORD")]
        for name, digest, size in rows[:-1]:
            data = archive.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(data))


def test_an_installation_that_is_damaged_or_has_no_record_is_refused(unpacked: Path) -> None:
    installed = PathDistribution(unpacked / "tiny-1.5.dist-info")
    (unpacked / "tiny" / "data.txt").unlink()
    with pytest.raises(PenstockError, match=r"tiny 1\.5 is damaged: tiny/data\.txt of its RECORD is missing"):
        make(installed)
    (unpacked / "tiny-1.5.dist-info" / "RECORD").unlink()
    with pytest.raises(PenstockError, match=r"tiny 1\.5 has no RECORD"):
        make(installed)


def test_penstock_runs_from_its_own_wheel_with_its_workloads(tmp_path: Path) -> None:
    wheel = make(distribution("penstock"))
    assert len(wheel.data) < 8 * 1024**2
    zipfile.ZipFile(io.BytesIO(wheel.data)).extractall(tmp_path)
    code = (
        "import penstock, penstock.catalog as c; print(penstock.__file__); print(*c.installed());"
        "print(c.find('speech').name)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert Path(shown[0]).parent == tmp_path / "penstock"
    assert "chatbot detection gan go pathology recsys speech" in shown[1] and shown[2] == "speech"


def test_sizes_are_readable() -> None:
    shown = [amount(size) for size in (0, 1023, 1536, LIMIT, 3 * GIB)]
    assert shown == ["0 bytes", "1023 bytes", "1.5 KiB", "100.0 MiB", "3.0 GiB"]
