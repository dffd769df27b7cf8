"""A PostgreSQL server of the tests' own, on loopback, in a folder that is deleted afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "postgres"


def programs() -> Path | None:
    """The folder with the server's programs, where Debian's package is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server() -> Iterator[str]:
    """Starts a server and gives the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="keras_onecycle"))
    # The server refuses to be run by root.
    user = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, _USER, _USER)
    port, cluster = _free_port(), folder / "cluster"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs() / program, *arguments], check=True, capture_output=True, cwd=folder, **user
        )

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F"
    run("initdb", "-D", str(cluster), "-U", _USER, "-A", "trust", "--no-sync")
    try:
        run("pg_ctl", "-D", str(cluster), "-l", str(folder / "log"), "-o", options, "-w", "start")
        yield f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [programs() / "pg_ctl", "-D", str(cluster), "-m", "immediate", "stop"],
            check=False,
            capture_output=True,
            cwd=folder,
            **user,
        )
        shutil.rmtree(folder, ignore_errors=True)
