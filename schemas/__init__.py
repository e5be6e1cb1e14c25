"""What is said: every event and command, the streams that carry them, and their bytes.

Nothing here reads, writes, waits or decides. Imports point one way: ``services -> shared -> schemas``.
"""
