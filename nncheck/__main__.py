"""`python -m nncheck`."""

import sys

from nncheck.cli import main

sys.exit(main())
