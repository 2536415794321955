"""Giving processes a part of a core, by Linux's control groups: so a small machine shows what free cores would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PERIOD_US = 10_000
_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def limit_processor(processes: Iterable[psutil.Process], share: float) -> Iterator[None]:
    """Let each process have ``share`` of a core; raise SystemExit where control groups can't be made (not root)."""
    folders: list[Path] = []
    try:
        for process in processes:
            folders.append(_make_group(f"corral-benchmark-{process.pid}", int(share * _PERIOD_US)))
            (folders[-1] / "cgroup.procs").write_text(str(process.pid))
        yield
    except OSError as error:
        raise SystemExit(f"--worker-share needs control groups of the processor, and root: {error}") from error
    finally:
        for folder in folders:
            for pid in (folder / "cgroup.procs").read_text().split():
                (folder.parent / "cgroup.procs").write_text(pid)
            folder.rmdir()


def _make_group(name: str, quota_us: int) -> Path:
    """A new group below the root, of version 2 of the control groups or else of version 1."""
    if (_ROOT / "cgroup.controllers").exists():
        (_ROOT / "cgroup.subtree_control").write_text("+cpu")
        folder = _ROOT / name
        folder.mkdir()
        (folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        return folder
    folder = _ROOT / "cpu" / name
    folder.mkdir()
    (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
    (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    return folder
