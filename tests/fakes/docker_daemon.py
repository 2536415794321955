"""The daemon behind the fake docker command: ``python -I -S docker_daemon.py FOLDER``.

It prints "ready" when ``FOLDER/docker.sock`` answers, keeps ``FOLDER/containers.json`` (by name: pid, image,
arguments, environment, ports, flags, is_running, exit_code), and kills every container when SIGTERM ends it. Images
whose name begins with "missing" don't exist. With ``-p [H:]HOST:INNER`` the engine listens on HOST where its arguments
say INNER.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ENGINE = Path(__file__).parent / "engine.py"
PATH = os.environ.get("PATH", os.defpath)


class Refusal(Exception):
    """A request that docker would refuse; the text is the daemon's."""


class Daemon:
    """The containers and what is done to them; one thread per connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._containers: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()

    def serve(self) -> None:
        """Answer requests for ever."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._folder / "docker.sock"))
            listener.listen(32)
            self._save()
            print("ready", flush=True)
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def kill_all(self) -> None:
        """Kill every container and wait for it."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
            while data and not data.endswith(b"\n"):
                data += connection.recv(1 << 20)
            if not data:
                return
            request = json.loads(data)
            try:
                if request["command"] == "run":
                    self._run(connection, request, descriptors)
                    return
                getattr(self, f"_{request['command']}")(request)
                self._send(connection, {})
            except Refusal as refusal:
                self._send(connection, {"error": f"Error response from daemon: {refusal}"})
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _run(self, connection: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
        name, process = self._create(request, descriptors)
        self._send(connection, {"name": name})
        code = process.wait()
        exit_code = code if code >= 0 else 128 - code
        with self._lock:
            if request["remove"]:
                self._containers.pop(name, None)
            elif name in self._containers:
                self._containers[name] |= {"is_running": False, "exit_code": exit_code}
            self._save()
        self._send(connection, {"exit_code": exit_code})

    def _create(self, request: dict[str, Any], descriptors: list[int]) -> tuple[str, subprocess.Popen[bytes]]:
        with self._lock:
            name = request["name"] or f"container-{len(self._processes)}"
            if name in self._containers:
                raise Refusal(f'Conflict. The container name "/{name}" is already in use by another container.')
            if request["image"].startswith("missing"):
                raise Refusal(f"pull access denied for {request['image']}, repository does not exist")
            environment = {"PATH": PATH, **request["environment"]}
            argv = [sys.executable, "-I", "-S", str(ENGINE), *_publish(request["arguments"], request["ports"])]
            process = subprocess.Popen(
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=descriptors[0],
                stderr=descriptors[1],
                start_new_session=True,
            )
            self._processes[name] = process
            kept = {key: request[key] for key in ("image", "arguments", "environment", "ports", "flags")}
            self._containers[name] = {**kept, "pid": process.pid, "is_running": True, "exit_code": None}
            self._save()
        return name, process

    def _stop(self, request: dict[str, Any]) -> None:
        process = self._find(request["name"])
        process.terminate()
        try:
            process.wait(request.get("timeout", 10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _kill(self, request: dict[str, Any]) -> None:
        process = self._find(request["name"])
        if process.poll() is not None:
            raise Refusal(f"cannot kill container: {request['name']}: container is not running")
        process.send_signal(request.get("signal", signal.SIGKILL))

    def _rm(self, request: dict[str, Any]) -> None:
        process = self._find(request["name"])
        if process.poll() is None:
            if not request.get("force"):
                raise Refusal(f'cannot remove container "/{request["name"]}": container is running')
            process.kill()
            process.wait()
        with self._lock:
            self._containers.pop(request["name"], None)
            self._save()

    def _find(self, name: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if name not in self._containers:
                raise Refusal(f"No such container: {name}")
            return self._processes[name]

    def _save(self) -> None:
        path = self._folder / "containers.json"
        path.with_suffix(".tmp").write_text(json.dumps(self._containers, indent=1))
        path.with_suffix(".tmp").rename(path)

    def _send(self, connection: socket.socket, answer: dict[str, object]) -> None:
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except ConnectionError:
            # The client was killed; its container lives on.
            return


def _publish(arguments: list[str], ports: list[str]) -> list[str]:
    published = {port.split(":")[-1]: port.split(":")[-2] for port in ports}
    moved = list(arguments)
    for index, argument in enumerate(arguments[:-1]):
        if argument == "--port" and arguments[index + 1] in published:
            moved[index + 1] = published[arguments[index + 1]]
    return moved


def main(folder: Path) -> None:
    """Serve until SIGTERM."""
    daemon = Daemon(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        daemon.serve()
    finally:
        daemon.kill_all()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
