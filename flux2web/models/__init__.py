"""Rows, constraints, and the QuerySet words that name them. Nothing here knows HTTP."""

from .base import write
from .history import Audit, Callback, Event, Heartbeat
from .images import Hosting, Reference, Result, TaskReference
from .ledger import Budget, Entry
from .providers import Price, ProviderAccount, ProviderKey
from .tasks import FINAL, LIVE, Attempt, Batch, State, Task
from .teams import Invite, Membership, Role, Team, User

__all__ = [
    "FINAL",
    "LIVE",
    "Attempt",
    "Audit",
    "Batch",
    "Budget",
    "Callback",
    "Entry",
    "Event",
    "Heartbeat",
    "Hosting",
    "Invite",
    "Membership",
    "Price",
    "ProviderAccount",
    "ProviderKey",
    "Reference",
    "Result",
    "Role",
    "State",
    "Task",
    "TaskReference",
    "Team",
    "User",
    "write",
]
