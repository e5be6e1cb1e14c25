"""Commands that start, stop, monitor and repair the services of an installation."""
