"""Make the reports that are read before a promotion: as numbers (JSON), as text, and as HTML pages without scripts.

``fold`` folds the events of ``scores``, in order and in bounded memory. ``summary`` turns its state into structs, the
JSON of the report. ``tables`` makes tables of text for pages and the terminal, ``charts`` makes charts with Matplotlib
(``drawing``), ``pages`` renders the templates. The pages are ``shadow``, ``training``, ``whatif`` and ``proof``. There
is no clock and no randomness: the same entries give the same page, byte for byte.
"""
