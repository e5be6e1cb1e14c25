"""Inputs: what is known of a symbol besides its bars, and its value at a bar, the same live and in training.

``kinds`` has the kinds of inputs and how old the sample of each may be. ``samples`` looks up a recorded history,
``reading`` the events of a stream in their order.
"""
