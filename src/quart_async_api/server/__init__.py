"""The process around the app: `serve`, its supervisor, and its changes to Hypercorn."""
