"""For child processes: nothing is found here."""

raise ModuleNotFoundError(__name__)
