"""As settings_quick, for sites under load: an answer that is some seconds late is not yet a lost one."""

from .settings_quick import *  # noqa: F403

SUBMIT_LEASE_S = 25
UNCERTAIN_LIMIT_S, UNCERTAIN_LOOKS = 20, 5
