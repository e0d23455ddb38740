"""Questions: the record, how texts are compared, and importers of public data sets."""
