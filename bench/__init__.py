"""Benchmarks: ``make bench`` lists them, ``make bench BENCH=<name>`` runs one.

Each benchmark is a module with a function ``run(quick) -> {key: Figure}``. The harness prints a table and writes JSON.
"""
