"""The database: its URL, its connection for the life of a process, its tables and their migrations."""
