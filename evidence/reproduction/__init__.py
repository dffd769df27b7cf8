"""The published figures, trained anew: `python -m evidence.reproduction FIGURE`."""

# As many as the paper has of each training.
SEEDS = range(4)


class MissingRunError(ValueError):
    """A figure was asked for whose trainings are not done."""
