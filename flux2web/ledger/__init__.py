"""The only writer of money. Every change is one conditional UPDATE of the sums, beside the entry that says why.

All functions are called inside the caller's transaction (`write()`), so that state, money and event stand or fall together.
Rows are locked in one order, always: task, the member's usage, the team's budget, then period and tally.
"""

from .book import SYSTEM
from .entries import adjust, grant, hold, refund, release, revoke, same, settle
from .limits import Left, Limit, cap_of, give_extra, left, refusal, warn_anew
from .months import PeriodEnded, current, renew_due, set_rules

__all__ = [
    "SYSTEM",
    "Left",
    "Limit",
    "PeriodEnded",
    "adjust",
    "cap_of",
    "current",
    "give_extra",
    "grant",
    "hold",
    "left",
    "refund",
    "refusal",
    "release",
    "renew_due",
    "revoke",
    "same",
    "set_rules",
    "settle",
    "warn_anew",
]
