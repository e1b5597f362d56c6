"""How much Hypothesis tries. Chosen with `-p tests.profiles --hypothesis-profile=<name>`; "every_time" unless told."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PROFILES = ("every_time", "thorough")
# A day of 30 steps takes a third of a second: Hypothesis would call that slow.
settings.register_profile(
    "every_time",
    max_examples=300,
    stateful_step_count=30,
    derandomize=True,  # the same days for everyone: what fails here fails again
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "thorough",
    settings.get_profile("every_time"),
    max_examples=3000,
    stateful_step_count=50,
    derandomize=False,
)


def chosen() -> settings:
    name = settings.get_current_profile_name()
    return settings.get_profile(name if name in PROFILES else "every_time")
