"""Allows `python -m bodydouble.cli`."""

import sys

from bodydouble.cli import main

sys.exit(main())
