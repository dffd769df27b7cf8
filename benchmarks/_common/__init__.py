"""What the benchmarks share: their command line, what is trained, and measuring in turns."""

import sys
from pathlib import Path

# ResNet and CIFAR are those of the example.
sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "cifar10"))
