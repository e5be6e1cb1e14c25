"""Run, protect and check the Redis server: an embedded server, users, certificates, and security checks."""
