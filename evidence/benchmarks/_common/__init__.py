"""What the benchmarks share: their command line, what is trained, and measuring in turns."""
