"""The HTTP interface: one file for each standard, and thin routes."""
