"""Issue commands for a person who is not at the console: from a page, from a program, from a chat.

``forms`` makes a command of the fields that a person filled in. ``desk`` shows what it would change, and issues it; it
collects the evidence as the console does. ``retrying`` appends input that a service refused again. Nothing here knows a
web page or a chat.
"""
