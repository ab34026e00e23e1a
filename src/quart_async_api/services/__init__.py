"""What a route and the command line both need; no request in here."""
