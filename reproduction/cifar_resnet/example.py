"""The CIFAR-10 example, found beside this folder: what the figures train with."""

import sys

from stored import ROOT

sys.path.append(str(ROOT / "examples" / "cifar10"))

import training
from devices import Devices
from precision import fast_precision
from resume import check_settings
from settings import Settings, read_json, write_json

__all__ = [
    "Devices",
    "Settings",
    "check_settings",
    "fast_precision",
    "read_json",
    "training",
    "write_json",
]
