"""On Windows: processes that the system ends when Blender ends, however that happens. Nothing here uses bpy."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_EXTENDED_LIMIT_INFORMATION = 9
_KILL_ON_JOB_CLOSE = 0x2000
_SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001
_HANDLE = ctypes.c_void_p


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_user_time", ctypes.c_int64),
        ("per_job_user_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("least_working_set", ctypes.c_size_t),
        ("most_working_set", ctypes.c_size_t),
        ("most_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimits),
        ("counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


def _load_kernel() -> Any:
    """kernel32 with the types of the functions that are used here."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
    for name, result, arguments in (
        ("CreateJobObjectW", _HANDLE, (ctypes.c_void_p, ctypes.c_wchar_p)),
        ("SetInformationJobObject", ctypes.c_int, (_HANDLE, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)),
        ("OpenProcess", _HANDLE, (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)),
        ("AssignProcessToJobObject", ctypes.c_int, (_HANDLE, _HANDLE)),
        ("CloseHandle", ctypes.c_int, (_HANDLE,)),
    ):
        function = getattr(kernel, name)
        function.restype, function.argtypes = result, arguments
    return kernel


class KillOnClose:
    """A job object for one process and those that it starts. They end when it is closed, and with this process."""

    def __init__(self, pid: int, kernel: Any = None) -> None:
        """Raises ``OSError`` when the system refuses, for one because the process has ended. ``kernel`` is kernel32."""
        self._kernel = kernel or _load_kernel()
        self._job = self._kernel.CreateJobObjectW(None, None)
        if not self._job:
            raise OSError("no job object can be made")
        try:
            limits = _ExtendedLimits()
            limits.basic.flags = _KILL_ON_JOB_CLOSE
            if not self._kernel.SetInformationJobObject(
                self._job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
            ):
                raise OSError("the job object takes no limits")
            process = self._kernel.OpenProcess(_SET_QUOTA_AND_TERMINATE, 0, pid)
            if not process:
                raise OSError(f"the process {pid} cannot be opened")
            try:
                if not self._kernel.AssignProcessToJobObject(self._job, process):
                    raise OSError(f"the process {pid} cannot be put into a job object")
            finally:
                self._kernel.CloseHandle(process)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """End what still runs in it; a second call does nothing."""
        job, self._job = self._job, None
        if job:
            self._kernel.CloseHandle(job)


def tie_to_this_process(pid: int) -> KillOnClose | None:
    """Have the system end a process with this one; None where it is not Windows, or where Windows refuses."""
    if os.name != "nt":
        return None
    try:
        return KillOnClose(pid)
    except OSError:
        return None
