"""``python -m pyg_bsl`` is ``pyg-bsl``."""

import sys

from pyg_bsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
