"""Why a backend ended: from logs as they look, to one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentman.blender_addon.failures import describe, explain

TRACEBACK = """Traceback (most recent call last):
  File "/opt/latentman/backend/launch.py", line 40, in <module>
    sys.exit(main())
  File "/opt/latentman/backend/server.py", line 15, in <module>
    {line}
{raised}
"""
STARTED = "2026-05-01 09:30:00.123+02:00 {level} latentman.backend[4711] {message}\n"


def _traced(raised, line="import torch"):
    return TRACEBACK.format(line=line, raised=raised)


CASES = {
    "module": (_traced("ModuleNotFoundError: No module named 'msgspec'"), 1, "its Python has no msgspec; install"),
    "submodule": (_traced("ModuleNotFoundError: No module named 'torch._C'"), 1, "its Python has no torch; install"),
    "own words": (
        "diffusers is not installed in this Python; install the backend's packages: pip install 'latentman[backend]'\n",
        2,
        "its Python has no diffusers; install",
    ),
    "own module": (_traced("ModuleNotFoundError: No module named 'latentman.shared.curve_keys'"), 1, "its files are incomplete"),
    "survived module": (
        _traced("ModuleNotFoundError: No module named 'triton'")
        + "A matching Triton is not available.\n"
        + _traced("KeyError: 'x'"),
        1,
        "KeyError: 'x'",
    ),
    "libraries": (
        _traced(
            "RuntimeError: Failed to import diffusers.loaders because of the following error (look up to see its traceback):\n"
            "No module named 'peft'"
        ),
        1,
        "its Python has no peft; install",
    ),
    "shared object": (
        _traced("ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory"),
        1,
        "cannot be loaded (libcudnn.so.9: cannot open shared object file: No such file or directory); install the",
    ),
    "DLL": (
        _traced('OSError: [WinError 126] The specified module could not be found. Error loading "C:\\torch\\lib\\c10.dll"'),
        1,
        "a library of its Python cannot be loaded ([WinError 126]",
    ),
    "address": (
        "tcp://127.0.0.1:48573 cannot be used (Address already in use (addr='tcp://127.0.0.1:48573')); connect to the backend that "
        "is running there, or choose another address\n",
        2,
        "another program uses the address tcp://127.0.0.1:48573; connect",
    ),
    "address traced": (
        _traced("zmq.error.ZMQError: Address already in use (addr='tcp://127.0.0.1:5555')", "router.bind(endpoint)"),
        1,
        "another program uses the address tcp://127.0.0.1:5555; connect",
    ),
    "address on Windows": (
        _traced("OSError: [WinError 10048] Only one usage of each socket address is normally permitted"),
        1,
        "another program uses its address; connect",
    ),
    "CUDA memory": (
        _traced("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"),
        1,
        "the graphics card ran out of memory; close",
    ),
    "memory": (
        _traced("RuntimeError: [enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
        1,
        "memory ran out; close",
    ),
    "memory error": (_traced("MemoryError"), 1, "memory ran out; close"),
    "bad_alloc": (
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        -6,
        "memory ran out",
    ),
    "disk": (_traced("OSError: [Errno 28] No space left on device"), 1, "the disk is full; make room"),
    "driver": (
        _traced("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."),
        1,
        "torch does not fit this graphics card's driver (The NVIDIA driver on your system is too old (found version 11040))",
    ),
    "killed": ("", -9, "it was killed (signal 9), probably because memory ran out; close"),
    "killed after a traceback": (_traced("ValueError: survived"), -9, "it was killed (signal 9)"),
    "killed below a shell": ("Killed\n", 137, "it was killed (signal 9)"),
    "segfault": (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File x",
        -11,
        "SIGSEGV",
    ),
    "segfault after a warning": ("x.py:1: UserWarning: No module named 'xformers'\n", -11, "it crashed (signal 11, SIGSEGV)"),
    "abort": ("terminate called after throwing an instance of 'c10::Error'\n", -6, "it crashed (signal 6, SIGABRT)"),
    "old processor": ("", -4, "this processor may be too old"),
    "ended": ("", -15, "it was ended from outside (signal 15)"),
    "access violation": ("", 3221225477, "it crashed (access violation, code 0xC0000005)"),
    "access violation, signed": ("", -1073741819, "it crashed (access violation, code 0xC0000005)"),
    "Windows interrupt": ("", 0xC000013A, "interrupted from outside"),
    "other Python": (
        "Python 3.9 runs here (/usr/bin/python3); LatentMan's backend needs 3.11 to 3.14. Choose another Python.\n",
        2,
        "Python 3.9 runs here (/usr/bin/python3); LatentMan's backend needs 3.11 to 3.14. Choose another Python",
    ),
    "no file": (
        "python3: can't open file '/x/launch.py': [Errno 2] No such file or directory\n",
        2,
        "can't open file '/x/launch.py'",
    ),
    "qualified": (_traced("latentman.shared.shot.ShotError: The model is gone."), 1, "ShotError: The model is gone"),
    "chained": (
        _traced("KeyError: 'a'")
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + _traced("ValueError: b"),
        1,
        "ValueError: b",
    ),
    "logged": (
        STARTED.format(level="CRITICAL", message="latentman serve ended unexpectedly") + _traced("ValueError: wrong keys"),
        1,
        "ValueError: wrong keys",
    ),
    "noise": (
        STARTED.format(level="ERROR", message="The keys are damaged.")
        + "/x/torch.py:3: FutureWarning: soon gone\n  warn(x)\nLoading:  33%|###   | 2/6 [00:00<00:00, 19.2it/s]\n"
        + STARTED.format(level="WARNING", message="a warning"),
        1,
        "The keys are damaged",
    ),
    "silent": ("", 3, "exit code 3"),
    "unknown": ("\n \n", None, "nothing is known"),
    "long": ("x" * 5000, 1, "x" * 197 + "..."),
    "zero": ("", 0, "exit code 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_log_becomes_a_clause(name):
    text, code, expected = CASES[name]
    clause = explain(text, code)
    assert expected in clause
    assert "Traceback" not in clause and "\n" not in clause and clause.removesuffix("...")[-1] != "." and len(clause) < 400


@pytest.mark.parametrize(("listened", "begins"), [(False, "The backend did not start: "), (True, "The backend stopped: ")])
def test_the_sentence_ends_with_where_to_look(listened, begins):
    log = Path("/logs/backend-output.log")
    sentence = describe("", -9, listened, log)
    assert sentence.startswith(begins + "it was killed (signal 9)") and sentence.endswith(str(log))
