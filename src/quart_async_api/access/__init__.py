"""Who a caller is: keys, sessions, and what they may do. Knows no HTTP."""
