"""The wire formats (dialects) of retrieval servers: one file per dialect, with both of its ends and its checks."""
