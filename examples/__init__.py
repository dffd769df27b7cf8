"""What to copy: a script or a folder each."""
