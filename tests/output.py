"""Waiting for what a process prints."""

from __future__ import annotations

import subprocess
import threading

VALKEY_READY = b"Ready to accept connections"


def wait_for_output(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Read the piped output of a process until a line holds the words; what follows is read and thrown away.

    Fails with the output when the process ends before. How long it may take is the test's time limit.
    """
    output = process.stdout
    assert output is not None
    lines = []
    for line in output:
        lines.append(line)
        if words in line:
            break
    else:
        raise AssertionError(f"{words!r} was not printed: {b''.join(lines).decode(errors='replace')}")

    def drain() -> None:
        with output:
            while output.read1(65536):
                pass

    threading.Thread(target=drain, daemon=True).start()
