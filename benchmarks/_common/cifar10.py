"""The network and the data of the CIFAR-10 example."""

import sys

from _common.rounds import ROOT

sys.path.append(str(ROOT / "examples" / "cifar10"))

import data
from resnet import resnet

__all__ = ["data", "resnet"]
