"""``python -m tests.postgresql COMMAND...``: run a command beside a private PostgreSQL in a temporary folder.

The command finds it in ``CORRAL_TEST_DATABASE_URL``; when that is set already, the command just runs. Without
PostgreSQL's programs nothing runs: a failure where ``CI`` is set, otherwise a sentence.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "CORRAL_TEST_DATABASE_URL"
#: A test database is thrown away, so it need not survive a crash.
FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"


def find_programs() -> Path | None:
    """Return the folder of the newest initdb and pg_ctl: on the PATH, or where Debian keeps them."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(folders, key=lambda path: float(path.parent.name), default=None)


def as_postgres(arguments: list[str]) -> list[str]:
    """Return the command as a user other than root, who may not run PostgreSQL."""
    if os.geteuid() != 0:
        return arguments
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *arguments]


@contextmanager
def run_cluster(programs: Path) -> Iterator[str]:
    """Yield the URL of a new cluster's database; the cluster listens on a free TCP port of this host only."""
    with tempfile.TemporaryDirectory(prefix="corral-postgresql-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data, log = folder / "data", folder / "log"
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "corral", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(as_postgres(initdb), check=True, stdout=subprocess.DEVNULL, cwd="/")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        control = [str(programs / "pg_ctl"), "-D", str(data), "-l", str(log), "-w"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} {FAST}"
        subprocess.run(as_postgres([*control, "-o", options, "start"]), check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgres://corral@127.0.0.1:{port}/postgres"
        finally:
            stop = as_postgres([*control, "-m", "immediate", "stop"])
            subprocess.run(stop, check=False, stdout=subprocess.DEVNULL, cwd="/")


def main(command: list[str]) -> int:
    """Run the command and return its exit code."""
    if os.environ.get(VARIABLE):
        return subprocess.run(command, check=False).returncode
    programs = find_programs()
    if programs is None:
        print(f"PostgreSQL is not installed, so the tests did not run on it (or set {VARIABLE}).", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    with run_cluster(programs) as url:
        return subprocess.run(command, check=False, env={**os.environ, VARIABLE: url}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
