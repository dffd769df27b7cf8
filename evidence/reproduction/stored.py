"""Where the trainings are kept, and what is said of one that is not there."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# As many as the paper has of each training.
SEEDS = range(4)


class MissingRunError(ValueError):
    """A figure was asked for whose trainings are not done."""
