"""The log, and the ids that tie its lines to a request."""
