"""Generate documents from the schemas, and check that the schemas change only in compatible ways."""
