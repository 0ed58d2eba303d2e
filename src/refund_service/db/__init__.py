"""PostgreSQL: connecting, the write set, migrations, and the embedded server."""
