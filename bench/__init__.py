"""Benchmarks: ``make bench`` lists them, ``make bench BENCH=<name>`` runs one.

Each module has a ``run(quick) -> {key: Figure}``; the harness prints a table and writes JSON.
"""
