"""What a person looks at before a promotion: scores folded in bounded memory, summed up as numbers, and
drawn as a page that needs nothing but a browser.

``fold`` takes events of ``scores`` in order; ``summary`` reads the fold as structs (the JSON of the report);
``tables`` makes tables of text for page and terminal, ``charts`` makes charts with Matplotlib (``drawing``), and
``pages`` renders the templates. ``shadow``, ``training``, ``whatif`` and ``proof`` are the pages. No clock and no
randomness: the same entries give the same page to the byte.
"""
