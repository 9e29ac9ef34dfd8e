"""Which devices this machine has that torch can compute on, asked of the drivers themselves.

The drivers are spoken to through their own libraries: CUDA's driver API (cuInit and so on), Level Zero's for Intel, the kernel's
table of AMD's devices under ``/sys/class/kfd``. A driver can crash or hang who asks it, so that ``probe_in_children`` asks each in
a process of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .lock_file import find_system
from .processes import Children, make_environment, read_last

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
#: the folder of torch's index that has the build
_TORCH_FOLDERS = {"cuda": "cu130", "cuda-older": "cu126", "rocm": "rocm7.2", "xpu": "xpu", "cpu": "cpu"}
#: the builds that PyPI has
_ON_PYPI = {("linux-x64", "cuda"), ("windows-x64", "cpu"), ("macos-arm64", "metal")}
PROBE_SECONDS = 20.0
KFD, KFD_DEVICE = Path("/sys/class/kfd/kfd/topology/nodes"), Path("/dev/kfd")
#: AMD's devices that torch's build for ROCm has kernels for
ROCM_TARGETS = frozenset(
    ("gfx900", "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102")
    + ("gfx1150", "gfx1151", "gfx1200", "gfx1201")
)
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_INTEL = 0x8086
#: what cuInit says where there is a driver and no device
_NO_DEVICE = 100

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
    """All devices that were found, the best first, and sentences about what could not be asked though it is there."""

    found: tuple[Device, ...]
    notes: tuple[str, ...] = ()

    def choose(self, system: str) -> str:
        """The build for the best device that can be used, empty where the platform has none."""
        builds = BUILDS.get(system, ())
        usable = [device.build for device in self.found if device.build in builds and not device.doubt]
        return usable[0] if usable else builds[-1] if builds else ""


def find_torch_folder(system: str, build: str) -> str:
    """The folder of torch's index that has a build, empty where PyPI has it."""
    return "" if (system, build) in _ON_PYPI else _TORCH_FOLDERS[build]


class DriverError(Exception):
    """A driver is there and does not answer as it should; the text is a sentence for people."""


def _load_library(name: str) -> Any:
    return ctypes.CDLL(name)


def judge_cuda(capability: tuple[int, int], driver: int) -> tuple[str, str]:
    """(build, doubt) for a device of NVIDIA's: its compute capability, and the CUDA version of its driver times 1000."""
    has = f"its driver is for CUDA {driver // 1000}.{driver % 1000 // 10}"
    if capability < (5, 0):
        return "cuda-older", "it is older than the cards that PyTorch can use; the processor is used instead"
    if driver >= 13000 and capability >= (7, 5):
        return "cuda", ""
    if driver >= 12000 and capability <= (9, 0):
        return "cuda-older", ""
    newest = "580" if capability > (9, 0) else "525"
    return "cuda" if capability > (9, 0) else "cuda-older", f"{has}; install NVIDIA's driver {newest} or newer"


def probe_cuda(load: Load = _load_library) -> list[Device]:
    """NVIDIA's devices. Raises ``OSError`` where there is no driver, and ``DriverError``."""
    library = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")

    def ask(name: str, *arguments: Any) -> None:
        if status := getattr(library, name)(*arguments):
            raise DriverError(
                f"NVIDIA's driver is there but does not work (error {status}); restart the computer, or install the driver again."
            )

    if library.cuInit(0) == _NO_DEVICE:
        return []
    ask("cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    ask("cuDriverGetVersion", ctypes.byref(version))
    ask("cuDeviceGetCount", ctypes.byref(count))
    found = []
    for n in range(count.value):
        device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
        major, minor = ctypes.c_int(), ctypes.c_int()
        ask("cuDeviceGet", ctypes.byref(device), n)
        ask("cuDeviceGetName", name, len(name), device)
        ask("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        ask("cuDeviceGetAttribute", ctypes.byref(major), _CAPABILITY_MAJOR, device)
        ask("cuDeviceGetAttribute", ctypes.byref(minor), _CAPABILITY_MINOR, device)
        build, doubt = judge_cuda((major.value, minor.value), version.value)
        found.append(Device(build, name.value.decode("utf-8", "replace"), memory.value, doubt))
    return found


def _read_properties(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[name] = int(value)
    return found


def probe_rocm(nodes: Path = KFD, device: Path = KFD_DEVICE) -> list[Device]:
    """AMD's devices, from the table of the kernel's driver. Raises ``OSError`` where there is none."""
    found = []
    may_use = os.access(device, os.R_OK | os.W_OK)
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
            with suppress(OSError):
                memory = max(memory, _read_properties(bank).get("size_in_bytes", 0))
        doubt = "" if target in ROCM_TARGETS else f"PyTorch cannot use {target}; the processor is used instead"
        if not doubt and not may_use:
            doubt = f"you may not use it; have your user added to the group that owns {device} ('render'), and log in again"
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
    """Intel's devices. Raises ``OSError`` where there is no Level Zero, and ``DriverError``."""
    library = load("ze_loader.dll" if sys.platform == "win32" else "libze_loader.so.1")

    def ask(name: str, *arguments: Any) -> None:
        if status := getattr(library, name)(*arguments):
            raise DriverError(
                f"Intel's driver is there but does not work (error {status & 0xFFFFFFFF:#x}); restart the computer, or install the "
                "driver again."
            )

    # the loader alone, without a driver, has nothing to say
    if library.zeInit(0):
        return []
    found: list[Device] = []
    count = ctypes.c_uint32()
    ask("zeDriverGet", ctypes.byref(count), None)
    drivers = (ctypes.c_void_p * count.value)()
    ask("zeDriverGet", ctypes.byref(count), drivers)
    for driver in drivers:
        number = ctypes.c_uint32()
        ask("zeDeviceGet", ctypes.c_void_p(driver), ctypes.byref(number), None)
        devices = (ctypes.c_void_p * number.value)()
        ask("zeDeviceGet", ctypes.c_void_p(driver), ctypes.byref(number), devices)
        for device in devices:
            properties = _ZeProperties(stype=3)
            ask("zeDeviceGetProperties", ctypes.c_void_p(device), ctypes.byref(properties))
            # a graphics device of Intel's
            if properties.type != 1 or properties.vendor != _INTEL:
                continue
            name = properties.name.decode("utf-8", "replace")
            doubt = (
                "only those of Core Ultra processors and newer can be used; choose 'Intel, XPU' if it is one"
                if properties.flags & 1
                else ""
            )
            found.append(Device("xpu", name, doubt=doubt))
    return found


def probe_metal() -> list[Device]:
    """Apple's own processors, all of which have it."""
    if find_system() != "macos-arm64":
        raise OSError("no Metal")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [Device("metal", "Apple silicon", memory)]


#: whose devices are looked for, and whose drivers run for it in the process that asks
PROBES: dict[str, Callable[[], list[Device]]] = {
    "NVIDIA": probe_cuda,
    "AMD": probe_rocm,
    "Intel": probe_xpu,
    "Apple": probe_metal,
}
DRIVERS = ("NVIDIA", "Intel")


def probe(maker: str) -> Devices:
    """The devices of a maker's that this machine has."""
    try:
        return Devices(tuple(PROBES[maker]()))
    except DriverError as error:
        return Devices((), (str(error),))
    except (OSError, AttributeError, ValueError):
        # no driver, or one of another kind: the usual case
        return Devices(())


def merge(parts: list[Devices]) -> Devices:
    """All devices, the best first and the processor last."""
    found = [device for part in parts for device in part.found]
    found.sort(key=lambda device: (bool(device.doubt), ("cuda", "cuda-older", "metal", "rocm", "xpu").index(device.build)))
    found.append(Device("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} threads"))
    return Devices(tuple(found), tuple(note for part in parts for note in part.notes))


def write_devices(devices: Devices) -> str:
    """As one line of JSON."""
    return json.dumps(asdict(devices))


def read_devices(text: str) -> Devices:
    """What ``write_devices`` has made, the last thing in a text. Raises ``ValueError``."""
    found = read_last(text, dict)
    try:
        return Devices(tuple(Device(**device) for device in found["found"]), tuple(map(str, found["notes"])))
    except (KeyError, TypeError) as error:
        raise ValueError("these are no devices") from error


def make_note(what: str, maker: str) -> Devices:
    """No device, and why."""
    return Devices((), (f"{maker}'s driver {what}, or choose the device yourself.",))


def probe_in_children(command: list[str], children: Children) -> Devices:
    """Ask each maker's driver in a process of its own, all at the same time: ``command`` with the maker's name prints what
    ``write_devices`` makes, and watches its standard input. A driver that crashes or hangs takes only its own devices away, and the
    notes say so."""

    def ask(maker: str) -> Devices:
        try:
            code, said = children.ask([*command, maker], make_environment(), PROBE_SECONDS, guard=False)
            if code:
                raise ValueError
            return read_devices(said)
        except subprocess.TimeoutExpired:
            return make_note(f"did not answer within {PROBE_SECONDS:.0f} seconds and is left out; restart the computer", maker)
        except (OSError, ValueError):
            return make_note("crashed when it was asked and is left out; install a newer one", maker)

    # Macs have no such drivers
    makers = DRIVERS if sys.platform != "darwin" else ()
    with ThreadPoolExecutor(len(DRIVERS)) as pool:
        parts = [*pool.map(ask, makers), *(probe(maker) for maker in PROBES if maker not in DRIVERS)]
    return merge(parts)
