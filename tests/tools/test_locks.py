"""The locks hold every package that is asked for, with hashes, and nothing but what they hold is bundled or installed."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tests.checkout import ROOT
from tools.locks import CONTENTS, LOCKS, LockedPackage, LockError, check_files, normalise, read_lock
from tools.setup_env import leave_out_cuda

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = {"extension": ("3.11", "3.13", "3.14"), "backend": ("3.11", "3.12", "3.13", "3.14"), "development": ("3.11",)}
PYTHONS |= {"blender42": ("3.11",), "blender52": ("3.13",), "locking": ("3.11",)}


def _environment(python, platform, machine):
    found = default_environment() | {"python_version": python, "python_full_version": f"{python}.9", "platform_machine": machine}
    return found | {
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
    }


ENVIRONMENTS = [("linux", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64")]


def _wanted(name):
    """The requirements of pyproject.toml that a lock is for."""
    chosen = CONTENTS[name][1]
    found = list(PROJECT["project"]["dependencies"]) if "pyproject.toml" in chosen else []
    for flag, value in itertools.pairwise(chosen):
        if flag == "--extra":
            found += PROJECT["project"]["optional-dependencies"][value]
        elif flag == "--group":
            found += PROJECT["dependency-groups"][value]
    return [Requirement(text) for text in found]


def _valid(package, environment):
    marker = Requirement(package.text.split("\\")[0].strip()).marker
    return marker is None or marker.evaluate(environment)


@pytest.mark.parametrize("name", CONTENTS)
def test_each_requirement_is_locked_once_for_every_python_and_system(name):
    packages = read_lock(LOCKS / f"{name}.txt")
    wanted = _wanted(name)
    assert wanted and len(packages) >= len({normalise(one.name) for one in wanted})
    for python in PYTHONS[name]:
        for system in ENVIRONMENTS:
            environment = _environment(python, *system)
            valid = [package for package in packages if _valid(package, environment)]
            names = [package.name for package in valid]
            assert len(names) == len(set(names)), (python, system)
            versions = {package.name: package.version for package in valid}
            for requirement in wanted:
                if requirement.marker is None or requirement.marker.evaluate(environment):
                    assert requirement.specifier.contains(versions[normalise(requirement.name)]), (requirement, python, system)


def test_the_build_without_cuda_is_the_same_version():
    (cpu,) = read_lock(LOCKS / "torch_cpu.txt")
    packages = read_lock(LOCKS / "development.txt")
    (full,) = [package for package in packages if package.name == "torch"]
    assert cpu.version == f"{full.version}+cpu" and len(cpu.hashes) == 1
    kept = {package.name for package in leave_out_cuda(packages)}
    left_out = {package.name for package in packages} - kept
    assert "torch" in left_out and {"numpy", "diffusers", "sympy", "networkx"} <= kept
    assert all(re.match("torch|nvidia-|cuda-|triton", name) for name in left_out) and len(left_out) > 10


@pytest.mark.parametrize(
    "text",
    [
        "numpy>=2 --hash=sha256:" + "0" * 64,
        "numpy==2.0",
        "numpy==2.0 --hash=sha256:" + "0" * 63,
        "numpy==2.0 --hash=md5:" + "0" * 32,
        "-e .",
        "https://example.org/numpy.whl --hash=sha256:" + "0" * 64,
        "--index-url https://example.org",
        "numpy==2.0 \\\n    --hash=sha256:" + "0" * 64 + "\nscipy==1.0",
    ],
)
def test_a_lock_without_hashes_is_refused(tmp_path, text):
    (tmp_path / "lock.txt").write_text(text + "\n")
    with pytest.raises(LockError, match="make lock"):
        read_lock(tmp_path / "lock.txt")


def test_only_the_locked_bytes_are_let_through(tmp_path, rng):
    data = rng.bytes(5000)
    wheel = tmp_path / "msg_spec-0.20.0-cp311-cp311-win_amd64.whl"
    locked = [LockedPackage("msg-spec", "0.20.0", frozenset({"0" * 64, hashlib.sha256(data).hexdigest()}), "")]
    wheel.write_bytes(data)
    check_files([wheel], locked)
    for changed in (data[:-1], data + b"\0", b"", data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        wheel.write_bytes(changed)
        with pytest.raises(LockError, match="its hash is another"):
            check_files([wheel], locked)
    wheel.write_bytes(data)
    for name in ("msg_spec-0.20.1-cp311-cp311-win_amd64.whl", "other-0.20.0-py3-none-any.whl"):
        with pytest.raises(LockError, match="is not locked"):
            check_files([wheel.rename(wheel.with_name(name))], locked)
        (tmp_path / name).rename(wheel)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The bundled wheels of this platform, as the packager fetches them."""
    pytest.importorskip("bpy")
    from tools.package_extension import download_wheels

    folder = tmp_path_factory.mktemp("wheels") / "linux-x64"
    download_wheels(folder, "linux-x64")
    return folder


@pytest.mark.parametrize("python", PYTHONS["extension"])
def test_every_python_of_blender_finds_one_wheel_of_each_package(wheels, python):
    from tools.package_extension import PLATFORMS

    major, minor = map(int, python.split("."))
    platforms = list(PLATFORMS["linux-x64"])
    tags = {*cpython_tags((major, minor), platforms=platforms), *compatible_tags((major, minor), platforms=platforms)}
    fitting = [parse_wheel_filename(path.name) for path in wheels.glob("*.whl")]
    assert sorted(name for name, _, _, own in fitting if own & tags) == ["msgspec", "platformdirs", "pyzmq"]


def test_a_wheel_that_was_changed_is_not_bundled(wheels, tmp_path):
    from tools.package_extension import download_wheels

    folder = tmp_path / "linux-x64"
    shutil.copytree(wheels, folder)
    assert download_wheels(folder, "linux-x64")
    victim = sorted(folder.glob("pyzmq*.whl"))[0]
    victim.write_bytes(victim.read_bytes() + b"more")
    with pytest.raises(LockError, match="its hash is another"):
        download_wheels(folder, "linux-x64")
    victim.unlink()
    (folder / "evil-1.0-py3-none-any.whl").write_bytes(b"x")
    with pytest.raises(LockError, match="is not locked"):
        download_wheels(folder, "linux-x64")


def test_a_wheel_that_the_index_changed_is_not_fetched(wheels, tmp_path):
    from tools.package_extension import LOCK, download_wheels

    other = tmp_path / "lock.txt"
    text = LOCK.read_text()
    start = text.index("platformdirs==")
    other.write_text(text[:start] + re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", text[start:]))
    folder = tmp_path / "linux-x64"
    # what another lock has left there is no reason to trust it
    shutil.copytree(wheels, folder)
    with pytest.raises(subprocess.CalledProcessError):
        download_wheels(folder, "linux-x64", other)
    assert not (folder / ".complete").exists()


def test_an_audit_that_nobody_answers_is_no_success(tmp_path):
    """Its programs are stand-ins: one that is offline, one that finds something, one that finds nothing."""
    program = """
import sys
from pathlib import Path
import tools.locks as locks
locks.prepare_programs = lambda: Path(sys.argv[1])
sys.exit(locks.audit("osv"))
"""
    cases = {
        "echo ConnectionError: nobody there >&2; exit 1": (2, "NOT audited"),
        "echo 'Name Version ID Fix Versions'; echo 'torch 2.13.0 X-1'; exit 1": (1, "torch 2.13.0 X-1"),
        "exit 0": (0, "no known vulnerability"),
        "echo torch: Dependency not found on PyPI >&2; exit 1": (2, "NOT audited"),
    }
    for n, (script, (code, said)) in enumerate(cases.items()):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "pip-audit").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "pip-audit").chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code and said in done.stdout + done.stderr, (script, done)
