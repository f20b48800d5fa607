"""The data contract: every column, dtype, shape, unit and file name that two parts of samplecnn share.

It exists so that no column is spelled twice. It holds values and a few one-line rules about names, and leaves
reading and writing to tables.py (formats), store.py (bytes) and commits.py (the log).
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa

# --- what counts as a recording -----------------------------------------------------------------------------------

# A file whose name ends like audio or video is an item of work; others are counted and left alone.
RECORDING_SUFFIXES = frozenset(
    [
        *("wav", "wave", "w64", "au", "flac", "mp3", "ogg", "oga", "opus", "m4a", "m4b", "aac", "ac3", "amr"),
        *("caf", "aif", "aiff", "aifc", "wma", "asf"),
        *("mp4", "m4v", "mov", "3gp", "3g2", "webm", "mkv", "mka"),
    ]
)

# --- activity: where somebody plays --------------------------------------------------------------------------------

FRAMES_PER_S = 20  # levels are measured on frames of 50 ms, at the full rate, before resampling
FRAME_S = 1 / FRAMES_PER_S
LEVEL_S = 0.5  # of a segment's levels: ten frames
ACTIVE_FLOOR_DBFS = -60.0  # a frame below this is silent whatever the recording
ACTIVE_RANGE_DB = 40.0  # a frame this far below the recording's loud frames is silent
LOUD_PERCENTILE = 95.0  # what "loud frames" means
SILENCE_DBFS = -120.0  # the level written for digital silence
NOTHING_LEFT_DBFS = -90.0  # active frames softer than this after resampling hold rounding noise (16 bit: -98 dBFS)
SILENT_SEGMENT_ACTIVITY = 0.2  # a segment with a smaller share of active frames has no say in a grade
LAST_SEGMENT_SHARE = 0.5  # a shorter last segment has a say, and a recording a grade, from this share of a segment on

# --- columns ---------------------------------------------------------------------------------------------------------

RECORDING = "recording"  # path relative to the recordings root, "/" between folders
VERSION = "version"  # GCS generation; locally a hash of the content
SEGMENT = "segment"  # 0-based
START_S = "start_s"
END_S = "end_s"  # in labels.csv: where the part ends that was judged
PLAYING_S = "playing_s"  # active frames of a whole recording
VALID_SAMPLES = "valid_samples"  # the rest of the waveform is zero padding
SAMPLE_RATE = "sample_rate"  # Hz
ACTIVITY = "activity"  # 0..1, share of the frames with playing
RMS_DBFS = "rms_dbfs"  # at the full rate
ACTIVE = "active"  # one flag a frame of FRAME_S: does somebody play?
WAVEFORM = "waveform"  # float32 mono, sample_rate Hz

STAGE = "stage"
ERROR = "error"
MESSAGE = "message"

SEGMENTS = "segments"  # number of segments
DURATION_S = "duration_s"
SOURCE_RATE = "source_rate"  # Hz, before resampling
CHANNELS = "channels"
CODEC = "codec"
WARNING = "warning"

GRADE = "grade"
SCORE = "score"  # 0 = worst .. 1 = best: the expected rank
CONFIDENCE = "confidence"  # probability of the stated grade
GRADABLE = "gradable"
REASON = "reason"
MODEL_ID = "model_id"
GRADED_AT = "graded_at"  # UTC
MACHINE_GRADE = "machine_grade"  # what the model says, where a person may have said otherwise
CORRECTED_BY = "corrected_by"
CORRECTED_AT = "corrected_at"  # UTC
CORRECTED_WHY = "corrected_why"
CORRECTED_MARK = "corrected_mark"
BY = "by"  # of a correction: who says so
WHY = "why"
BECAUSE = "because"  # why a recording is worth a label
LEVELS = "levels"  # of a segment: dBFS at the full rate, one for each LEVEL_S of it
SKETCH = "sketch"  # of a segment: its embedding as a few numbers (sketch.py)
WEIGHT = "weight"  # of a segment in the merge; the weights of a recording add up to 1

PREDICTED = "predicted"
FOLD = "fold"
PERFORMER = "performer"
MARK = "mark"  # a number in the jury's own range: given in labels.csv, told in grades
MARK_LOW = "mark_low"  # of the interval that holds nine marks of ten
MARK_HIGH = "mark_high"
PREDICTED_MARK = "predicted_mark"
RATER = "rater"  # in labels.csv: who gave this grade, where several people graded a recording
PIECE = "piece"
SESSION = "session"
TAKE = "take"  # what was played at once: renderings of one performance share it
PIANO = "piano"
ROOM = "room"
LEVEL_DB = "level_db"  # gain, the same for every recording that has it

NUMBER = "number"  # of a generated performance
PERFORMER_NUMBER = "performer_number"

LAYER = "layer"  # of a network, as its layer table names it
FILTER = "filter"  # 0-based channel of a layer
PEAK_HZ = "peak_hz"  # where the spectrum is largest
ACTIVATION = "activation"  # mean response of the filter; 0: nothing was found that it answers to
SPECTRUM = "spectrum"  # log10(1 + 10 power), from 0 Hz to half the sample rate

# --- file names ------------------------------------------------------------------------------------------------------

MANIFESTS = "manifests"  # the commit log of a segments or grades folder: manifests/<n>.json
DATA = "data"  # segments/data/*.parquet
STAGING = "staging"  # segments/staging/<run>/*.parquet
PARTS = "parts"  # grades/parts/<run>/*.parquet
LEASE = "lease.json"
FAILURES_PARQUET = "failures.parquet"
FAILURES_CSV = "failures.csv"
RECORDINGS_PARQUET = "recordings.parquet"  # segments/: one row a prepared recording
RECORDINGS_CSV = "recordings.csv"
LATEST_PARQUET = "latest.parquet"
LATEST_CSV = "latest.csv"
WEIGHTS_FILE = "model.safetensors"
MODEL_FILE = "model.json"
TRAINED_ON_FILE = "trained_on.json"
PERFORMANCES_FILE = "performances.json"  # performances/: how they were drawn
STARTER_WEIGHTS = "starter.safetensors"
STARTER_FILE = "starter.json"
CURRENT = "current"  # model/current: the id of the model to use, which lies in the folder of that name
METRICS_JSON = "metrics.json"
METRICS_CSV = "metrics.csv"
PREDICTIONS_CSV = "predictions.csv"
RISK_COVERAGE_CSV = "risk_coverage.csv"
REPORT_HTML = "report.html"
LABEL_NEXT_CSV = "label_next.csv"
FILTERS_PARQUET = "filters.parquet"
FILTERS_PNG = "filters.png"

# --- schemas ---------------------------------------------------------------------------------------------------------


def frames_of(samples: int, sample_rate: int) -> int:
    """Number of activity frames that cover this many samples (a last, shorter frame counts)."""
    return -(-samples * FRAMES_PER_S // sample_rate)


def segments_schema(segment_samples: int, sample_rate: int) -> pa.Schema:
    """segments/data/*.parquet: one row a segment, all rows of a recording in one shard, in order."""
    return pa.schema(
        [
            pa.field(RECORDING, pa.string(), nullable=False),
            pa.field(VERSION, pa.string(), nullable=False),
            pa.field(SEGMENT, pa.int32(), nullable=False),
            pa.field(START_S, pa.float64(), nullable=False),
            pa.field(VALID_SAMPLES, pa.int32(), nullable=False),
            pa.field(SAMPLE_RATE, pa.int32(), nullable=False),
            pa.field(ACTIVITY, pa.float32(), nullable=False),
            pa.field(RMS_DBFS, pa.float32(), nullable=False),
            pa.field(ACTIVE, pa.list_(pa.bool_(), frames_of(segment_samples, sample_rate)), nullable=False),
            pa.field(WAVEFORM, pa.list_(pa.float32(), segment_samples), nullable=False),
        ]
    )


FILTERS_SCHEMA = pa.schema(
    [  # filters.parquet: one row a filter, layer by layer, in a layer by peak_hz
        pa.field(LAYER, pa.string(), nullable=False),
        pa.field(FILTER, pa.int32(), nullable=False),
        pa.field(PEAK_HZ, pa.float64(), nullable=False),
        pa.field(ACTIVATION, pa.float32(), nullable=False),
        pa.field(SAMPLE_RATE, pa.int32(), nullable=False),
        pa.field(WAVEFORM, pa.list_(pa.float32()), nullable=False),
        pa.field(SPECTRUM, pa.list_(pa.float32()), nullable=False),
    ]
)

RECORDINGS_SCHEMA = pa.schema(
    [  # segments/recordings.*: what prepare made of each recording
        pa.field(RECORDING, pa.string(), nullable=False),
        pa.field(VERSION, pa.string(), nullable=False),
        pa.field(SEGMENTS, pa.int32(), nullable=False),
        pa.field(DURATION_S, pa.float64(), nullable=False),
        pa.field(SOURCE_RATE, pa.int32(), nullable=False),
        pa.field(CHANNELS, pa.int32(), nullable=False),
        pa.field(CODEC, pa.string(), nullable=False),
        pa.field(WARNING, pa.string()),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        pa.field(RECORDING, pa.string(), nullable=False),
        pa.field(VERSION, pa.string(), nullable=False),
        pa.field(STAGE, pa.string(), nullable=False),
        pa.field(ERROR, pa.string(), nullable=False),
        pa.field(MESSAGE, pa.string(), nullable=False),
    ]
)


def probability_column(grade: str) -> str:
    """The column that holds the probability of one grade: "p_A"."""
    return f"p_{grade}"


def probability_columns(grades: tuple[str, ...]) -> list[str]:
    """One probability column a grade, best first as people list them. grades: worst first, as everywhere inside."""
    return [probability_column(grade) for grade in reversed(grades)]


def probabilities(grades: Sequence[str], probs_G: Sequence[float]) -> dict[str, float]:
    """Probabilities by their columns. grades: in the order of probs_G."""
    return {probability_column(grade): p for grade, p in zip(grades, probs_G, strict=True)}


def grades_schema(grades: tuple[str, ...]) -> pa.Schema:
    """The recording parts of a grades folder: what a model says; grade, score and probabilities are null where gradable
    is false."""
    return pa.schema(
        [
            pa.field(RECORDING, pa.string(), nullable=False),
            pa.field(VERSION, pa.string(), nullable=False),
            pa.field(GRADE, pa.string()),
            pa.field(SCORE, pa.float64()),
            *[pa.field(column, pa.float64()) for column in probability_columns(grades)],
            pa.field(CONFIDENCE, pa.float64()),
            *[pa.field(column, pa.float64()) for column in (MARK, MARK_LOW, MARK_HIGH)],  # null where none were learnt
            pa.field(GRADABLE, pa.bool_(), nullable=False),
            pa.field(REASON, pa.string()),
            pa.field(WARNING, pa.string()),
            pa.field(PIECE, pa.string()),  # null where it was judged beside all recordings
            pa.field(SEGMENTS, pa.int32(), nullable=False),
            pa.field(DURATION_S, pa.float64(), nullable=False),
            # Null in grades made before these were kept.
            pa.field(PLAYING_S, pa.float64()),
            pa.field(RMS_DBFS, pa.float32()),
            pa.field(SOURCE_RATE, pa.int32()),
            pa.field(MODEL_ID, pa.string(), nullable=False),
            pa.field(GRADED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )


def latest_schema(grades: tuple[str, ...]) -> pa.Schema:
    """grades/latest.*: what stands. grade is a person's where one corrected it, and gradable then true; machine_grade,
    score, probabilities, confidence and reason stay the model's."""
    fields = list(grades_schema(grades))
    after = 1 + next(i for i, field in enumerate(fields) if field.name == GRADE)
    return pa.schema(
        [
            *fields[:after],
            pa.field(MACHINE_GRADE, pa.string()),
            *fields[after:],
            pa.field(CORRECTED_BY, pa.string()),
            pa.field(CORRECTED_AT, pa.timestamp("us", tz="UTC")),
            pa.field(CORRECTED_WHY, pa.string()),
            pa.field(CORRECTED_MARK, pa.float64()),  # null where a grade was given
        ]
    )


def correction_labels_schema(marked: bool = False) -> pa.Schema:
    """What jobs/correct.py --export writes: labels that train and evaluate read, and where they come from. marked: does
    each correction give a mark?"""
    return pa.schema(
        [
            pa.field(RECORDING, pa.string(), nullable=False),
            pa.field(GRADE, pa.string(), nullable=False),
            *([pa.field(MARK, pa.float64(), nullable=False)] if marked else []),
            pa.field(CORRECTED_BY, pa.string(), nullable=False),
            pa.field(CORRECTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field(CORRECTED_WHY, pa.string(), nullable=False),
        ]
    )


# grades/label_next.csv: a file of labels and of corrections once grade, by and why are filled in.
LABEL_NEXT_SCHEMA = pa.schema(
    [
        pa.field(RECORDING, pa.string(), nullable=False),
        pa.field(GRADE, pa.string()),
        pa.field(BY, pa.string()),
        pa.field(WHY, pa.string()),
        pa.field(VERSION, pa.string(), nullable=False),
        pa.field(MACHINE_GRADE, pa.string()),
        pa.field(CONFIDENCE, pa.float64()),
        pa.field(BECAUSE, pa.string(), nullable=False),
    ]
)


def segment_grades_schema(grades: tuple[str, ...]) -> pa.Schema:
    """The segment parts of a grades folder: what each segment said and how much it counted."""
    return pa.schema(
        [
            pa.field(RECORDING, pa.string(), nullable=False),
            pa.field(VERSION, pa.string(), nullable=False),
            pa.field(MODEL_ID, pa.string(), nullable=False),
            pa.field(SEGMENT, pa.int32(), nullable=False),
            pa.field(START_S, pa.float64(), nullable=False),
            pa.field(ACTIVITY, pa.float32(), nullable=False),
            *[pa.field(column, pa.float64(), nullable=False) for column in probability_columns(grades)],
            pa.field(WEIGHT, pa.float64(), nullable=False),
            pa.field(LEVELS, pa.list_(pa.int8())),  # null in grades made before these were kept
            pa.field(SKETCH, pa.list_(pa.float32())),
        ]
    )


def predictions_schema(grades: tuple[str, ...], marked: bool = False, parted: bool = False) -> pa.Schema:
    """evaluation/predictions.csv: out of fold, one row a recording, or judged part of one, and sample rate. marked,
    parted: do labels give marks, and parts?"""
    parts = (START_S, END_S) if parted else ()
    marks = (MARK, PREDICTED_MARK, MARK_LOW, MARK_HIGH) if marked else ()
    return pa.schema(
        [
            pa.field(RECORDING, pa.string(), nullable=False),
            *[pa.field(column, pa.float64()) for column in parts],
            pa.field(SAMPLE_RATE, pa.int32(), nullable=False),
            pa.field(GRADE, pa.string(), nullable=False),
            pa.field(PREDICTED, pa.string(), nullable=False),
            pa.field(SCORE, pa.float64(), nullable=False),
            *[pa.field(column, pa.float64(), nullable=False) for column in probability_columns(grades)],
            *[pa.field(column, pa.float64()) for column in marks],
            pa.field(FOLD, pa.int32(), nullable=False),
        ]
    )


# --- names -----------------------------------------------------------------------------------------------------------

# A spreadsheet runs a cell that begins with one of these, a negative number apart. One that parts cells elsewhere than
# at commas, as where people write decimal commas, sees a beginning after each separator too; full-width signs are read
# as the others in places. The quotes that stand before a sign already keep guard and unguard inverse.
_SIGN = r"'*[=+\-@＝＋－＠]"
_DANGEROUS = re.compile(rf"\A(?!-[0-9]+(?:\.[0-9]+)?\Z)(?={_SIGN}|'*[\t\r\n])|(?<=[;\t\r\n])(?={_SIGN})")
_GUARDED = re.compile(rf"\A'(?={_SIGN}|'*[\t\r\n])|(?<=[;\t\r\n])'(?={_SIGN})")


def is_recording_name(name: str) -> bool:
    """Does this file name end like audio or video? Not "._take.wav": macOS keeps a file's attributes in such a twin."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(stem and dot) and suffix.lower() in RECORDING_SUFFIXES and not stem.startswith("._")


def spell_name(name: str) -> str:
    """A name as it is written to Parquet: exact, but bytes that are no UTF-8 percent-encoded.

    name: as the file system gives it, undecodable bytes as surrogate escapes (PEP 383). A name that holds any has its
    own percent signs encoded too, so that two such names never become one.
    """

    def spell(char: str) -> str:
        if "\udc80" <= char <= "\udcff":
            return f"%{ord(char) - 0xDC00:02X}"
        return "%25" if char == "%" else char

    undecoded = any("\udc80" <= char <= "\udcff" for char in name)
    return "".join(map(spell, name)) if undecoded else name


def match_key(name: str) -> str:
    """The form under which two spellings of one name are equal (NFC: macOS and Linux spell accents differently)."""
    return unicodedata.normalize("NFC", name)


def name_in_cell(text: str) -> str:
    """The recording that a person's table means: folders by "/", without "./" before them."""
    return text.replace("\\", "/").removeprefix("./")


def cell_key(name: str) -> str:
    """The form under which a recording and a cell of a person's table are equal, whichever of the two is given: a name
    may hold a backslash, or begin with a space, and a cell cannot tell."""
    return match_key(name_in_cell(name.strip()))


def finder(names: Collection[str]) -> Callable[[str], str | None]:
    """What looks a name from a person's table up among recordings, accents in either spelling; None where it is not
    there.

    Of recordings whose names differ only in that (cell_key), it finds the one that is spelled like it.
    """
    exact = set(names)
    by_name, by_cell = ({key(name): name for name in sorted(exact)} for key in (match_key, cell_key))
    return lambda name: name if name in exact else by_name.get(match_key(name)) or by_cell.get(cell_key(name))


def guard_cell(text: str) -> str:
    """A text that a spreadsheet will not run as a formula."""
    return _DANGEROUS.sub("'", text)


def unguard_cell(text: str) -> str:
    """The text that guard_cell was given."""
    return _GUARDED.sub("", text)


def performances_schema(targets: Sequence[str]) -> pa.Schema:
    """performances/data/*.parquet: one row a generated performance; targets: what the generator tells of it, NaN where
    the take does not."""
    return pa.schema(
        [
            pa.field(NUMBER, pa.int64(), nullable=False),
            pa.field(PERFORMER_NUMBER, pa.int64(), nullable=False),
            pa.field(WAVEFORM, pa.list_(pa.float32()), nullable=False),
            pa.field(ACTIVE, pa.list_(pa.bool_()), nullable=False),
            *(pa.field(name, pa.float32()) for name in targets),
        ]
    )
