"""grade: recordings in, one grade each out; Ray Data streams decode → windows → inference, the driver merges.

A worker a core keeps one decoder child and the model. Where there are GPUs, there are two pools: decoders, and graders
that sit on the GPUs. A row that travels is a bounded run of one recording's windows, so that an hour costs no more
memory than a minute.
The driver puts a recording together when its last row is in, and commits every few hundred recordings.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
import torch

from samplecnn import grades_folder, model_folder, views
from samplecnn.commits import (
    DELETED,
    DONE,
    FAILED,
    MANIFEST,
    OUTCOME,
    PART,
    RUN,
    STAMP,
    CommitLog,
    LogState,
    failed_item,
    new_run,
    newest,
    outdated,
    require_same_settings,
    restamped,
)
from samplecnn.contract import (
    ACTIVITY,
    DURATION_S,
    FAILURES_CSV,
    GRADABLE,
    GRADE,
    GRADED_AT,
    LATEST_CSV,
    LEVELS,
    MACHINE_GRADE,
    MESSAGE,
    MODEL_ID,
    PIECE,
    PLAYING_S,
    RECORDING,
    RMS_DBFS,
    SEGMENT,
    SKETCH,
    SOURCE_RATE,
    STAGE,
    START_S,
    VERSION,
    WARNING,
    WEIGHT,
    cell_key,
    grades_schema,
    match_key,
    probabilities,
    segment_grades_schema,
)
from samplecnn.errors import RecordingError, UserError
from samplecnn.hearing import Hearing, own_device, own_threads
from samplecnn.infer import BATCH, Grader, RecordingGrade, merge_windows, said_of_piece
from samplecnn.merge import SegmentOutputs
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.outcome import Outcome, failed_text
from samplecnn.pipelines.prepare import COMMIT_EVERY_S, COMMIT_RECORDINGS
from samplecnn.pipelines.progress import Progress
from samplecnn.pipelines.runtime import ray_session, require_recordings, some_names
from samplecnn.pipelines.windows import COURSE_FEATURES, SOUND, WindowCutter
from samplecnn.recordings import Item, Plan, plan
from samplecnn.set_pieces import pieces_played
from samplecnn.sketch import sketch
from samplecnn.store import Store, open_store
from samplecnn.tables import parquet_bytes

log = logging.getLogger(__name__)

RECORDINGS_A_TASK = 4  # a Ray task costs some 5 ms, a recording of two minutes some 150 ms to decode


def grade(
    recordings: str,
    model: str,
    grades: str,
    *,
    new_only: bool = False,
    regrade: bool = False,
    pieces: str | None = None,
    workers: int | None = None,
) -> Outcome:
    """Grade each recording's current version once with this model.

    new_only keeps what other models have graded, regrade grades it again; without either such grades refuse the run.
    pieces: a table of who plays what, for a model that knows set pieces.
    Raises UserError for missing places, a grades folder of other recordings or grades, or both flags together.
    """
    if new_only and regrade:
        raise UserError("--new-only and --regrade contradict each other: give one of them")
    source, target = open_store(recordings), open_store(grades)
    card, network = model_folder.load(model)
    played = pieces_played(pieces, card.pieces)
    commits = CommitLog(target, "grades")
    state = commits.state()
    settings = {"recordings": source.root, "grade_names": ",".join(reversed(card.grades))}
    if state.settings and state.settings["grade_names"] != settings["grade_names"]:
        raise UserError(
            f"--grades {grades}: holds grades {state.settings['grade_names']}, and this model gives "
            f"{settings['grade_names']}: choose another --grades folder or another --model"
        )
    require_same_settings(state, settings, grades)
    if regrade and any(model.model_id == card.model_id for model in grades_folder.graded_by(target, state)):
        if not source.exists():  # told before anything is written
            raise UserError(f"--recordings {recordings}: no such folder, or nothing in it: check the path")
        # Its earlier grades count again; grading those recordings anew would give the same, but for another piece.
        grades_folder.use_model(commits, new_run(), card.model_id)
        state = commits.state()
    work = plan_night(source, state, card.model_id, new_only=new_only, leave_out=[grades, model])
    require_recordings(work, recordings)
    _tell_of_strangers(played, work, state, pieces, recordings)
    _tell_of_other_pieces(played, work, target, state, card, pieces)
    if not (new_only or regrade):
        _require_no_other_model(work, state, grades)
    run = _Run(target, commits, state, card, settings, played)
    run.restamp(work.touched)
    run.fail(work.failed, work.passed)
    if work.todo:
        log.info("%d recordings to grade, %d kept, %d other files left alone", len(work.todo), work.kept, work.ignored)
        with ray_session(workers) as cpus:
            progress = Progress(len(work.todo), " recording")
            for row in _hear_in_parallel(source, card, network, work.todo, min(cpus, len(work.todo))):
                progress.add(run.take(row))
            progress.close()
    return run.finish(work)


def waiting(recordings: str, model: str, grades: str) -> int:
    """How many recordings `grade` with new_only would try: what a night needs machines for.

    Raises UserError as `grade` does.
    """
    card, _ = model_folder.load(model)
    state = CommitLog(open_store(grades), "grades").state()
    work = plan_night(open_store(recordings), state, card.model_id, new_only=True, leave_out=[grades, model])
    require_recordings(work, recordings)
    return len(work.todo)


def plan_night(source: Store, state: LogState, model_id: str, *, new_only: bool, leave_out: Sequence[str] = ()) -> Plan:
    """What this model has to do: recordings.plan, by the log as this model sees it.

    What another model did is neither done nor hopeless, and neither is what this one did if another has graded the
    recording again since (a grade is that of the last commit); new_only: but what any model has graded is done.
    """
    items = state.items
    done = pc.equal(items[OUTCOME], DONE)
    theirs = pc.and_(pc.not_equal(items[MODEL_ID], model_id), pc.not_equal(items[OUTCOME], DELETED))
    # That a recording cannot be decoded is true for every model.
    open_again = pc.and_(theirs, pc.equal(items[STAGE], "grade").fill_null(False))
    if not new_only:
        overruled = pc.and_(done, pc.invert(_standing(items, done)))
        open_again = pc.or_(open_again, pc.or_(overruled, pc.and_(theirs, done)))
    column = items.schema.get_field_index(OUTCOME)
    outcomes = pc.if_else(open_again, "of another model", items[OUTCOME])
    known = items.set_column(column, items.schema.field(column), outcomes)
    return plan(source, known, leave_out, state.erased)


def _standing(items: pa.Table, done: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which rows hold the grade that their recording has now. By number: a million keys as text are 100 MB."""
    numbered = items.select([RECORDING]).append_column("number", pa.array(range(len(items)), pa.int64()))
    return pc.is_in(numbered["number"], newest(numbered.filter(done), [RECORDING])["number"])


def _tell_of_strangers(
    played: Mapping[str, str], work: Plan, state: LogState, pieces: str | None, recordings: str
) -> None:
    """A row of --pieces whose recording is not there is most likely misspelled."""
    if not played:
        return
    known = {cell_key(name) for name in state.items[RECORDING].to_pylist()}
    known.update(cell_key(item.recording) for item in work.todo)
    if strangers := sorted(set(played) - known):
        told = some_names(strangers)
        log.warning(
            "%d recordings of %s are not in %s, or no sound files: %s", len(strangers), pieces, recordings, told
        )


def _tell_of_other_pieces(
    played: Mapping[str, str], work: Plan, target: Store, state: LogState, card: ModelCard, pieces: str | None
) -> None:
    """What this model has graded stays as it is, whatever a table says by now: that is worth a word."""
    if not played or card.pieces is None or state.settings is None:
        return
    rows = grades_folder.latest(target, state, card.grades)
    rows = rows.filter(pc.and_(pc.equal(rows[MODEL_ID], card.model_id), pc.is_valid(rows[MACHINE_GRADE])))
    anew = {item.recording for item in work.todo}
    others = [
        name
        for name, beside in zip(rows[RECORDING].to_pylist(), rows[PIECE].to_pylist(), strict=True)
        if name not in anew
        and (piece := played.get(cell_key(name)))
        and card.pieces.knows(piece)
        and match_key(beside or "") != match_key(piece)
    ]
    if others:
        log.warning(
            "%d recordings were graded beside another piece than %s says, or none, and stay so: %s: to judge them anew "
            "grade into another --grades",
            *(len(others), pieces, some_names(others)),
        )


def _require_no_other_model(work: Plan, state: LogState, grades: str) -> None:
    """Raises UserError if another model's grades stand in the way, since nobody said what to do about them."""
    names = pa.array([item.recording for item in work.todo], pa.string())
    done = state.items.filter((pc.field(OUTCOME) == DONE) & pc.is_in(pc.field(RECORDING), names))
    graded = set(zip(done[RECORDING].to_pylist(), done[VERSION].to_pylist(), strict=True))
    if others := sum((item.recording, item.version) in graded for item in work.todo):
        raise UserError(
            f"--grades {grades}: {others} recordings have a grade of another model: "
            "--new-only keeps those, --regrade grades them again"
        )


class _Run:
    """One run's way from rows of windows to committed grades, on the driver."""

    def __init__(
        self,
        target: Store,
        commits: CommitLog,
        state: LogState,
        card: ModelCard,
        settings: dict[str, Any],
        played: Mapping[str, str],
    ) -> None:
        self._name = new_run()
        self._target, self._commits, self._state, self._card, self._settings = target, commits, state, card, settings
        self._played = played
        self._rows: dict[str, dict[int, dict[str, Any]]] = {}  # of recordings that are not complete yet
        self._recordings: list[dict[str, Any]] = []
        self._segments: list[dict[str, Any]] = []
        self._items: list[dict[str, Any]] = []
        self._passed: list[dict[str, Any]] = []
        self._in_hand: dict[str, pa.Table] = {}  # the parts of recordings that this run wrote, by path
        self._versions: dict[str, str] = {}  # of all parts that this run wrote, by path
        self._parts = self._done = self._failed = self._kept = self._ungradable = 0
        self._committed_at = time.monotonic()

    def restamp(self, touched: Mapping[tuple[str, str], str]) -> None:
        """Note that files were touched and not changed, so that the next run need not hash them again."""
        if items := restamped(self._state, touched):
            self._state = self._commits.commit(self._name, self._settings, items)

    def fail(self, failed: list[dict[str, Any]], passed: list[dict[str, Any]]) -> None:
        """Note recordings that could not even be planned, and take back what was said of those that now can."""
        self._items += [{**item, MODEL_ID: self._card.model_id} for item in failed]
        self._passed = passed

    def take(self, row: dict[str, Any]) -> int:
        """Note a row of windows; returns 1 if that completes its recording."""
        meta = json.loads(row["meta"])
        name = meta["item"][RECORDING]
        if OUTCOME in meta["item"]:
            log.warning("%s: %s", name, meta["item"][MESSAGE])
            self._items.append({**meta["item"], MODEL_ID: self._card.model_id})
        else:
            rows = self._rows.setdefault(name, {})
            rows[int(row["number"])] = row
            if len(rows) < meta["rows"]:
                return 0
            self._complete(meta, [self._rows[name][number] for number in range(meta["rows"])])
            del self._rows[name]
        waiting = len(self._items)
        if waiting >= COMMIT_RECORDINGS or time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self._commit()
        return 1

    def _complete(self, meta: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """Merge one recording's windows into its grade."""
        grades = len(self._card.grades)
        told = [json.loads(row["meta"]) for row in rows]
        probs_SG = np.concatenate([np.frombuffer(row["probs"], np.float64).reshape(-1, grades) for row in rows])
        embedding_SE = np.concatenate([np.frombuffer(row["embedding"], np.float32) for row in rows])
        attention_S = np.concatenate([np.frombuffer(row["attention"], np.float64) for row in rows])
        start_s = [start for part in told for start in part[START_S]]
        course = meta[COURSE_FEATURES]
        outputs = SegmentOutputs(
            probs_SG,
            embedding_SE.reshape(len(probs_SG), -1),
            np.array([share for part in told for share in part[ACTIVITY]], np.float32),
            np.array(start_s),
            attention_S=attention_S,
            **({} if course is None else {"course_C": np.array(course)}),
        )
        item = {**meta["item"], MODEL_ID: self._card.model_id}
        try:
            sound = meta[SOUND]
            measures_M = None if sound is None else np.array(sound)
            piece = self._played.get(cell_key(item[RECORDING]))
            graded = merge_windows(self._card, outputs, meta[PLAYING_S], measures_M, piece)
        except RecordingError as error:
            self._items.append(
                {**failed_item(item[RECORDING], item[VERSION], item[STAMP], error), MODEL_ID: self._card.model_id}
            )
            return
        warning = "; ".join(filter(None, (meta[WARNING], said_of_piece(piece, graded, self._card.pieces)))) or None
        self._recordings.append(self._recording_row(item, {**meta, WARNING: warning}, graded))
        levels_SL = [levels_L for part in told for levels_L in part[LEVELS]]
        self._segments += self._segment_rows(item, start_s, levels_SL, outputs, graded)
        part = grades_folder.recordings_part(self._name, self._parts + 1)
        self._items.append({**item, OUTCOME: DONE, PART: part})

    def _recording_row(self, item: dict[str, Any], meta: dict[str, Any], graded: RecordingGrade) -> dict[str, Any]:
        return {
            RECORDING: item[RECORDING],
            VERSION: item[VERSION],
            WARNING: meta[WARNING],
            DURATION_S: meta[DURATION_S],
            PLAYING_S: meta[PLAYING_S],
            RMS_DBFS: meta[RMS_DBFS],
            SOURCE_RATE: meta[SOURCE_RATE],
            MODEL_ID: self._card.model_id,
            GRADED_AT: datetime.now(UTC),
            **graded.columns(self._card),
        }

    def _segment_rows(
        self,
        item: dict[str, Any],
        start_s: list[float],
        levels_SL: list[list[int]],
        outputs: SegmentOutputs,
        graded: RecordingGrade,
    ) -> list[dict[str, Any]]:
        sketch_SK = sketch(outputs.embedding_SE)
        return [
            {
                RECORDING: item[RECORDING],
                VERSION: item[VERSION],
                MODEL_ID: self._card.model_id,
                SEGMENT: number,
                START_S: start_s[number],
                ACTIVITY: float(outputs.activity_S[number]),
                **probabilities(self._card.grades, outputs.probs_SG[number].tolist()),
                WEIGHT: float(graded.weight_S[number]),
                LEVELS: levels_SL[number],
                SKETCH: sketch_SK[number],
            }
            for number in range(len(start_s))
        ]

    def _commit(self, deleted: list[str] | None = None) -> None:
        """Write the parts, then the manifest that makes them count."""
        items = [*self._items, *self._passed, *outdated(self._state, self._items, deleted or [])]
        if items or self._state.settings is None:
            self._parts += 1
            before = self._state.last
            self._state = self._commits.commit(
                self._name, self._settings, items, self._write_parts(items), build=self._write_parts
            )
            self._count(before)
        self._recordings, self._segments, self._items, self._passed = [], [], [], []
        self._committed_at = time.monotonic()

    def _count(self, before: int) -> None:
        """What the log took of this commit; what another run settled meanwhile is kept, not graded by this one."""
        ours = self._state.items.filter((pc.field(MANIFEST) > before) & (pc.field(RUN) == self._name))
        done = ours.filter(pc.field(OUTCOME) == DONE)
        keys = set(zip(done[RECORDING].to_pylist(), done[VERSION].to_pylist(), strict=True))
        failed = len(ours.filter(pc.field(OUTCOME) == FAILED))
        self._done += len(keys)
        self._failed += failed
        self._kept += len(self._items) - len(keys) - failed
        self._ungradable += sum(not row[GRADABLE] for row in self._recordings if (row[RECORDING], row[VERSION]) in keys)

    def _write_parts(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows of these items as two parts; again, over the same files, if another run was first with some."""
        done = {(item[RECORDING], item[VERSION]) for item in items if item[OUTCOME] == DONE}
        recordings = [row for row in self._recordings if (row[RECORDING], row[VERSION]) in done]
        segments = [row for row in self._segments if (row[RECORDING], row[VERSION]) in done]
        if not recordings:
            return []
        path = grades_folder.recordings_part(self._name, self._parts)
        segments_path = grades_folder.segments_part(self._name, self._parts)
        grades = self._card.grades
        rows = pa.Table.from_pylist(recordings, schema=grades_schema(grades))
        self._write(path, parquet_bytes(rows))
        self._in_hand[path] = rows
        segment_rows = pa.Table.from_pylist(segments, schema=segment_grades_schema(grades))
        self._write(segments_path, parquet_bytes(segment_rows))
        return [{"path": path, "rows": len(recordings)}, {"path": segments_path, "rows": len(segments)}]

    def _write(self, path: str, data: bytes) -> None:
        """Write a part, or the part that we wrote anew. Under conditions: an upload that timed out and was tried again
        may still arrive, after the part has lost rows.
        """
        version = self._versions.get(path)
        self._versions[path] = self._target.replace(path, data, version) if version else self._target.create(path, data)

    def finish(self, work: Plan) -> Outcome:
        """The last commit, deletions included, and the views."""
        seen, last = None, self._state.last
        if self._items or self._passed or work.deleted:
            seen = views.look(self._target, grades_folder.VIEWS)
        self._commit(work.deleted)
        if self._state.last == last:  # nothing was left to commit: what was known of the log is older than the views
            seen = None
        rows = grades_folder.write_views(self._target, self._state, self._card.grades, self._in_hand, seen)
        counts = [f"{count} {name}" for name in reversed(self._card.grades) if (count := _count(rows, name))]
        kept = work.kept + self._kept
        text = f"{self._done + self._failed + kept + work.given_up} recordings: {self._done - self._ungradable} graded"
        text += f", {kept} kept" if kept else ""
        text += f", {len(work.deleted)} gone" if work.deleted else ""
        text += f", {self._ungradable} not gradable" if self._ungradable else ""
        text += failed_text(self._failed, work.given_up, self._target.url(FAILURES_CSV))
        text += f"; now {', '.join(counts)}" if counts else ""
        text += f"; see {self._target.url(LATEST_CSV)}"
        return Outcome(self._done, self._failed, kept, work.given_up, text, self._card.model_id)


def _count(rows: pa.Table, grade: str) -> int:
    return int(pc.sum(pc.equal(rows[GRADE], grade)).as_py() or 0)


def _hear_in_parallel(
    source: Store, card: ModelCard, network: Hearing, todo: list[Item], workers: int
) -> Iterator[dict[str, Any]]:
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    tasks = max(workers, -(-len(todo) // RECORDINGS_A_TASK))
    items = ray.data.from_items(
        [{"item": json.dumps(vars(item))} for item in todo], override_num_blocks=min(tasks, len(todo))
    )
    decoders: dict[str, Any] = {"batch_size": 1, "compute": ray.data.ActorPoolStrategy(size=workers), "num_cpus": 1}
    asked = {"course": card.asks_for_course(), "sound": card.likeness is not None}
    if not gpus:
        heard = items.map_batches(
            RecordingHearer,
            fn_constructor_args=(source, card, network.state_dict()),
            fn_constructor_kwargs=asked,
            **decoders,
        )
    else:
        heard = items.map_batches(
            WindowCutter, fn_constructor_args=(source, card.settings, BATCH), fn_constructor_kwargs=asked, **decoders
        ).map_batches(
            WindowGrader,
            fn_constructor_args=(card, network.state_dict(), True),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=gpus),
            # None of the decoders' cores: they hold theirs until graders have taken what they decoded, and several
            # runs at once could wait for each other for ever.
            num_cpus=0,
            num_gpus=1,
        )
    yield from heard.iter_rows()


class RecordingHearer:
    """A Ray Data worker where there is no GPU: a recording in, what the model says of its windows out.

    Both halves in one process: apart they cost each job a second process a core that loads torch, and windows their way
    through Ray's object store.
    """

    def __init__(
        self, source: Store, card: ModelCard, weights: Mapping[str, torch.Tensor], *, course: bool, sound: bool
    ) -> None:
        self._cutter = WindowCutter(source, card.settings, BATCH, course=course, sound=sound)
        self._grader = WindowGrader(card, weights, on_gpu=False)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        yield from map(self._grader, self._cutter(batch))


class WindowGrader:
    """A Ray Data worker: rows of windows in, what the model says of them out.

    The weights come from the driver: read here, they could be those of a model published since the run began.
    """

    def __init__(self, card: ModelCard, weights: Mapping[str, torch.Tensor], on_gpu: bool) -> None:
        if not on_gpu:
            own_threads(1)  # one a process: the graders share the machine, and sums keep their order
        network = card.build()
        network.load_state_dict(weights)
        self._grader = Grader(card, network, own_device() if on_gpu else torch.device("cpu"))
        self._samples = card.settings.segment_samples

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        told: dict[str, list[bytes]] = {"probs": [], "embedding": [], "attention": []}
        for windows in batch["windows"]:
            # There are none of a recording that failed before it came here.
            windows_ST = np.frombuffer(windows, np.float32).reshape(-1, self._samples)
            heard: tuple[npt.NDArray[Any], ...] = (np.empty(0),) * len(told)
            if len(windows_ST):
                heard = self._grader.hear(windows_ST)
            for column, values in zip(told.values(), heard, strict=True):
                column.append(values.tobytes())
        return {"meta": list(batch["meta"]), "number": list(batch["number"]), **told}
