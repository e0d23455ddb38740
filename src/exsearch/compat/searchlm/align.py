"""`PROCEDURE=align`: the M-step on the output of `entropy`, `{"messages", "prob"}`, each with its weight."""

import argparse

from exsearch.compat.searchlm.finetune import finetune


def run(options: argparse.Namespace) -> None:
    """Fine-tune and write the checkpoint."""
    finetune(options, "align", weighted=True)
