"""Index folders: their content, the kinds of index, and building, extending and opening an index."""
