"""The log, and the ids that connect its lines to a request."""
