"""Which devices *Set Up* finds: drivers of the test's own that answer, refuse, hang and crash."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys

import pytest

from latentman.backend.installation import devices as devices_module
from latentman.backend.installation.devices import (
    BUILDS,
    LABELS,
    PROBES,
    Device,
    Devices,
    DriverError,
    find_torch_folder,
    judge_cuda,
    merge,
    probe,
    probe_cuda,
    probe_in_children,
    probe_metal,
    probe_rocm,
    probe_xpu,
    read_devices,
    write_devices,
)
from latentman.backend.installation.processes import Children
from tests.small_set_up import is_alive


class Cuda:
    """CUDA's driver API, as far as it is asked: functions with C's way to give results back."""

    def __init__(self, cards, driver=13000, **failures):
        self.cards, self.driver, self.failures = cards, driver, failures

    def __getattr__(self, name):
        return lambda *arguments: self.failures.get(name, 0) or getattr(self, f"_{name}")(*arguments)

    def _cuInit(self, flags):
        assert flags == 0
        return 0

    def _cuDriverGetVersion(self, place):
        place._obj.value = self.driver
        return 0

    def _cuDeviceGetCount(self, place):
        place._obj.value = len(self.cards)
        return 0

    def _cuDeviceGet(self, place, number):
        place._obj.value = number
        return 0

    def _cuDeviceGetName(self, place, length, device):
        place.value = self.cards[device.value][0].encode()[: length - 1]
        return 0

    def _cuDeviceTotalMem_v2(self, place, device):
        place._obj.value = self.cards[device.value][2]
        return 0

    def _cuDeviceGetAttribute(self, place, attribute, device):
        place._obj.value = self.cards[device.value][1][{75: 0, 76: 1}[attribute]]
        return 0


def test_nvidia_s_cards_in_their_order():
    cards = [("NVIDIA RTX 6000", (8, 9), 48 << 30), ("GeForce GTX 1080", (6, 1), 8 << 30), ("Tésla", (3, 5), 1 << 30)]
    asked = []

    def load(name):
        asked.append(name)
        return Cuda(cards)

    found = probe_cuda(load)
    assert asked == ["nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"]
    assert [(device.build, device.name, device.memory) for device in found] == [
        ("cuda", "NVIDIA RTX 6000", 48 << 30),
        ("cuda-older", "GeForce GTX 1080", 8 << 30),
        ("cuda-older", "Tésla", 1 << 30),
    ]
    assert [bool(device.doubt) for device in found] == [False, False, True]


@pytest.mark.parametrize(
    ("capability", "driver", "build", "has_doubt"),
    [
        ((7, 5), 13000, "cuda", False),
        ((8, 9), 13020, "cuda", False),
        ((12, 0), 13000, "cuda", False),
        ((7, 0), 13000, "cuda-older", False),
        ((6, 1), 12040, "cuda-older", False),
        ((8, 9), 12080, "cuda-older", False),
        ((9, 0), 12000, "cuda-older", False),
        ((5, 0), 12000, "cuda-older", False),
        # a new card with a driver that neither build can use
        ((12, 0), 12080, "cuda", True),
        ((10, 0), 12090, "cuda", True),
        ((8, 6), 11080, "cuda-older", True),
        ((3, 7), 12040, "cuda-older", True),
        ((3, 7), 13000, "cuda-older", True),
    ],
)
def test_which_build_a_card_and_driver_take(capability, driver, build, has_doubt):
    found, doubt = judge_cuda(capability, driver)
    assert (found, bool(doubt)) == (build, has_doubt)
    # what is doubtful says what to do, and is not chosen
    assert not doubt or "install" in doubt or "processor" in doubt
    chosen = Devices((Device(found, "a card", 0, doubt), Device("cpu", "x"))).choose("linux-x64")
    assert chosen == ("cpu" if has_doubt else build)


@pytest.mark.parametrize("failing", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetAttribute"])
def test_a_driver_of_nvidia_s_that_does_not_work_is_said(failing, monkeypatch):
    def ask():
        return probe_cuda(lambda name: Cuda([("a", (8, 9), 1)], **{failing: 999}))

    with pytest.raises(DriverError, match="999"):
        ask()
    monkeypatch.setitem(PROBES, "NVIDIA", ask)
    found = probe("NVIDIA")
    assert found.found == () and "NVIDIA" in found.notes[0] and ";" in found.notes[0]


def test_a_driver_without_a_card_is_nothing():
    assert probe_cuda(lambda name: Cuda([], cuInit=100)) == [] == probe_cuda(lambda name: Cuda([]))


def test_no_driver_is_nothing(monkeypatch, tmp_path):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    for maker, ask in (
        ("NVIDIA", lambda: probe_cuda(load)),
        ("Intel", lambda: probe_xpu(load)),
        ("AMD", lambda: probe_rocm(tmp_path / "none")),
        # a library of that name that is another
        ("NVIDIA", lambda: probe_cuda(lambda name: object())),
    ):
        monkeypatch.setitem(PROBES, maker, ask)
        assert probe(maker) == Devices(())


# the offsets of ze_device_properties_t on platforms of 64 bits, counted by hand from the specification
_TYPE, _VENDOR, _FLAGS, _ALLOCATION, _NAME = 16, 20, 28, 40, 112


class LevelZero:
    """Level Zero: drivers -> devices as (type, vendor, flags, name)."""

    def __init__(self, drivers, **failures):
        self.drivers, self.failures = drivers, failures

    def __getattr__(self, name):
        return lambda *arguments: self.failures.get(name, 0) or getattr(self, f"_{name}")(*arguments)

    def _zeInit(self, flags):
        return 0

    @staticmethod
    def _list(count, place, handles):
        if place is None:
            count._obj.value = len(handles)
        else:
            for n, handle in enumerate(handles):
                place[n] = handle
        return 0

    def _zeDriverGet(self, count, place):
        return self._list(count, place, [1000 * (n + 1) for n in range(len(self.drivers))])

    def _zeDeviceGet(self, driver, count, place):
        devices = self.drivers[driver.value // 1000 - 1]
        return self._list(count, place, [driver.value + n for n in range(len(devices))])

    def _zeDeviceGetProperties(self, device, place):
        kind, vendor, flags, name = self.drivers[device.value // 1000 - 1][device.value % 1000]
        base = ctypes.addressof(place._obj)
        assert ctypes.c_uint32.from_address(base).value == 3
        ctypes.c_uint32.from_address(base + _TYPE).value = kind
        ctypes.c_uint32.from_address(base + _VENDOR).value = vendor
        ctypes.c_uint32.from_address(base + _FLAGS).value = flags
        ctypes.c_uint64.from_address(base + _ALLOCATION).value = 4 << 30
        ctypes.memmove(base + _NAME, name.encode() + b"\0", len(name) + 1)
        return 0


def test_intel_s_cards():
    drivers = [
        [(1, 0x8086, 0, "Intel Arc B580"), (1, 0x8086, 1, "Intel UHD 770"), (4, 0x8086, 0, "NPU")],
        [(1, 0x10DE, 0, "another")],
    ]
    found = probe_xpu(lambda name: LevelZero(drivers))
    assert [(device.name, bool(device.doubt)) for device in found] == [("Intel Arc B580", False), ("Intel UHD 770", True)]
    assert {device.build for device in found} == {"xpu"}
    assert probe_xpu(lambda name: LevelZero([])) == []
    # the loader without a driver
    assert probe_xpu(lambda name: LevelZero([], zeInit=0x78000001)) == []
    with pytest.raises(DriverError, match="0x70000001"):
        probe_xpu(lambda name: LevelZero(drivers, zeDeviceGetProperties=0x70000001))


def _write_node(nodes, number, memory=0, **properties):
    node = nodes / str(number)
    node.mkdir(parents=True)
    (node / "properties").write_text("".join(f"{name} {value}\n" for name, value in properties.items()))
    if memory:
        for bank, size in ((0, memory), (1, 1 << 20)):
            (node / "mem_banks" / str(bank)).mkdir(parents=True)
            (node / "mem_banks" / str(bank) / "properties").write_text(f"heap_type 1\nsize_in_bytes {size}\nflags 0\n")


@pytest.mark.parametrize(
    ("version", "target", "can"),
    [
        (90010, "gfx90a", True),
        (90402, "gfx942", True),
        (100300, "gfx1030", True),
        (110000, "gfx1100", True),
        (110501, "gfx1151", True),
        (120001, "gfx1201", True),
        (90000, "gfx900", True),
        (90006, "gfx906", True),
        (80003, "gfx803", False),
        (100306, "gfx1036", False),
        (110003, "gfx1103", False),
    ],
)
def test_amd_s_cards(tmp_path, version, target, can):
    nodes, device = tmp_path / "nodes", tmp_path / "kfd"
    device.write_bytes(b"")
    _write_node(nodes, 0, cpu_cores_count=16, simd_count=0, gfx_target_version=0)
    _write_node(nodes, 1, memory=24 << 30, simd_count=192, gfx_target_version=version, vendor_id=4098)
    (found,) = probe_rocm(nodes, device)
    assert (found.name, found.memory, found.build) == (f"AMD {target}", 24 << 30, "rocm")
    assert (not found.doubt) is can
    device.unlink()
    (found,) = probe_rocm(nodes, device)
    assert found.doubt


def test_amd_s_table_with_holes(tmp_path):
    nodes, device = tmp_path / "nodes", tmp_path / "kfd"
    device.write_bytes(b"")
    _write_node(nodes, 10, simd_count=64, gfx_target_version=110000)
    _write_node(nodes, 2, simd_count=64, gfx_target_version=100300)
    (nodes / "3").mkdir()
    (nodes / "4").mkdir()
    (nodes / "4" / "properties").write_bytes(b"\xff\xfe simd_count\nno number here\nsimd_count many\n")
    assert [found.name for found in probe_rocm(nodes, device)] == ["AMD gfx1030", "AMD gfx1100"]


def test_apple_s(monkeypatch):
    monkeypatch.setattr(devices_module, "find_system", lambda: "macos-arm64")
    (found,) = probe_metal()
    assert found.build == "metal" and found.memory > 1 << 28
    monkeypatch.setattr(devices_module, "find_system", lambda: "macos-x64")
    with pytest.raises(OSError):
        probe_metal()


def test_the_best_device_is_first_and_the_processor_last():
    parts = [
        Devices((Device("xpu", "a"), Device("cuda", "b", 0, "old driver"))),
        Devices((Device("cuda-older", "c"),), ("A note.",)),
    ]
    found = merge(parts)
    assert [device.build for device in found.found] == ["cuda-older", "xpu", "cuda", "cpu"] and found.notes == ("A note.",)
    assert (
        found.choose("linux-x64") == "cuda-older" and found.choose("macos-arm64") == "metal" and found.choose("linux-arm64") == ""
    )


@pytest.mark.parametrize("system", BUILDS)
def test_every_build_has_a_label_and_a_place(system):
    for build in BUILDS[system]:
        assert LABELS[build]
        folder = find_torch_folder(system, build)
        assert (folder == "") == ((system, build) in {("linux-x64", "cuda"), ("windows-x64", "cpu"), ("macos-arm64", "metal")})


def test_devices_are_written_and_read_whatever_stands_around_them():
    found = Devices((Device("cuda", "Karte „Ä“", 1 << 34, "x"),), ("n",))
    assert read_devices(f"a driver's warning\n{{\n{write_devices(found)}\n") == found
    for text in ("", "{}", "[1]", '{"found": [{"no": 1}], "notes": []}', "nothing"):
        with pytest.raises(ValueError):
            read_devices(text)


def _write_program(tmp_path, lines):
    """A program in place of ``install.py probe``: ``maker`` is whom it is asked for."""
    path = tmp_path / "probe.py"
    path.write_text("import json, os, signal, sys, time\nmaker = sys.argv[1]\n" + "\n".join(lines))
    return [sys.executable, "-I", str(path)]


_ANSWER = """
found = [{"build": "xpu", "name": maker, "memory": 1, "doubt": ""}] if maker == "Intel" else []
print(json.dumps({"found": found, "notes": []}))
"""


@pytest.mark.parametrize(
    "crash", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "sys.exit(3)", "print('{')", "raise OSError"], ids=str
)
def test_a_driver_that_crashes_takes_only_its_own_devices_away(tmp_path, crash):
    found = probe_in_children(_write_program(tmp_path, [f"if maker == 'NVIDIA': {crash}; sys.exit()", _ANSWER]), Children())
    assert [device.build for device in found.found] == ["xpu", "cpu"]
    assert len(found.notes) == 1 and "NVIDIA's driver crashed" in found.notes[0] and ";" in found.notes[0]


def test_a_driver_that_hangs_is_left_out_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(devices_module, "PROBE_SECONDS", 1.0)
    said = tmp_path / "pid"
    lines = [f"if maker == 'NVIDIA': open({str(said)!r}, 'w').write(str(os.getpid())); time.sleep(600)", _ANSWER]
    found = probe_in_children(_write_program(tmp_path, lines), Children())
    assert "NVIDIA's driver did not answer" in found.notes[0]
    if said.exists() and said.read_text():
        assert not is_alive(int(said.read_text()))


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc makes the driver")
def test_a_real_library_is_asked_through_c(tmp_path):
    """The same through a compiled library: sizes and ways of passing are those of C."""
    source = tmp_path / "cuda.c"
    source.write_text(
        """
        #include <stddef.h>
        #include <string.h>
        int cuInit(unsigned flags) { return flags ? 1 : 0; }
        int cuDriverGetVersion(int *v) { *v = 13010; return 0; }
        int cuDeviceGetCount(int *n) { *n = 2; return 0; }
        int cuDeviceGet(int *d, int n) { *d = n + 7; return 0; }
        int cuDeviceGetName(char *name, int length, int d) { strncpy(name, d == 7 ? "First" : "Second", length); return 0; }
        int cuDeviceTotalMem_v2(size_t *bytes, int d) { *bytes = (size_t)(d == 7 ? 80 : 8) << 30; return 0; }
        int cuDeviceGetAttribute(int *v, int which, int d) {
            *v = which == 75 ? (d == 7 ? 9 : 6) : (which == 76 ? 0 : -1);
            return 0;
        }
        """
    )
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    found = probe_cuda(lambda name: ctypes.CDLL(str(library)))
    assert [(device.build, device.name, device.memory >> 30) for device in found] == [
        ("cuda", "First", 80),
        ("cuda-older", "Second", 8),
    ]


def test_this_machine_through_the_real_command():
    from latentman.backend.installation.command import ENTRY

    children = Children()
    found = probe_in_children([sys.executable, "-I", "-B", str(ENTRY), "probe"], children)
    assert found.found[-1].build == "cpu" and not [note for note in found.notes if "crashed" in note]
    assert json.loads(write_devices(found))["found"]
