"""The wheel: what is in it, and that it runs where nothing of the checkout is in reach."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from latentman.shared import passes_folder
from latentman.shared.manifest import PassesManifest
from latentman.shared.version import VERSION
from tests import samples
from tests.checkout import ROOT, clean_environment, copy_checkout

FRAMES, SIZE = (1, 2, 3), 64
IMPORT = "import latentman; from latentman.backend import LatentManPipeline; print(latentman.__file__)"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel in it, and a folder outside the checkout to work in."""

    folder: Path
    work: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def install(self, *wanted: str) -> None:
        """By the development environment's pip."""
        _run(sys.executable, "-m", "pip", "--python", str(self.folder), "install", "-q", *wanted, cwd=self.work)

    def run(self, program: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """One of its programs, in the folder to work in."""
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.work,
            env=clean_environment(self.work / "home"),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _make_environment(folder: Path) -> Environment:
    venv.create(folder / "environment")
    (folder / "work").mkdir()
    return Environment(folder / "environment", folder / "work")


def _contents(wheel: Path) -> dict[str, str]:
    """Every file but the wheel's own records -> its hash."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def _build(kind: str, source: Path, out: Path) -> Path:
    """The wheel or the source archive of a copy of the checkout."""
    out.mkdir()
    _run(
        sys.executable,
        "-c",
        f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])",
        str(out),
        cwd=source,
    )
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The checkout without anything that was built in it."""
    return copy_checkout(tmp_path_factory.mktemp("source") / "latentman")


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory):
    """The wheel."""
    return _build("wheel", copy, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def lent(wheel, tmp_path_factory):
    """An environment with the wheel alone; the development environment lends it the libraries."""
    pytest.importorskip("torch")
    made = _make_environment(tmp_path_factory.mktemp("lent"))
    made.install("--no-deps", str(wheel))
    # only the folder comes after the environment's own: what its .pth files would add, such as the checkout, does not
    (made.packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def _save_passes(folder: Path) -> None:
    manifest = PassesManifest(width=SIZE, height=SIZE, fps=20.0, frames=FRAMES, near=0.0, far=0.0)
    passes_folder.save(folder, samples.passes(len(FRAMES), SIZE), manifest)


def _generation(passes: Path, out: Path) -> list[str]:
    options = ["--prompt", "a man in a red shirt, on a beach", "--preset", "latentman", "--steps", "2", "--seed", "4"]
    return ["generate", str(passes), *options, "--out", str(out)]


def _pictures(folder: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.stack([np.asarray(image.open(folder / f"{frame:04d}.png")) for frame in FRAMES])


def _check_everything(environment: Environment) -> np.ndarray:
    """Go through what a user does first; returns the frames."""
    said = environment.run("latentman", "--version")
    assert (said.returncode, said.stdout.strip()) == (0, VERSION), said.stderr
    said = environment.run("latentman", "doctor")
    assert said.returncode == 0 and VERSION in said.stdout and "starter" in said.stdout, said.stdout + said.stderr
    said = environment.run("python", "-c", IMPORT)
    assert said.returncode == 0 and Path(said.stdout.strip()).is_relative_to(environment.packages), said.stdout + said.stderr
    _save_passes(environment.work / "passes")
    said = environment.run("latentman", *_generation(environment.work / "passes", environment.work / "frames"))
    assert said.returncode == 0, said.stdout + said.stderr
    frames = _pictures(environment.work / "frames")
    assert frames.shape == (len(FRAMES), SIZE, SIZE, 3) and frames.std() > 10
    return frames


def test_the_wheel_holds_the_product_and_nothing_else(copy, wheel):
    folders = ("backend", "blender_addon", "shared")
    files = [path for folder in folders for path in (copy / folder).rglob("*") if path.is_file()]
    wanted = {path.relative_to(copy).as_posix() for path in files} | {"__init__.py", "blender_manifest.toml"}
    found = _contents(wheel)
    assert set(found) == {f"latentman/{name}" for name in wanted}
    for name in (
        "backend/models/starter/unet/diffusion_pytorch_model.safetensors",
        "backend/models/clip_tokenizer/merges.txt",
        "backend/models/library/catalogue.json",
        "backend/motion/starter/text_encoder/tokenizer.json",
        "blender_addon/character/data/mannequin.npz",
        "blender_addon/farm/latentman.js",
        "blender_addon/motion/data/results.npy",
    ):
        assert found[f"latentman/{name}"] == hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def test_the_wheels_description(wheel):
    with zipfile.ZipFile(wheel) as archive:
        information = {name.split("/")[1]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    described = information["METADATA"]
    assert f"\nVersion: {VERSION}\n" in described and "\nLicense-Expression: GPL-3.0-or-later\n" in described
    assert set(re.findall(r"(?m)^Provides-Extra: (\w+)$", described)) == {"backend", "ray", "blender", "dev", "docs"}
    always = {re.match(r"[\w-]+", line)[0] for line in re.findall(r"(?m)^Requires-Dist: ([^;\n]+)$", described)}
    assert always == {"numpy", "msgspec", "pyzmq", "platformdirs"}
    assert information["entry_points.txt"].split() == ["[console_scripts]", "latentman", "=", "latentman.backend.entry:main"]


@pytest.mark.slow
def test_the_source_archive_gives_the_same_wheel(copy, wheel, tmp_path):
    archive = _build("sdist", copy, tmp_path / "archive")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert _contents(_build("wheel", source, tmp_path / "again")) == _contents(wheel)


@pytest.mark.slow
def test_the_installed_package_makes_the_checkouts_frames(lent):
    frames = _check_everything(lent)
    found = lent.run("python", "-c", "import sys; print([name for name in sys.modules if 'editable' in name])")
    assert found.stdout.strip() == "[]"
    command = [sys.executable, str(ROOT / "backend" / "launch.py")]
    _run(*command, *_generation(lent.work / "passes", lent.work / "checkout"), "--jobs", str(lent.work / "jobs"), cwd=lent.work)
    assert (frames == _pictures(lent.work / "checkout")).all()


@pytest.mark.slow
def test_the_installed_package_evaluates_its_own_shots(lent):
    """The suites' shots are made by the package itself: there is no checkout, and no Blender in the environment."""
    quick = [
        "--quick",
        "--frames",
        "2",
        "--steps",
        "1",
        "--prompt",
        "a man in a red shirt, on a beach",
        "--variants",
        "cross_frame",
    ]
    done = lent.run("latentman", "evaluate", "--suite", "surface", *quick, "--json", "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((lent.work / "figures.json").read_text())
    assert set(table) == {"cross_frame", "blurred", "bake"}
    assert table["cross_frame"]["named_colours"] is not None and table["cross_frame"]["silhouette_iou"] > 0
    assert len(list((lent.work / "build" / "evaluation" / "walk").glob("1-1/cross_frame-*/0002.png"))) == 1


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install(wheel, tmp_path):
    bare = _make_environment(tmp_path)
    bare.install(str(wheel))
    said = bare.run("latentman", "--version")
    assert (said.returncode, said.stdout.strip()) == (0, VERSION), said.stderr
    said = bare.run("python", "-c", IMPORT)
    assert said.returncode == 1 and "ImportError" in said.stderr.splitlines()[-1] and "latentman[backend]" in said.stderr
    _save_passes(bare.work / "passes")
    for command in (["doctor"], _generation(bare.work / "passes", bare.work / "frames")):
        said = bare.run("latentman", *command)
        assert said.returncode != 0 and "pip install 'latentman[backend]'" in said.stdout + said.stderr, said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.slow
def test_pip_installs_all_that_the_backend_needs(copy, wheel, tmp_path):
    """Gigabytes where the package index has no CPU build of torch."""
    full = _make_environment(tmp_path)
    full.install(f"{wheel}[backend]")
    _check_everything(full)
    # and from the folder, with the tools that pip fetches for the build
    full.install("--no-deps", "--force-reinstall", str(copy))
    assert full.run("latentman", "--version").stdout.strip() == VERSION
