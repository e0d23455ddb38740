"""`PROCEDURE=sft`: warm-up on conversations, `{"messages"}`, each with weight 1."""

import argparse

from exsearch.compat.searchlm.finetune import finetune


def run(options: argparse.Namespace) -> None:
    """Fine-tune and write the checkpoint."""
    finetune(options, "sft", weighted=False)
