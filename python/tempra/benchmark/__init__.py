"""Measuring on the user's machine: what `tempra bench` and the programs in benchmarks/ share."""
