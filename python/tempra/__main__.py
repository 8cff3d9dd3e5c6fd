"""`python -m tempra`: the `tempra` command."""

import sys

from tempra.cli.main import main

sys.exit(main())
