"""The process around the app: `serve`, its supervisor, and what it changes in Hypercorn."""
