"""Which devices this machine has that torch can compute on, asked of the drivers themselves.

The drivers are spoken to through their own libraries: CUDA's driver API (cuInit and so on), Level Zero's for Intel, the kernel's
table of AMD's devices under ``/sys/class/kfd``. A driver can crash or hang who asks it, so that ``probe_in_child`` asks in a
process of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .lock_file import find_system
from .processes import make_hidden

#: the builds of torch that a platform can have, the one that always works last
BUILDS = {
    "linux-x64": ("cuda", "cuda-older", "rocm", "xpu", "cpu"),
    "windows-x64": ("cuda", "cuda-older", "xpu", "cpu"),
    "macos-arm64": ("metal",),
}
LABELS = {
    "cuda": "NVIDIA, CUDA 13",
    "cuda-older": "NVIDIA, CUDA 12.6, for older cards and drivers",
    "rocm": "AMD, ROCm 7.2",
    "xpu": "Intel, XPU",
    "metal": "Apple, Metal",
    "cpu": "Processor only",
}
#: the folder of torch's index that has the build, where PyPI has not
TORCH_FOLDERS = {"cuda-older": "cu126", "rocm": "rocm7.2", "xpu": "xpu", "cpu": "cpu"}
PROBE_SECONDS = 20.0
KFD = Path("/sys/class/kfd/kfd/topology/nodes")
#: AMD's devices that torch's build for ROCm has kernels for
ROCM_TARGETS = frozenset(
    ("gfx900", "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102")
    + ("gfx1150", "gfx1151", "gfx1200", "gfx1201")
)
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_INTEL = 0x8086

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Device:
    """A device: the build of torch that it needs, its name, its memory in bytes (0 where nobody says), and a sentence where it
    cannot be used as it is, empty where it can."""

    build: str
    name: str
    memory: int = 0
    doubt: str = ""


@dataclass(frozen=True)
class Devices:
    """All devices that were found, the best first, and what was tried in vain."""

    found: tuple[Device, ...]
    notes: tuple[str, ...] = ()

    def choose(self, system: str) -> str:
        """The build for the best device that can be used, empty where the platform has none."""
        builds = BUILDS.get(system, ())
        usable = [device.build for device in self.found if device.build in builds and not device.doubt]
        return usable[0] if usable else builds[-1] if builds else ""


def _load_library(name: str) -> Any:
    return ctypes.CDLL(name)


def judge_cuda(capability: tuple[int, int], driver: int) -> tuple[str, str]:
    """(build, doubt) for a device of NVIDIA's: its compute capability, and the CUDA version of its driver times 1000."""
    has = f"its driver is for CUDA {driver // 1000}.{driver % 1000 // 10}"
    if capability < (5, 0):
        return "cuda-older", f"compute capability {capability[0]}.{capability[1]} is older than what torch can use"
    if driver >= 13000 and capability >= (7, 5):
        return "cuda", ""
    if driver >= 12000 and capability <= (9, 0):
        return "cuda-older", ""
    newest = "580" if capability > (9, 0) else "525"
    return "cuda" if capability > (9, 0) else "cuda-older", f"{has}; install NVIDIA's driver {newest} or newer"


def probe_cuda(load: Load = _load_library) -> list[Device]:
    """NVIDIA's devices. Raises ``OSError`` where there is no driver."""
    library = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    if library.cuInit(0):
        return []
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    driver = number.value
    library.cuDeviceGetCount(ctypes.byref(number))
    found = []
    for n in range(number.value):
        device, part, memory, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
        if library.cuDeviceGet(ctypes.byref(device), n):
            continue
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        capability = []
        for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
            library.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
            capability.append(part.value)
        build, doubt = judge_cuda((capability[0], capability[1]), driver)
        found.append(Device(build, name.value.decode("utf-8", "replace"), memory.value, doubt))
    return found


def _read_properties(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[name] = int(value)
    return found


def probe_rocm(nodes: Path = KFD) -> list[Device]:
    """AMD's devices, from the table of the kernel's driver. Raises ``OSError`` where there is none."""
    found = []
    for node in sorted(nodes.iterdir(), key=lambda path: path.name.zfill(4)):
        try:
            properties = _read_properties(node / "properties")
        except OSError:
            continue
        version = properties.get("gfx_target_version", 0)
        if not version or not properties.get("simd_count"):
            continue  # a processor
        target = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
        memory = 0
        for bank in sorted(node.glob("mem_banks/*/properties")):
            memory = max(memory, _read_properties(bank).get("size_in_bytes", 0))
        doubt = "" if target in ROCM_TARGETS else f"torch's build for ROCm has nothing for {target}"
        found.append(Device("rocm", f"AMD {target}", memory, doubt))
    return found


class _ZeProperties(ctypes.Structure):
    """ze_device_properties_t of Level Zero's specification."""

    _fields_ = [
        ("stype", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("type", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("subdevice", ctypes.c_uint32),
        ("clock", ctypes.c_uint32),
        ("allocation", ctypes.c_uint64),
        ("numbers", ctypes.c_uint32 * 7),
        ("timer", ctypes.c_uint64),
        ("bits", ctypes.c_uint32 * 2),
        ("uuid", ctypes.c_uint8 * 16),
        ("name", ctypes.c_char * 256),
    ]


def probe_xpu(load: Load = _load_library) -> list[Device]:
    """Intel's devices. Raises ``OSError`` where there is no Level Zero."""
    library = load("ze_loader.dll" if sys.platform == "win32" else "libze_loader.so.1")
    if library.zeInit(0):
        return []
    found: list[Device] = []
    count = ctypes.c_uint32()
    library.zeDriverGet(ctypes.byref(count), None)
    drivers = (ctypes.c_void_p * count.value)()
    library.zeDriverGet(ctypes.byref(count), drivers)
    for driver in drivers:
        number = ctypes.c_uint32()
        library.zeDeviceGet(ctypes.c_void_p(driver), ctypes.byref(number), None)
        devices = (ctypes.c_void_p * number.value)()
        library.zeDeviceGet(ctypes.c_void_p(driver), ctypes.byref(number), devices)
        for device in devices:
            properties = _ZeProperties(stype=3)
            library.zeDeviceGetProperties(ctypes.c_void_p(device), ctypes.byref(properties))
            # a graphics device of Intel's
            if properties.type != 1 or properties.vendor != _INTEL:
                continue
            name = properties.name.decode("utf-8", "replace")
            doubt = (
                "it shares the processor's memory; only those of Core Ultra and newer can be used" if properties.flags & 1 else ""
            )
            found.append(Device("xpu", name, properties.allocation, doubt))
    return found


def probe_metal() -> list[Device]:
    """Apple's own processors, all of which have it."""
    if find_system() != "macos-arm64":
        raise OSError("no Metal")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [Device("metal", platform.processor() or "Apple", memory)]


def probe() -> Devices:
    """All devices of this machine; the processor is the last."""
    found: list[Device] = []
    notes = []
    for name, ask in (("NVIDIA", probe_cuda), ("AMD", probe_rocm), ("Intel", probe_xpu), ("Metal", probe_metal)):
        try:
            found += ask()
        except (OSError, AttributeError, ValueError) as error:
            notes.append(f"{name}: {error}")
    found.sort(key=lambda device: (bool(device.doubt), ("cuda", "cuda-older", "metal", "rocm", "xpu").index(device.build)))
    found.append(Device("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} threads"))
    return Devices(tuple(found), tuple(notes))


def write_devices(devices: Devices) -> str:
    """As one line of JSON."""
    return json.dumps(asdict(devices))


def probe_in_child(command: list[str]) -> Devices:
    """Ask in a process of its own, ``command``, that prints what ``write_devices`` makes. Where it crashes or hangs, the processor
    is what there is, and the notes say why."""
    cpu = Device("cpu", platform.machine())
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False, **make_hidden())
        found = json.loads(done.stdout)
        return Devices(tuple(Device(**device) for device in found["found"]), tuple(found["notes"]))
    except subprocess.TimeoutExpired:
        return Devices((cpu,), (f"The drivers did not answer within {PROBE_SECONDS:.0f} seconds.",))
    except (OSError, ValueError, KeyError, TypeError):
        return Devices((cpu,), ("The drivers could not be asked.",))
