#!/usr/bin/env python3
"""Every command of flux2web; `manage.py up` starts it."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flux2web.settings")
    execute_from_command_line(sys.argv)
