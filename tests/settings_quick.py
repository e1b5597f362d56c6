"""Settings of a site that tests start as a process of its own: the product's, with limits scaled down to seconds."""

from flux2web.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOOK_SCALE = 0.2
SUBMIT_LEASE_S = 4
LOOK_LEASE_S = 3
SAVE_LEASE_S = 4
UNCERTAIN_LIMIT_S, UNCERTAIN_LOOKS = 4, 4
BACKOFF_S = (0.2, 0.5, 1)
CLOCK_TICK_S = 0.3
CLOCK_RESEND_S = 1
