"""One server process to be measured: `python -m tests.bench.server ours|asgi|bare PORT`."""

from __future__ import annotations

import os
import sys

import uvicorn

APPLICATIONS = {
    "ours": ("flux2web.settings", "flux2web.asgi:application"),
    "asgi": ("flux2web.settings", "django.core.asgi:get_asgi_application"),
    "bare": ("tests.bench.settings_bare", "flux2web.asgi:application"),
}

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"], application = APPLICATIONS[sys.argv[1]]
    quiet = {"log_config": None, "access_log": False, "lifespan": "off", "server_header": False}
    uvicorn.run(application, factory=sys.argv[1] == "asgi", port=int(sys.argv[2]), **quiet)
