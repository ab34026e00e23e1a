"""What a client of the API meets: one file for each standard, and thin routes."""
