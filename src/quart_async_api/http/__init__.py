"""What a client of the service meets: one file a standard, thin routes."""
