"""Runs the benchmarks one after the other; with --save, each writes its figures and tables.

usage: python -m evidence.benchmarks.run_all [NAME ...] [--save] [--torch-python PATH] [--small]

Nothing else should run meanwhile: all of it takes hours on two cores. `time_to_accuracy`, `input_pipeline`
and `suggestion` read their data from the folder that TFDS_DATA_DIR names.
`beside_pytorch` wants a Python that has PyTorch and torch-lr-finder. A benchmark that fails does not stop
the others.
"""

import argparse
import os
import subprocess
import sys

from evidence.benchmarks.measuring.saving import add_save

BENCHMARKS = (
    "time_to_accuracy",
    "callback_cost",
    "range_test_cost",
    "scale",
    "beside_pytorch",
    "suggestion",
    "input_pipeline",
    "train_step",
    "stop_rule",
)

OF_TRAININGS = (
    "time_to_accuracy",
    "suggestion",
)


def main() -> int:
    """Runs what the command line asks for, and returns how many failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)"
    )
    add_save(parser)
    parser.add_argument("--torch-python", help="a Python with PyTorch, for beside_pytorch")
    parser.add_argument("--small", action="store_true", help="only to see that they run")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"NAME must be of {', '.join(BENCHMARKS)}. Received: {', '.join(unknown)}")
    failed = []
    for name in arguments.names or BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        command = [sys.executable, "-m", f"evidence.benchmarks.{name}"]
        if arguments.small:
            command.append("--small")
        if arguments.save:
            command.append("--save")
            # Hours of trainings are gone on with, or only read.
            command += ["--resume"] if name in OF_TRAININGS else []
        if arguments.torch_python and name == "beside_pytorch":
            command += ["--torch-python", arguments.torch_python]
        environment = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        if subprocess.run(command, check=False, env=environment).returncode:
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
