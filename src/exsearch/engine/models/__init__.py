"""What is known of a model of transformers, for the engine and the trainer."""
