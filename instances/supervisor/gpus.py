"""What NVIDIA's management library (NVML) tells about the GPUs of this host; without a driver, nothing."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

RETRY_S = 60.0


def load_nvml() -> Any:
    """Import NVML's own binding. It finds the driver's library when it is initialised, not before."""
    return importlib.import_module("pynvml")


class GpuReader:
    """Used from one thread. A driver that is missing, or that is just being replaced, makes an empty answer."""

    def __init__(self, load: Callable[[], Any] = load_nvml) -> None:
        self._load = load
        self._nvml: Any = None
        self._is_open = False
        self._has_no_library = False
        self._try_at = 0.0

    def read_gpus(self) -> list[dict[str, Any]]:
        """Describe every GPU, with ``processes``: bytes of its memory by pid. Raises nothing."""
        if not self._is_open and not self._open():
            return []
        try:
            count = self._nvml.nvmlDeviceGetCount()
            return [self._read_gpu(index) for index in range(count)]
        except self._nvml.NVMLError as error:
            logger.warning("the GPUs can't be read (%s); trying again in %g s", error, RETRY_S)
            self.close()
            self._try_at = time.monotonic() + RETRY_S
            return []

    def close(self) -> None:
        """Let go of the driver."""
        if self._is_open:
            self._is_open = False
            self._ask("nvmlShutdown")

    def _open(self) -> bool:
        if self._has_no_library or time.monotonic() < self._try_at:
            return False
        self._try_at = time.monotonic() + RETRY_S
        if self._nvml is None:
            self._nvml = self._load()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError_LibraryNotFound as error:
            self._has_no_library = True
            logger.debug("no GPU figures: %s", error)
        except self._nvml.NVMLError as error:
            logger.debug("no GPU figures for now: %s", error)
        else:
            self._is_open = True
        return self._is_open

    def _read_gpu(self, index: int) -> dict[str, Any]:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        use = self._ask("nvmlDeviceGetUtilizationRates", handle)
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", handle)
        return {
            "id": str(index),
            "name": to_text(self._ask("nvmlDeviceGetName", handle)),
            "uuid": to_text(self._ask("nvmlDeviceGetUUID", handle)),
            "temperature_celsius": self._ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            "vram_temperature_celsius": self._read_vram_temperature(handle),
            "util_percent": None if use is None else use.gpu,
            "memory_util_percent": 100 * memory.used / memory.total if memory is not None and memory.total else None,
            "memory_used_bytes": None if memory is None else memory.used,
            "memory_total_bytes": None if memory is None else memory.total,
            "fan_speed_percent": self._ask("nvmlDeviceGetFanSpeed", handle),
            "power_draw_watts": None if milliwatts is None else milliwatts / 1000,
            "processes": self._read_processes(handle),
        }

    def _read_vram_temperature(self, handle: Any) -> int | None:
        values = self._ask("nvmlDeviceGetFieldValues", handle, [self._nvml.NVML_FI_DEV_MEMORY_TEMP])
        if not values or values[0].nvmlReturn != self._nvml.NVML_SUCCESS:
            return None
        celsius: int = values[0].value.uiVal
        return celsius or None

    def _read_processes(self, handle: Any) -> dict[int, int]:
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or []
        return {process.pid: process.usedGpuMemory for process in processes if process.usedGpuMemory is not None}

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What the driver answers; None when this GPU or driver doesn't know."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None


def to_text(value: str | bytes | None) -> str:
    """Text of NVML, which older bindings give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
