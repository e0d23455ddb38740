"""What everything stands on and knows nothing of search: errors, files, texts, numbers."""
