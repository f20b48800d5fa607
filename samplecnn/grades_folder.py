"""A grades folder: parts that the commit log names, the views that people read, and which model's grades are current.

A part is written whole under parts/<run>/ and counts only once a manifest names it. latest.* holds one row a recording
as it is now, failures.csv what could not be read; both are views of the log and may lag it by one interrupted run.
latest.parquet says up to which manifest it was made, so that the next one takes from it what has not changed since and
reads the new parts alone: a night costs what is new, not what was ever graded.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn import views
from samplecnn.commits import (
    AT,
    DONE,
    FAILED,
    ITEM_KEY,
    MANIFEST,
    OUTCOME,
    PART,
    RUN,
    CommitLog,
    LogState,
    corrections_that_stand,
    joined,
    newest,
    standing,
)
from samplecnn.contract import (
    BY,
    CORRECTED_AT,
    CORRECTED_BY,
    CORRECTED_MARK,
    CORRECTED_WHY,
    DURATION_S,
    FAILURES_CSV,
    GRADABLE,
    GRADE,
    GRADED_AT,
    LATEST_CSV,
    LATEST_PARQUET,
    MACHINE_GRADE,
    MARK,
    MESSAGE,
    MODEL_ID,
    PARTS,
    REASON,
    RECORDING,
    SEGMENT,
    SEGMENTS,
    STAGE,
    VERSION,
    WHY,
    grades_schema,
    latest_schema,
    segment_grades_schema,
)
from samplecnn.errors import JobError, UserError, one_line
from samplecnn.store import Store
from samplecnn.tables import csv_bytes, parquet_bytes, read_parquet

log = logging.getLogger(__name__)

VIEWS = (LATEST_PARQUET, LATEST_CSV, FAILURES_CSV)
_MADE_FROM = b"samplecnn.manifest"  # in latest.parquet's metadata: the last manifest that it was made from


@dataclass(frozen=True)
class GradedBy:
    """What one model has graded.

    graded: recordings whose current version has a grade of it; current: those whose grade in latest.* is this one;
    first, last: when its first and its last grade were made.
    """

    model_id: str
    graded: int
    current: int
    first: datetime
    last: datetime


def recordings_part(run: str, number: int) -> str:
    """Where a run writes its number-th part of recording grades."""
    return f"{PARTS}/{run}/recordings-{number:05d}.parquet"


def segments_part(run: str, number: int) -> str:
    """Where a run writes its number-th part of segment grades."""
    return f"{PARTS}/{run}/segments-{number:05d}.parquet"


def grades_of(state: LogState) -> tuple[str, ...]:
    """The grades that a begun folder belongs to, worst first."""
    assert state.settings is not None
    return tuple(reversed(state.settings["grade_names"].split(",")))


def latest(
    store: Store, state: LogState, grades: tuple[str, ...], in_hand: Mapping[str, pa.Table] | None = None
) -> pa.Table:
    """One row a recording (contract.latest_schema): the grade that the log holds last for the version that is there.

    A person's correction of that version comes before any model's grade, and gives one to a recording that failed.
    grades: worst first.

    Rows come from the parts that the log names, or from the latest.parquet that is there, and of those only what the
    log's items say is current. in_hand: parts, by path, that need not be read. Raises JobError where a part is missing.
    """
    in_hand = in_hand or {}
    schema = grades_schema(grades)
    current = _current(state)
    before, made_from = _before(store, grades)
    if made_from > state.last:  # of another log, or of one that another run has meanwhile gone on with
        made_from = 0
    tables = [_rows_of(before, current.filter(pc.field(MANIFEST) <= made_from))]
    missing = current.filter(pc.invert(pc.is_in(joined(current, *ITEM_KEY), joined(tables[0], *ITEM_KEY))))
    for path in sorted(set(missing[PART].to_pylist())):
        part = in_hand[path] if path in in_hand else _part(store, path, schema)
        tables.append(_rows_of(part, missing.filter(pc.field(PART) == path)))
    return _corrected(pa.concat_tables(tables), state, grades).sort_by(RECORDING)


def segments_of(store: Store, state: LogState, grades: tuple[str, ...], rows: pa.Table) -> pa.Table:
    """The segments behind these rows of `latest`, in the rows' order and each recording's in time's
    (contract.segment_grades_schema). Raises JobError where a part is missing."""
    schema = segment_grades_schema(grades)
    current = _current(state)
    tables = [schema.empty_table()]
    for path in sorted(set(current[PART].to_pylist())):
        folder, _, name = path.rpartition("/")
        part = _part(store, f"{folder}/{name.replace('recordings', 'segments')}", schema)
        tables.append(_rows_of(part, current.filter(pc.field(PART) == path)))
    segments = pa.concat_tables(tables)
    row = pc.index_in(joined(segments, *ITEM_KEY), value_set=joined(rows, *ITEM_KEY))
    sorted_by = pa.table({"row": row, SEGMENT: segments[SEGMENT]}).filter(pc.is_valid(row))
    kept = segments.filter(pc.is_valid(row))
    return kept.take(pc.sort_indices(sorted_by, [("row", "ascending"), (SEGMENT, "ascending")]))


def _current(state: LogState) -> pa.Table:
    """The item of each recording that has a grade: the last one."""
    return newest(state.items.filter(pc.field(OUTCOME) == DONE), [RECORDING])


def _rows_of(rows: pa.Table, items: pa.Table) -> pa.Table:
    return rows.filter(pc.is_in(joined(rows, *ITEM_KEY), joined(items, *ITEM_KEY)))


def _before(store: Store, grades: tuple[str, ...]) -> tuple[pa.Table, int]:
    """(what the models say in the latest.parquet that is there, the manifest it was made from); nothing and 0 if it is
    not ours."""
    schema = grades_schema(grades)
    try:
        # Checked page by page: a wrong row taken over from here would never leave again.
        rows = read_parquet(store.read(LATEST_PARQUET).data)
    except (FileNotFoundError, pa.ArrowException, OSError):
        return schema.empty_table(), 0
    made_from = (rows.schema.metadata or {}).get(_MADE_FROM, b"0")
    if not rows.schema.equals(latest_schema(grades)) or not made_from.isdigit():
        return schema.empty_table(), 0
    said = {GRADE: rows[MACHINE_GRADE], GRADABLE: pc.is_valid(rows[MACHINE_GRADE])}
    columns = [said.get(name, rows[name]) for name in schema.names]
    return pa.table(columns, schema=schema), int(made_from)


def _corrected(rows: pa.Table, state: LogState, grades: tuple[str, ...]) -> pa.Table:
    """What the models say (contract.grades_schema), with what people corrected."""
    corrections = corrections_that_stand(state)
    of_row = pc.index_in(joined(rows, RECORDING, VERSION), value_set=joined(corrections, RECORDING, VERSION))
    by_people = corrections.take(of_row)  # nulls where nobody did
    columns = {
        **{name: rows[name] for name in rows.column_names},
        GRADE: pc.coalesce(by_people[GRADE], rows[GRADE]),
        GRADABLE: pc.or_(rows[GRADABLE], pc.is_valid(by_people[GRADE])),
        MACHINE_GRADE: rows[GRADE],
        CORRECTED_BY: by_people[BY],
        CORRECTED_AT: by_people[AT],
        CORRECTED_WHY: by_people[WHY],
        CORRECTED_MARK: by_people[MARK],
    }
    schema = latest_schema(grades)
    corrected = pa.table([columns[name] for name in schema.names], schema=schema)
    return pa.concat_tables([corrected, _failed_and_corrected(rows, state, corrections, schema)])


def _failed_and_corrected(rows: pa.Table, state: LogState, corrections: pa.Table, schema: pa.Schema) -> pa.Table:
    """Recordings that no model could hear and a person did."""
    if not len(corrections):
        return schema.empty_table()
    failed = standing(state).filter(pc.field(OUTCOME) == FAILED)
    failed = failed.filter(pc.invert(pc.is_in(failed[RECORDING], rows[RECORDING])))
    of_item = pc.index_in(joined(failed, RECORDING, VERSION), value_set=joined(corrections, RECORDING, VERSION))
    by_people = corrections.take(of_item.drop_null()).to_pylist()
    told = [
        {
            RECORDING: item[RECORDING],
            VERSION: item[VERSION],
            GRADE: correction[GRADE],
            GRADABLE: True,
            REASON: f"failed: {item[STAGE]}: {item[MESSAGE]}",
            SEGMENTS: 0,
            DURATION_S: 0.0,
            MODEL_ID: item[MODEL_ID],
            GRADED_AT: correction[AT],
            CORRECTED_BY: correction[BY],
            CORRECTED_AT: correction[AT],
            CORRECTED_WHY: correction[WHY],
            CORRECTED_MARK: correction[MARK],
        }
        for item, correction in zip(failed.filter(pc.is_valid(of_item)).to_pylist(), by_people, strict=True)
    ]
    return pa.Table.from_pylist(told, schema=schema)


def _part(store: Store, path: str, schema: pa.Schema) -> pa.Table:
    """A part's rows; null in columns that were not kept yet when it was written."""
    try:
        data = store.read(path).data
    except FileNotFoundError:
        raise JobError(f"{store.url(path)}: missing, though the log names it: bring it back from a backup") from None
    try:
        rows = read_parquet(data)
        kept = set(rows.column_names)
        if not kept >= {RECORDING, VERSION, MODEL_ID}:
            raise pa.ArrowInvalid(f"it lacks {', '.join(sorted({RECORDING, VERSION, MODEL_ID} - kept))}")
        columns = [rows[f.name].cast(f.type) if f.name in kept else pa.nulls(len(rows), f.type) for f in schema]
        return pa.table(columns, schema=schema)
    except (pa.ArrowException, OSError) as error:  # OSError: pages that are damaged
        raise JobError(
            f"{store.url(path)}: damaged, or no part of these grades ({one_line(error)}): bring it back from a backup"
        ) from None


def write_views(
    store: Store,
    state: LogState,
    grades: tuple[str, ...],
    in_hand: Mapping[str, pa.Table] | None = None,
    seen: Mapping[str, views.Seen] | None = None,
) -> pa.Table:
    """latest.* and failures.csv as the log has them now, or later than `state`; returns the latest grades.

    in_hand: parts, by path, that the caller wrote and that need not be read back. seen: the views (VIEWS) as they were
    before a commit found the log in this `state`: then neither is asked for again.
    """

    def build(state: LogState) -> dict[str, bytes]:
        rows = latest(store, state, grades, in_hand)
        return {
            LATEST_PARQUET: parquet_bytes(rows.replace_schema_metadata({_MADE_FROM: str(state.last)})),
            LATEST_CSV: csv_bytes(rows),
            FAILURES_CSV: csv_bytes(views.failures(state)),
        }

    commits = CommitLog(store, "grades", known=state)
    files = views.rewrite(store, commits, VIEWS, build, seen, fresh=state if seen else None)
    return read_parquet(files[LATEST_PARQUET])


def graded_by(store: Store, state: LogState) -> list[GradedBy]:
    """The models that have graded recordings of this folder, in the order of their first grades."""
    if state.settings is None:  # nothing was ever graded here
        return []
    current = _current(state)
    by_all = _by_all(state, current)
    schema = grades_schema(grades_of(state))
    return sorted(
        (_graded_by(store, model_id, by_all, current, schema) for model_id in pc.unique(by_all[MODEL_ID]).to_pylist()),
        key=lambda model: model.first,
    )


def _by_all(state: LogState, current: pa.Table) -> pa.Table:
    """Every model's item of the version that is current."""
    done = state.items.filter(pc.field(OUTCOME) == DONE)
    return done.filter(pc.is_in(joined(done, RECORDING, VERSION), joined(current, RECORDING, VERSION)))


def _graded_by(store: Store, model_id: str, by_all: pa.Table, current: pa.Table, schema: pa.Schema) -> GradedBy:
    items = by_all.filter(pc.field(MODEL_ID) == model_id)
    paths = sorted(items[PART].to_pylist())  # a run's name begins with its time
    times = [_part(store, path, schema)[GRADED_AT] for path in (paths[0], paths[-1])]
    here = current.filter(pc.field(MODEL_ID) == model_id)
    return GradedBy(model_id, len(items), len(here), pc.min(times[0]).as_py(), pc.max(times[1]).as_py())


def use_model(commits: CommitLog, run: str, model_id: str) -> tuple[LogState, int, int]:
    """Make a model's grades the current ones, in one commit: (the log with it, grades changed, recordings without one).

    A recording whose current version this model has not graded keeps the grade that it has. Nothing is graded, and
    nothing leaves the log. Raises UserError for a model that has graded nothing here.
    """
    state = commits.state()
    current = _current(state)
    theirs = _by_all(state, current).filter(pc.field(MODEL_ID) == model_id)
    if not len(theirs):
        raise UserError(f"--model-id {model_id}: has no grade here: leave the flag out to see which models have")
    other = theirs.filter(pc.invert(pc.is_in(joined(theirs, *ITEM_KEY), joined(current, *ITEM_KEY))))
    if len(other):
        assert state.settings is not None
        state = commits.commit(run, state.settings, other.drop_columns([RUN, MANIFEST]).to_pylist())
    changed = state.items.filter(pc.field(RUN) == run)  # not what another run replaced or deleted meanwhile
    return state, len(changed), len(current) - len(theirs)
