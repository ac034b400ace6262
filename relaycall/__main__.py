"""`python -m relaycall` is `relaycall`."""

from relaycall.cli import main

main()
