"""The commit log of a segments or grades folder: manifests/<n>.json, each created once, never changed.

Notable: creating manifest n+1 if it does not exist is the only commit there is. Readers trust only parts that a
manifest names, so a crash leaves orphans and never half a result; of two runs that try the same number one wins, and
the other re-reads the log, drops what the winner settled and tries the next. An item is (recording, version, model_id).
Every COMPACT_EVERY manifests a snapshot of the folded log is laid beside them: readers start there.
"""

from samplecnn.commits.log import COMPACT_EVERY, CommitLog, manifest_name, new_run
from samplecnn.commits.snapshot import number_of as snapshot_number
from samplecnn.commits.state import (
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
    failed_item,
    joined,
    newest,
    of_no_content,
    outdated,
    require_same_settings,
    restamped,
    withdrawn,
)

__all__ = [
    "COMPACT_EVERY",
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
    "withdrawn",
]
