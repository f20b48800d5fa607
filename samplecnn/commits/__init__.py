"""The commit log of a segments or grades folder: manifests/<n>.json, each created once, changed by erasure alone.

Notable: creating manifest n+1 if it does not exist is the only commit there is. Readers trust only parts that a
manifest names, so a crash leaves orphans and never half a result; of two runs that try the same number one wins, and
the other re-reads the log, drops what the winner settled and tries the next. An item is (recording, version, model_id).
Corrections by people are rows of their own beside the items: they settle nothing, and none is ever dropped.
Every COMPACT_EVERY manifests a snapshot of the folded log is laid beside them: readers start there.
"""

from samplecnn.commits.log import COMPACT_EVERY, CommitLog, manifest_name, new_run
from samplecnn.commits.snapshot import number_of as snapshot_number
from samplecnn.commits.state import (
    AT,
    CORRECTION_KEY,
    CORRECTIONS_SCHEMA,
    DELETED,
    DONE,
    FAILED,
    ITEM_KEY,
    ITEMS_SCHEMA,
    MANIFEST,
    NAMESAKE,
    OUTCOME,
    PART,
    PERMANENT,
    RUN,
    STAMP,
    UNREAD,
    LogState,
    as_given,
    corrections_that_stand,
    failed_item,
    joined,
    newest,
    of_no_content,
    outdated,
    require_same_settings,
    restamped,
    standing,
    withdrawn,
    without_erased,
)

__all__ = [
    "AT",
    "COMPACT_EVERY",
    "CORRECTIONS_SCHEMA",
    "CORRECTION_KEY",
    "DELETED",
    "DONE",
    "FAILED",
    "ITEMS_SCHEMA",
    "ITEM_KEY",
    "MANIFEST",
    "NAMESAKE",
    "OUTCOME",
    "PART",
    "PERMANENT",
    "RUN",
    "STAMP",
    "UNREAD",
    "CommitLog",
    "LogState",
    "as_given",
    "corrections_that_stand",
    "failed_item",
    "joined",
    "manifest_name",
    "new_run",
    "newest",
    "of_no_content",
    "outdated",
    "require_same_settings",
    "restamped",
    "snapshot_number",
    "standing",
    "withdrawn",
    "without_erased",
]
