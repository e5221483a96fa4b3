"""`python -m crossband` is the `crossband` command."""

import sys

from crossband.cli import main

sys.exit(main())
