"""Calls to the outside, each with a deadline, retries and bounds."""
