"""Language models as engines: token ids in, token ids and log-probs out."""
