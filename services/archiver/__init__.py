"""Seals all streams into files, and trims what is sealed, old and needed by nobody.

Reads       every stream of the catalogue, in all partitions, and where every group stands.
Writes      sealed files and cuts into the archive (``shared.archive``), and ``alarms``.
Remembers   nothing: the archive itself says how far it goes.
Refuses     to trim while anything is wrong with the archive: a file that is missing or differs from its
            digest, a full disk, a copy that does not answer, a server that is behind what was sealed.
            To trim a stream whose retention in the catalogue is ``None``; the server refuses that too.

One process for the whole installation. Each round: a cut through every partition, the range of each stream up
to it sealed and read back; the cut written; the copy brought up; then trimming, each range compared
with Redis byte by byte before it goes.
"""
