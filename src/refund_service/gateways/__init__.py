"""Payment gateways: one protocol, an adapter each, and one way of sending.

``protocol.py`` says what every adapter offers, ``answers.py`` the closed sets of what can come
back, ``send.py`` is the only place that calls a gateway, ``accounts.py`` the merchant's
credentials, ``breaker.py`` keeps a dead gateway from being asked. An adapter is a folder or
file of its own, found by its entry point in the group ``refund_service.gateways``.
"""
