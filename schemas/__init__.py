"""Define every event and command, the streams that carry them, and their encoding.

Nothing here reads, writes, waits or decides. Imports point one way: ``services -> shared -> schemas``.
"""
