"""Ask a running process how it is."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from refund_service.settings import read_settings


def ready(data_dir: Path | None) -> bool:
    """Whether the operator's listener on this machine says that the process is ready."""
    settings = read_settings(**({"data_dir": data_dir} if data_dir else {}))
    host = "127.0.0.1" if settings.ops_host in {"0.0.0.0", "::"} else settings.ops_host  # noqa: S104 - compared, not bound
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.ops_port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - OK, by any name
    except (urllib.error.URLError, OSError):
        return False
