"""An app of one's own with tables: orders and their lines."""
