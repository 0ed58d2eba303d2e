"""The HTTP edge: everything that knows of headers, statuses and JSON lives in here."""
