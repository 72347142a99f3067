"""``python -m pyg_bsl`` is ``pyg-bsl``."""

import sys

from pyg_bsl.cli import main

sys.exit(main())
