"""BM25 over words and their stems, compiled."""
