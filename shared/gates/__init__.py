"""Gates: from scored predictions to verdicts, as folds.

A state is a msgspec struct that belongs to its fold: ``evolve(state, row)`` changes it in place and
returns it, in constant work; ``verdicts(state, ...)`` reads it and changes nothing, so that it may be
looked at after every row. No clock, no randomness, no input but the rows: the same rows in the same
order give the same numbers to the bit, and a state that went through its bytes goes on as if nothing
had happened.
"""
