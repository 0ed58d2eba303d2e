"""``python -m refund_service``: the same as the command ``refund-service``."""

from refund_service.cli import main

main()
