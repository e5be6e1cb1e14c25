"""Commands that start, stop and look after the services of an installation."""
