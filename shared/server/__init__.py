"""A server of one's own, its users and certificates, and what protects it."""
