"""*Set Up* with packages of a few bytes: a lock, an index on loopback and a folder of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path

from latentman.backend.installation.devices import BUILDS, Device, Devices
from latentman.backend.installation.lock_file import find_system, read_lock
from latentman.backend.installation.network import Network
from latentman.backend.installation.planning import Request, make_plan
from latentman.backend.installation.processes import Children
from latentman.backend.installation.progress import Progress
from latentman.backend.installation.pythons import FoundPython
from latentman.backend.installation.running import Tools, install
from tests.small_wheels import write_uv_wheel, write_wheel
from tools.stand_in_index import StandInIndex

SYSTEM = find_system()
BUILD = BUILDS[SYSTEM][-1]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
#: what the check of an environment runs, with the packages of the small lock
CHECK = """
import json
try:
    import alpha, beta
    frame, problems = f"{alpha.VERSION} {beta.VERSION}", []
except ImportError as error:
    frame, problems = "", [str(error)]
print("a warning\\n{not an object}")
print(json.dumps({"frame": frame, "problems": problems, "more": {"a": 1}}, indent=1))
"""


def find_system_python():
    """The Python that the tests' own environment was made of."""
    return FoundPython(Path(sys.base_prefix) / "bin" / f"python{PYTHON}", PYTHON)


def describe(path, **more):
    """What a lock says of a file."""
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} | more


def write_lock(path, uv, wheels, archive=None):
    """Write a lock for this machine; ``archive`` is a Python to fetch, else one that nobody has is named."""
    about = {"size": 1000, "sha256": "0" * 64} if archive is None else describe(archive)
    found = {
        "python": {
            "version": f"{PYTHON}.99",
            "release": "20990101",
            "builds": {SYSTEM: {"name": archive.name if archive else f"cpython-{PYTHON}.99+20990101.tar.gz"} | about},
        },
        "uv": {SYSTEM: {"name": uv.name} | describe(uv)},
        "known": {},
        "files": {wheel.name: describe(wheel, unpacked=1000) for wheel in wheels},
        "environments": {SYSTEM: {BUILD: {PYTHON: [wheel.name for wheel in wheels]}}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return path


class Told(Progress):
    """Keeps what is told."""

    def __init__(self):
        super().__init__(io.StringIO())
        self.events = []

    def emit(self, event, **values):
        self.events.append({"event": event, **values})

    def list(self, event):
        return [one for one in self.events if one["event"] == event]


class SmallSetUp:
    """All of it in one folder; ``install`` and the others run in this process."""

    def __init__(self, folder, uv, *, archive=None, before=""):
        self.folder, self.root = folder, folder / "backend"
        self.uv, self.before = uv, before
        self.index = StandInIndex()
        self.simple = folder / "simple"
        self.archive = archive
        self.told = Told()
        self.children = Children()
        self.version = "1.0"
        self.renew()
        self.index.folders = {"simple": self.simple}
        if archive is not None:
            self.index.folders[f"mirror/{20990101}"] = archive.parent
        self.network = Network(f"{self.index.address}/simple", f"{self.index.address}/whl", f"{self.index.address}/mirror")

    def renew(self, version="1.0"):
        """Another version of the product, with other packages."""
        self.uv_wheel = write_uv_wheel(self.simple, self.uv, self.before)
        self.wheels = [
            write_wheel(self.simple, "alpha", version, needs=["beta"]),
            write_wheel(
                self.simple,
                "beta",
                version,
                files={"beta/__init__.py": f"VERSION = {version!r}\n", "beta/bin/tool": b"x" * 300_000},
            ),
            write_wheel(self.simple, "gamma_delta", version),
        ]
        self.lock_path = write_lock(self.folder / "setup.json", self.uv_wheel, self.wheels, self.archive)
        self.lock = read_lock(self.lock_path)

    @property
    def tools(self):
        return Tools(self.lock, self.network, self.children, self.told)

    def request(self, **more):
        return Request(self.root, BUILD, **more)

    def plan(self, **more):
        return make_plan(self.request(**more), self.lock, Devices((Device("cpu", "a processor"),)), self.network, self.children)

    def install(self, **more):
        return install(self.plan(**more), self.tools)

    def close(self):
        self.children.kill()
        self.index.close()


@cache
def make_python_archive(folder: Path):
    """An archive as the builds of Python that are fetched come in, of this machine's own Python without what nobody needs here."""
    base = Path(sys.base_prefix)
    left_out = re.compile(
        r"(^|/)(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|__pycache__|config-.*)(/|$)"
    )
    library = f"lib/python{PYTHON}"

    def choose(entry):
        return None if left_out.search(entry.name.removeprefix("python/")) or entry.name.endswith((".a", ".pyc")) else entry

    path = folder / f"cpython-{PYTHON}.99+20990101-install_only.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(base / library, f"python/{library}", filter=choose)
        for name in (f"bin/python{PYTHON}",):
            archive.add(base / name, f"python/{name}", filter=choose)
        for shared in sorted(base.glob("lib/libpython3*.so*")):
            archive.add(shared, f"python/lib/{shared.name}")
        for name in ("bin/python3", "bin/python"):
            link = tarfile.TarInfo(f"python/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{PYTHON}"
            archive.addfile(link)
        # packages lie here
        place = tarfile.TarInfo(f"python/{library}/site-packages")
        place.type, place.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(place)
    return path


def is_alive(process):
    """Whether a process with this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    return bool(said.strip()) and not said.strip().startswith("Z")
