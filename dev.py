"""Sets up an environment in `.venv` and runs something in it; needs nothing but Python 3.11 or newer.

usage: python3 dev.py EXAMPLE [ARGUMENT ...]        quickstart, train_cifar10, reproduce or recipe
       python3 dev.py benchmarks [NAME ...]         the benchmarks: --help says which
       python3 dev.py test [PYTEST_ARGUMENT ...]    the tests, on TensorFlow and then on JAX
       python3 dev.py lint                          ruff: rules and format
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# Most tests compile one of a few small networks: JAX need not do that again for each.
JAX_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
EXAMPLES = ("quickstart", "train_cifar10", "reproduce", "recipe")
EXTRAS = {
    **dict.fromkeys(EXAMPLES, "tensorflow,examples"),
    "benchmarks": "tensorflow,jax,search",
    "test": "tensorflow,jax,test",
    "lint": "test",
}


def run(*command: str | Path, **environment: str) -> int:
    """Runs a command in the project's folder and returns its exit status."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        check=False,
    ).returncode


def install(extras: str) -> None:
    """Makes the environment, unless it is there, and installs the package in place."""
    if not PYTHON.exists():
        print(f"Making an environment in {ENVIRONMENT.name}/ ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    print(f"Installing keras-onecycle[{extras}] (minutes, the first time) ...", flush=True)
    if run(PYTHON, "-m", "pip", "install", "--quiet", "--editable", f".[{extras}]"):
        sys.exit("pip could not install the package; what it said stands above.")


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for."""
    if not arguments or arguments[0] not in EXTRAS:
        sys.exit(__doc__)
    command, *rest = arguments
    install(EXTRAS[command])
    if command in EXAMPLES:
        return run(PYTHON, f"examples/{command}.py", *rest)
    if command == "benchmarks":
        return run(PYTHON, "benchmarks/run_all.py", *rest)
    if command == "lint":
        return run(PYTHON, "-m", "ruff", "check") or run(PYTHON, "-m", "ruff", "format", "--check")
    failed = 0
    # What no backend has a part in is tested once.
    for backend, selected in (("tensorflow", ""), ("jax", "not any_backend")):
        print(f"Tests with KERAS_BACKEND={backend}", flush=True)
        pytest = (PYTHON, "-m", "pytest", "-n", "auto", "--dist", "worksteal", "-m", selected)
        status = run(*pytest, *rest, KERAS_BACKEND=backend, **JAX_CACHE)
        # 5: of the tests that were asked for, none is for this backend.
        failed |= status != 0 and not (status == 5 and rest)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
