"""Mistakes of the original that must not come back, a test for each."""
