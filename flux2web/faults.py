"""Places where a process may be killed on purpose, so that tests can prove that nothing is lost there.

No-ops unless the CRASH_AT setting names one: "CP4:2" kills this process with SIGKILL at the second pass of CP4.
"""

import itertools
import os
import signal

crash_at = ""  # set once at start from the setting
POINTS = {
    "CP1": "before a batch is committed",
    "CP2": "after it, before anyone is told",
    "CP3": "before the claim of a send is committed",
    "CP4": "after it, before the provider is called",
    "CP5": "the create is on the wire, its answer unread",
    "CP6": "the answer is read, not yet written down",
    "CP7": "before an end is committed",
    "CP8": "after it",
    "CP9": "a result's files are stored, its row is not",
    "CP10": "before the row of a result is committed",
    "CP11": "a callback is stored, not committed",
    "CP12": "after it, before the look it asks for",
    "CP13": "the clock has read due rows, not yet sent them",
    "CP14": "before a refund is committed",
    "CP15": "before a grant is committed",
    "CP16": "an upload's file is stored, its row is not",
}
_passes = itertools.count(1)


def point(name: str) -> None:
    """Die here if the test asked for it."""
    if not crash_at:
        return
    wanted, _, nth = crash_at.partition(":")
    if wanted == name and next(_passes) == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
