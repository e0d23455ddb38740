"""The default engine, by transformers."""
