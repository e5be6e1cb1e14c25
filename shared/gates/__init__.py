"""Gates: fold scored predictions into evidence, and derive verdicts from it.

A state is a msgspec struct that belongs to its fold. ``evolve(state, row)`` changes it in place and returns it, with
constant work. ``verdicts(state, ...)`` reads it and changes nothing, so it may be called after every row. There is no
clock, no randomness and no input except the rows: the same rows in the same order give the same numbers to the bit. A
state that was encoded and decoded continues with the same results.
"""
