"""`python -m taptr_ros` is the command `taptr`."""

import sys

from taptr_ros.cli import main

sys.exit(main())
