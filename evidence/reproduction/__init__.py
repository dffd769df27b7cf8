"""The published figures, trained anew: `python -m evidence.reproduction FIGURE`."""
