from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from instances.shim.processes import GroupTree, list_descendants
from tests.instances.shim.harness import is_alive, wait_until

pytestmark = pytest.mark.any_database


def test_a_group_is_signalled_where_descendants_can_not_be_found() -> None:
    code = "import os, signal\nos.fork()\nos.write(1, b'x')\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, process_group=0) as leader:
        assert leader.stdout is not None
        assert leader.stdout.read(2) == b"xx"
        members = [leader.pid, *list_descendants(leader.pid)]
        tree = GroupTree(leader.pid)
        assert tree.list_alive() == [leader.pid]
        tree.send(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, members)), "the end of the group")
    wait_until(lambda: not tree.list_alive(), "the group to be gone")
    tree.send(signal.SIGTERM)


def test_a_process_with_a_strange_name_is_found() -> None:
    code = "import ctypes, os, signal\nctypes.CDLL(None).prctl(15, b') R 1 (')\nos.write(1, b'x')\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        try:
            assert process.pid in list_descendants(os.getpid())
        finally:
            process.kill()


def test_a_zombie_is_not_a_descendant_that_lives() -> None:
    process = subprocess.Popen(["/bin/true"])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid not in list_descendants(os.getpid())
    finally:
        process.wait()
