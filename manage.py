#!/usr/bin/env python
"""Django's entry point; ``corral <command>`` does the same."""

import sys

from portal.cli import main

if __name__ == "__main__":
    sys.exit(main())
