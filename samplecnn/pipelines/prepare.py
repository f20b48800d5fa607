"""prepare: recordings in, shards of segments out; Ray Data decodes them in parallel.

A row of the Ray data set is the plan of one shard, so that a worker writes whole shards and what travels through Ray is
small: names in, outcomes out. Each worker keeps one decoder child (audio.Decoder) for all its recordings.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
import ray.data

from samplecnn import segment_folder
from samplecnn.audio import Decoder
from samplecnn.commits import (
    DONE,
    FAILED,
    OUTCOME,
    PART,
    STAMP,
    CommitLog,
    LogState,
    failed_item,
    new_run,
    outdated,
    require_same_settings,
    restamped,
)
from samplecnn.contract import (
    CHANNELS,
    CODEC,
    DURATION_S,
    FAILURES_CSV,
    MESSAGE,
    RECORDING,
    SEGMENTS,
    SOURCE_RATE,
    VERSION,
    WARNING,
    segments_schema,
)
from samplecnn.errors import RecordingError, UserError
from samplecnn.flags import settings_dict
from samplecnn.leases import Lease, hold
from samplecnn.pipelines.outcome import Outcome, failed_text
from samplecnn.pipelines.progress import Progress
from samplecnn.pipelines.runtime import ray_session, require_recordings
from samplecnn.recordings import Item, Plan, plan
from samplecnn.segment_folder import OUTCOMES_KEY, SETTINGS_KEY, Staged, settings_json, staged_path
from samplecnn.segments import SegmentSettings, cut
from samplecnn.store import Store, open_store

log = logging.getLogger(__name__)

# 2 minutes at 500 Hz are 240 kB: 256 recordings make a shard of 60 MB, 4,000 shards for a million recordings.
MOST_A_SHARD = 256
SHARDS_AT_LEAST = 32  # so that a few hundred recordings still keep several workers busy
COMMIT_RECORDINGS = 500
MANY = 10  # recordings; fewer that are all gone are soon prepared again
COMMIT_EVERY_S = 300.0


def prepare(recordings: str, segments: str, settings: SegmentSettings, workers: int | None = None) -> Outcome:
    """Bring a segments folder up to date with a folder of recordings; does only what is missing or changed.

    Raises UserError for a missing folder, one without recordings, or segments made with other settings.
    """
    source, target = open_store(recordings), open_store(segments)
    if not source.exists():  # told before the lease makes a segments folder
        raise UserError(f"--recordings {recordings}: no such folder")
    with hold(target, "prepare") as lease:
        commits = CommitLog(target, "segments")
        state = commits.state()
        require_same_settings(state, settings_dict(settings), segments)
        segment_folder.finish_commit(target, state)
        work = plan(source, state.items, leave_out=[segments], erased=state.erased)
        require_recordings(work, recordings)
        _require_not_others(work, state, recordings, segments)
        run = _Run(target, lease, commits, state, settings, work)
        lease.check()
        run.restamp(work.touched)
        run.adopt()
        todo = run.todo()
        if todo:
            shards = _pack(todo, settings)
            log.info(
                "%d recordings to cut, %d already cut, %d other files left alone", len(todo), work.kept, work.ignored
            )
            with ray_session(workers) as cpus:
                progress = Progress(len(todo), " recording")
                for staged in _cut_in_parallel(source, target, settings, shards, run.name, min(cpus, len(shards))):
                    run.take(staged)
                    progress.add(len(staged.items))
                progress.close()
        return run.finish(segments)


def _require_not_others(work: Plan, state: LogState, recordings: str, segments: str) -> None:
    """Raises UserError where all that was prepared is gone, and others are there: another folder, most likely."""
    if len(work.deleted) < MANY or not work.todo or work.kept or work.given_up:
        return
    if {item.recording for item in work.todo}.isdisjoint(state.items[RECORDING].to_pylist()):
        raise UserError(
            f"--recordings {recordings}: none of the {len(work.deleted)} recordings that {segments} was made of is "
            f"there, and {len(work.todo)} others are: name another --segments for these, or delete that one first"
        )


class _Run:
    """One run's way from staged shards to commits, on the driver."""

    def __init__(
        self, target: Store, lease: Lease, commits: CommitLog, state: LogState, settings: SegmentSettings, work: Plan
    ) -> None:
        self.name = new_run()
        self._lease = lease
        self._target, self._commits, self._state, self._settings, self._work = target, commits, state, settings, work
        self._wanted = {item.recording: item for item in work.todo}
        self._staged: list[Staged] = []
        self._done = self._failed = self._partly = 0
        self._committed_at = time.monotonic()

    def restamp(self, touched: Mapping[tuple[str, str], str]) -> None:
        """Note that files were touched and not changed, so that the next run need not hash them again."""
        if items := restamped(self._state, touched):
            self._state = self._commits.commit(self.name, settings_dict(self._settings), items)

    def adopt(self) -> None:
        """Take over complete shards that a killed run left, and clear away the rest."""
        versions = {item.recording: item.version for item in self._work.todo}
        adopted, leftovers = segment_folder.staged_shards(self._target, self._settings, versions)
        for path in leftovers:
            self._target.delete(path)
        if adopted:
            count = sum(len(staged.items) for staged in adopted)
            log.info("taking over %d recordings that an interrupted run had cut", count)
        for staged in adopted:
            self.take(staged)

    def todo(self) -> list[Item]:
        """What is still to cut."""
        return list(self._wanted.values())

    def take(self, staged: Staged) -> None:
        """Note a staged shard; commit every so often, so that little is lost with the driver."""
        self._staged.append(staged)
        for item in staged.items:
            self._wanted.pop(item[RECORDING], None)
        waiting = sum(len(staged.items) for staged in self._staged)
        if waiting >= COMMIT_RECORDINGS or time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self._commit()

    def finish(self, segments: str) -> Outcome:
        """The last commit, deletions included, and the views."""
        gone, failed, passed = self._work.deleted, self._work.failed, self._work.passed
        if self._staged or gone or failed or passed or self._state.settings is None:
            self._commit(gone, failed, passed)
        segment_folder.write_views(self._target, self._state)
        segments_cut = sum(segment_folder.prepared_recordings(self._state)[SEGMENTS].to_pylist())
        text = f"{self._done + self._failed + self._work.kept + self._work.given_up} recordings: {self._done} cut"
        text += f", {self._work.kept} kept" if self._work.kept else ""
        text += f", {len(gone)} gone" if gone else ""
        text += f", {self._partly} with a warning ({self._target.url('recordings.csv')})" if self._partly else ""
        text += failed_text(self._failed, self._work.given_up, self._target.url(FAILURES_CSV))
        text += f"; {segments_cut} segments in {segments}"
        return Outcome(self._done, self._failed, self._work.kept, self._work.given_up, text)

    def _commit(
        self,
        deleted: Sequence[str] = (),
        failed: Sequence[dict[str, Any]] = (),
        passed: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Name the staged shards in a manifest; shards that hold an older version of a recording are rewritten."""
        self._lease.check()
        items: list[dict[str, Any]] = list(failed)
        parts: list[dict[str, Any]] = []
        for staged in self._staged:
            path = segment_folder.data_path(staged.name)
            items += [{**item, PART: path} if item[OUTCOME] == DONE else item for item in staged.items]
            parts += [{"path": path, "rows": staged.rows}] if staged.rows else []
        gone = outdated(self._state, items, deleted)
        removed = segment_folder.shards_of(gone)
        for path, names in removed.items():
            rest = segment_folder.without(self._target, path, names, self.name, self._state)
            if rest:
                new_path = segment_folder.data_path(rest.name)
                items += [{**item, PART: new_path} for item in rest.items]
                parts.append({"path": new_path, "rows": rest.rows})
        self._state = self._commits.commit(
            self.name, settings_dict(self._settings), [*items, *passed, *gone], parts, removed=sorted(removed)
        )
        segment_folder.finish_commit(self._target, self._state)
        for staged in self._staged:
            if not staged.rows:  # all its recordings failed: it held only that, and the log has it now
                self._target.delete(staged.path)
        for item in (item for staged in self._staged for item in staged.items):
            self._done += item[OUTCOME] == DONE
            self._failed += item[OUTCOME] == FAILED
            self._partly += bool(item.get(WARNING))
            if item[OUTCOME] == FAILED:
                log.warning("%s: %s", item[RECORDING], item[MESSAGE])
        self._failed += len(failed)
        self._staged = []
        self._committed_at = time.monotonic()


def _pack(todo: list[Item], settings: SegmentSettings) -> list[list[Item]]:
    """Recordings into shards, by name: the same for the same work, whatever the number of workers."""
    bytes_factor = max(1.0, settings.sample_rate / 500)  # keep a shard's size where the rate is higher
    size = max(1, min(int(MOST_A_SHARD / bytes_factor), len(todo) // SHARDS_AT_LEAST))
    return [todo[start : start + size] for start in range(0, len(todo), size)]


def _cut_in_parallel(
    source: Store, target: Store, settings: SegmentSettings, shards: list[list[Item]], run: str, workers: int
) -> Iterator[Staged]:
    rows = [
        {"name": f"{run}-{number:05d}.parquet", "items": json.dumps([vars(item) for item in shard])}
        for number, shard in enumerate(shards)
    ]
    staged = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ShardCutter,
        fn_constructor_args=(source, target, settings, run),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,  # PyAV does not scale over threads (facts: 757 against 791 times real time): one process a core
    )
    for row in staged.iter_rows():
        yield Staged(row["name"], row["path"], row["rows"], json.loads(row["items"]))


class ShardCutter:
    """A Ray Data worker: the plan of a shard in, the shard written and the outcome of each recording out."""

    def __init__(self, source: Store, target: Store, settings: SegmentSettings, run: str) -> None:
        self._source, self._target, self._settings, self._run = source, target, settings, run
        self._decoder = Decoder(settings.sample_rate)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for name, items in zip(batch["name"], batch["items"], strict=True):
            staged = self._write(str(name), [Item(**item) for item in json.loads(items)])
            yield {
                "name": [staged.name],
                "path": [staged.path],
                "rows": [staged.rows],
                "items": [json.dumps(staged.items)],
            }

    def _write(self, name: str, items: list[Item]) -> Staged:
        path = staged_path(self._run, name)
        schema = segments_schema(self._settings.segment_samples, self._settings.sample_rate)
        outcomes: list[dict[str, Any]] = []
        rows = 0
        with (
            self._target.open_output(path) as sink,
            segment_folder.shard_writer(sink, schema) as writer,
        ):
            for item in items:
                written, outcome = self._cut(item, writer)
                rows += written
                outcomes.append(outcome)
            writer.add_key_value_metadata(
                {OUTCOMES_KEY: json.dumps(outcomes), SETTINGS_KEY: settings_json(self._settings)}
            )
        return Staged(name, path, rows, outcomes)

    def _cut(self, item: Item, writer: pq.ParquetWriter) -> tuple[int, dict[str, Any]]:
        rows = 0
        try:
            with self._source.fetch(item.name, item.version, item.stamp) as path:
                decoded = self._decoder.decode(path)
            for batch in cut(item.recording, item.version, decoded, self._settings):
                writer.write_batch(batch)
                rows += batch.num_rows
        except RecordingError as error:
            return 0, failed_item(item.recording, item.version, item.stamp, error)
        return rows, {
            RECORDING: item.recording,
            VERSION: item.version,
            STAMP: item.stamp,
            OUTCOME: DONE,
            SEGMENTS: rows,
            DURATION_S: decoded.duration_s,
            SOURCE_RATE: decoded.source_rate,
            CHANNELS: decoded.channels,
            CODEC: decoded.codec,
            WARNING: "; ".join(decoded.warnings) or None,
        }
