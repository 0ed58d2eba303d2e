"""The sandbox: a gateway that really listens, does what it is told, and keeps a record of its own.

What an integrator tries the service with, and what our stories and chaos runs compare the service
with afterwards. ``adapter.py`` is like any other gateway's; ``server.py`` plays the gateway,
``behaviours.py`` lists what ``metadata.sandbox`` can ask of it, ``book.py`` is what it knows and
``record.py`` the file that this is made from. Start it with
``python -m refund_service.gateways.sandbox --port 0 --record FILE``.
"""

from refund_service.gateways.sandbox.adapter import SandboxGateway

__all__ = ["SandboxGateway"]
