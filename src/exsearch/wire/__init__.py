"""The wire formats of retrieval servers: one file for each dialect, with both of its ends and its checks."""
