"""Serve the screens: a page and a JSON answer for each, live updates, and the files that pages load."""
