"""Rows, constraints, and the QuerySet words that name them. Nothing here knows HTTP."""

from .base import one, write
from .history import Act, Audit, Callback, Event, Heartbeat
from .images import Hosting, Reference, Result, TaskReference
from .ledger import Budget, Entry, Tally
from .people import CreditRequest, Export, Notice
from .periods import Period, Usage
from .prompts import Draft, SavedPrompt
from .providers import Failures, Price, ProviderAccount, ProviderKey, RoutingRule, Statement
from .shelf import (
    Collection,
    CollectionItem,
    CollectionRole,
    Comment,
    Favourite,
    SavedSearch,
    ShareLink,
    Tag,
    TaskTag,
)
from .tasks import FINAL, LIVE, Attempt, Batch, State, Task
from .teams import Invite, Membership, Role, Team, User

__all__ = [
    "FINAL",
    "LIVE",
    "Act",
    "Attempt",
    "Audit",
    "Batch",
    "Budget",
    "Callback",
    "Collection",
    "CollectionItem",
    "CollectionRole",
    "Comment",
    "CreditRequest",
    "Draft",
    "Entry",
    "Event",
    "Export",
    "Failures",
    "Favourite",
    "Heartbeat",
    "Hosting",
    "Invite",
    "Membership",
    "Notice",
    "Period",
    "Price",
    "ProviderAccount",
    "ProviderKey",
    "Reference",
    "Result",
    "Role",
    "RoutingRule",
    "SavedPrompt",
    "SavedSearch",
    "ShareLink",
    "State",
    "Statement",
    "Tag",
    "Tally",
    "Task",
    "TaskReference",
    "TaskTag",
    "Team",
    "Usage",
    "User",
    "one",
    "write",
]
