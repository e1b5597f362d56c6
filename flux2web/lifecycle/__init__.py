"""The story of a task, from the press of the button to the stored picture. Read it in this order:

`press` (held and queued), `sending` (its turn, its attempt, the create), `answers` (what came back), `rings` (callbacks bring
a look forward), `looks` (how does it stand?), `saving` (our own copy, then the charge), `ends` (refunds); all on `moves`, the
only writer of a task's state, at the `pace` that waiting takes.

The only place where task, money, provider and storage meet. Rules that hold in every function:

* Change state by a conditional UPDATE and look at the count. Losing the race is no error: whoever was first was right.
* State, money and event are one transaction; no HTTP, decoding or rendering inside it.
* The intention is written before the side effect: `submitting` is committed before the create is sent, so a crash leaves
  something visible (`uncertain`), never a second charge.
* `due_at` on the row is the queue of record. Every function says when to look next (`Next`) or None; a lost message is
  found by the clock, a doubled one finds nothing to claim.
* Every function is safe to run twice, also at once.
"""

from .ends import refund, wake
from .looks import check
from .moves import Next
from .press import again_price, cancel, create, more, more_price, retry, retry_failed, retry_failed_price
from .rings import forget_callbacks, look_now, ring
from .saving import save
from .sending import line_up, submit, whose_turn

__all__ = [
    "Next",
    "again_price",
    "cancel",
    "check",
    "create",
    "forget_callbacks",
    "line_up",
    "look_now",
    "more",
    "more_price",
    "refund",
    "retry",
    "retry_failed",
    "retry_failed_price",
    "ring",
    "save",
    "submit",
    "wake",
    "whose_turn",
]
