"""BM25 over word stems, compiled."""
