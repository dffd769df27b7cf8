"""The command line of a benchmark that measures in a process of its own for each backend."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evidence.benchmarks.measuring.saving import add_save, write

BACKENDS = ("tensorflow", "jax")


def run(
    script: str,
    doc: str,
    measure: Callable[[argparse.Namespace], Any],
    markdown: Callable[[dict[str, Any]], str | dict[str, str]],
    *,
    rounds: int,
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Runs a benchmark: measures on each backend, prints the table and writes it if asked to.

    Args:
        script: String, the path of the file that calls this.
        doc: String, its help.
        measure: Function that measures on the backend of its process and returns what JSON can hold.
            It is called in a process of its own, of the same script.
        markdown: Function of what was measured, by backend, that returns the table, or several
            by what tells them apart.
        rounds: Integer, the turns of each contestant unless the command line says otherwise.
        add_arguments: Function that adds arguments of the benchmark's own to the parser.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"turns of each (default: {rounds})"
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    add_save(parser)
    parser.add_argument("--small", action="store_true", help="one round of next to nothing")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.rounds = 1
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.here:
        print(json.dumps(measure(arguments)))
        return

    def on(backend: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                f"evidence.benchmarks.{Path(script).stem}",
                *sys.argv[1:],
                "--here",
            ],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    # Next to nothing may be measured on both at once: only that it runs is of interest.
    with ThreadPoolExecutor(len(arguments.backends) if arguments.small else 1) as processes:
        done = dict(zip(arguments.backends, processes.map(on, arguments.backends), strict=True))
    if any(process.returncode for process in done.values()):
        sys.exit(1)
    results = {backend: json.loads(of.stdout.splitlines()[-1]) for backend, of in done.items()}
    write(script, results, markdown(results), save=arguments.save)
