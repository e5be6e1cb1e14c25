"""The archiver: seal every stream into files, and trim the entries that are sealed, old and no longer needed.

Reads
    Every stream of the catalogue in all partitions, and the positions of every consumer group.
Writes
    Sealed files and cuts into the archive (``shared.archive``). ``alarms``: ``ArchiveFailed``.
Remembers
    Nothing. The archive itself records how far each stream is sealed.
Refuses
    To trim while there is a fault: a file that is missing or differs from its digest, a full disk, a copy that cannot
    be reached, or a server whose streams end before what was sealed. To trim a stream whose retention in the
    catalogue is ``None``; the server refuses that too.

One process serves the whole installation. Each round has five steps. The archiver takes a cut through every partition.
It seals each stream up to the cut and reads the files back. It writes the cut. It updates the copy. Then it trims,
and compares each range with the archive byte by byte before it removes it from Redis.
"""
