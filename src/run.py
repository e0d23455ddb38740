"""The entry point of the paper's first code: `PROCEDURE=sft|inference|entropy|align python ./src/run.py FLAGS`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from exsearch.compat.searchlm.main import main

if __name__ == "__main__":
    main()
