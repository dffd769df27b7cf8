"""How the benchmarks measure: in turns, on each backend, what is trained, and where the numbers go."""
