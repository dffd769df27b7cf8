"""Sets up an environment in `.venv` and runs something in it; needs nothing but Python 3.11 or newer.

usage: python3 dev.py SCRIPT [ARGUMENT ...]         quickstart, fine_tune, transformer, custom_loop, recipe,
                                                    train_cifar10, reproduce
       python3 dev.py benchmarks [NAME ...]         the benchmarks: --help says which
       python3 dev.py test [PYTEST_ARGUMENT ...]    the tests, with TensorFlow and JAX at the same time
       python3 dev.py test torch [...]              the tests, with PyTorch
       python3 dev.py ecosystem [PYTEST_ARGUMENT ...]
                                                    tests beside other libraries, in .venv-ecosystem
       python3 dev.py lint                          ruff (rules and format) and mypy
       python3 dev.py docs                          the documentation, in site/
       python3 dev.py notebooks                     the notebooks, executed in place
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
# For the libraries that the package is used with, and all that they require.
ECOSYSTEM = ROOT / ".venv-ecosystem"
# Most tests compile one of a few small networks: JAX need not do that again for each.
JAX_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
DISTRIBUTION = ("tests/test_distribution.py", "tests/test_several_devices.py")
SEARCH = (
    "tests/test_search_workers.py",
    "tests/test_cross_val_score.py",
    "tests/test_grid_search.py",
    "tests/test_batch_size.py",
    "keras_onecycle/search",
)
SCRIPTS = {
    "quickstart": "examples.quickstart",
    "custom_loop": "examples.custom_loop",
    "recipe": "examples.recipe",
    "fine_tune": "examples.fine_tune",
    "transformer": "examples.transformer",
    "train_cifar10": "examples.cifar10.train",
    "reproduce": "evidence.reproduction",
}
EXTRAS = {
    **dict.fromkeys(SCRIPTS, ("tensorflow", "cifar", "examples")),
    "benchmarks": ("tensorflow", "jax", "benchmarks"),
    "ecosystem": ("tensorflow", "jax", "ecosystem"),
    # The same, so that one installation is for both.
    **dict.fromkeys(
        ("test", "lint", "docs"), ("tensorflow", "jax", "cifar", "examples", "test", "docs")
    ),
    "notebooks": ("jax", "examples", "notebooks"),
}


def python_of(environment: Path) -> Path:
    """Returns the Python of an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


PYTHON = python_of(ENVIRONMENT)


def start(*command: str | Path, output: int | None = None, **environment: str) -> subprocess.Popen:
    """Starts a command in the project's folder."""
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        # Compiled once and kept: otherwise each process compiles what it imports, for ten seconds or more.
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        stdout=output,
        stderr=output,
    )


def run(*command: str | Path) -> int:
    """Runs a command in the project's folder and returns its exit status."""
    return start(*command).wait()


def install(extras: tuple[str, ...], environment: Path = ENVIRONMENT) -> None:
    """Makes the environment, unless it is there, and installs the package in place with the extras."""
    if not python_of(environment).exists():
        print(f"Making an environment in {environment.name}/ ...", flush=True)
        venv.create(environment, with_pip=True)
    changed = (ROOT / "pyproject.toml").stat().st_mtime
    installed = set()
    # Which extras are in the environment.
    noted = environment / "extras.txt"
    if noted.exists() and noted.stat().st_mtime > changed:
        installed = set(noted.read_text(encoding="utf-8").split())
    if installed.issuperset(extras):
        return
    installed |= set(extras)
    package = f".[{','.join(sorted(installed))}]"
    print(f"Installing keras-onecycle{package[1:]} (minutes, the first time) ...", flush=True)
    # In CI, another Keras than the newest.
    keras = [f"keras=={version}"] if (version := os.environ.get("KERAS_VERSION")) else []
    python = python_of(environment)
    pip = (python, "-m", "pip", "install", "--quiet", "--no-compile")
    # uv installs in a third of the time; pip is for where uv does not reach the index.
    uv = (python, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    arguments = ("--editable", package, *keras)
    if (run(*pip, "uv") or run(*uv, *arguments)) and run(*pip, *arguments):
        sys.exit("pip could not install the package; what it said stands above.")
    noted.write_text(" ".join(sorted(installed)), encoding="utf-8")


def test(arguments: list[str]) -> int:
    """Runs the tests on both backends, two processes at a time: what each says comes in one piece."""
    # What no backend has a part in is tested once, with JAX, which compiles the quicker.
    selected = {"jax": "", "tensorflow": "not any_backend"}

    def pytest(backend: str, *paths: str) -> int:
        cache = f"cache_dir=.pytest_cache/{backend}"
        command = (PYTHON, "-m", "pytest", "-o", cache, "-m", selected[backend], *paths)
        with tempfile.TemporaryFile() as said:
            output = said.fileno()
            status = start(*command, output=output, KERAS_BACKEND=backend, **JAX_CACHE).wait()
            said.seek(0)
            text = said.read().decode(errors="replace")
        print(f"Tests with KERAS_BACKEND={backend}\n{text}", flush=True)
        # 5: of the tests that were asked for, none is for this backend.
        return status if status != 5 or not arguments else 0

    jobs = [("jax", *arguments), ("tensorflow", *arguments)]
    if not arguments:
        jobs = [
            ("jax", *(f"--ignore={path}" for path in SEARCH)),
            # Apart: what a strategy leaves in the process makes later operations wait for ever.
            ("tensorflow", *(f"--ignore={path}" for path in DISTRIBUTION)),
            ("jax", *SEARCH),
            *(("tensorflow", path) for path in DISTRIBUTION),
        ]
    with ThreadPoolExecutor(2) as two:
        return int(any([*two.map(lambda job: pytest(*job), jobs)]))


def test_torch(arguments: list[str]) -> int:
    """Runs the tests on PyTorch, in the same environment."""
    command = (PYTHON, "-m", "pytest", "-m", "not any_backend", *arguments)
    return start(*command, KERAS_BACKEND="torch").wait()


def ecosystem(arguments: list[str]) -> int:
    """Runs the tests beside other libraries: on TensorFlow, and on JAX what is JAX's."""
    paths = arguments or ["tests/ecosystem"]
    statuses = []
    for backend in ("tensorflow", "jax"):
        print(f"Tests with KERAS_BACKEND={backend}", flush=True)
        command = (python_of(ECOSYSTEM), "-m", "pytest", *paths)
        statuses.append(start(*command, KERAS_BACKEND=backend, **JAX_CACHE).wait())
    return int(any(statuses))


def lint() -> int:
    """Runs ruff and mypy."""
    for command in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)):
        if run(PYTHON, "-m", *command):
            return 1
    return 0


def notebooks() -> int:
    """Executes the notebooks, and keeps neither when that was nor what a backend says of the machine."""
    paths = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
    command = (PYTHON, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace")
    options = ("--ExecutePreprocessor.record_timing=False", "--log-level=WARN")
    status = start(*command, *options, *paths, KERAS_BACKEND="jax").wait()
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return status


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for."""
    if not arguments or arguments[0] not in EXTRAS:
        sys.exit(__doc__)
    command, *rest = arguments
    if command == "ecosystem":
        install(EXTRAS[command], ECOSYSTEM)
        return ecosystem(rest)
    on_torch = command == "test" and rest[:1] == ["torch"]
    install((*EXTRAS[command], *(["torch"] if on_torch else [])))
    if on_torch:
        return test_torch(rest[1:])
    if command == "test":
        return test(rest)
    if command == "lint":
        return lint()
    if command == "docs":
        sphinx = (PYTHON, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet")
        return start(*sphinx, "--fresh-env", "docs", "site", KERAS_BACKEND="jax").wait()
    if command == "notebooks":
        return notebooks()
    if command == "benchmarks":
        return run(PYTHON, "-m", "evidence.benchmarks.run_all", *rest)
    return run(PYTHON, "-m", SCRIPTS[command], *rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
