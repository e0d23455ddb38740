"""Dense retrieval: one vector per passage."""
