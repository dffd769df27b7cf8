"""The evidence: what is measured, the published results anew, and the numbers that came out."""
