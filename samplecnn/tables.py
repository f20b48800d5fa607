"""Arrow tables as the bytes of files: Parquet for programs, CSV for people and spreadsheets.

Every CSV file of samplecnn is written and read here, so that the guard against spreadsheet formulas is in one place.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from samplecnn.contract import guard_cell, unguard_cell
from samplecnn.errors import UserError

_RETURN = "\r\n"  # the writer puts cells into quotes that hold what its lines end with: both must be


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as one Parquet file, readable by pandas, DuckDB and Polars; pages carry a checksum."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def read_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file whole, its pages checked. Raises pa.ArrowException or OSError for what is none, or is damaged.

    Not pyarrow's read_table: its threads may let go of the file after it has returned, which takes Python's lock, and a
    program that ended at this moment was aborted (pyarrow 26.0.1; seen at the end of a grade job on a busy machine).
    """
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


def csv_bytes(table: pa.Table) -> bytes:
    """The table as UTF-8 CSV with a header; names and texts guarded, null an empty cell, times in ISO 8601."""
    sink = _Lines(newline="")
    writer = csv.writer(sink, lineterminator=_RETURN)
    writer.writerow([guard_cell(name) for name in table.column_names])
    for row in _rows(table):
        writer.writerow(row)
    # A lone surrogate cannot be written; names never hold one (contract.spell_name), a message might.
    return sink.getvalue().encode("utf-8", "backslashreplace")


class _Lines(io.StringIO):
    def write(self, line: str) -> int:
        return super().write(line.removesuffix(_RETURN) + "\n")


def _rows(table: pa.Table) -> Iterator[list[str]]:
    for batch in table.to_batches(max_chunksize=65_536):  # bounded: rows as Python objects cost 50 times their bytes
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield [_cell(value) for value in row]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return guard_cell(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def read_csv(data: bytes, place: str) -> list[dict[str, str]]:
    """Rows of a CSV file that a person wrote: UTF-8 with or without BOM, comma or semicolon, cells unguarded.

    place: named in errors. Every row carries all columns, short rows padded with ""; cells and column names are
    stripped of surrounding spaces; wholly empty lines are left out. Raises UserError, naming the line.
    """
    return [row for row, _ in _records(data, place) if row is not None]


def csv_without(data: bytes, place: str, goes: Callable[[dict[str, str]], bool]) -> bytes | None:
    """The same file without the rows of which `goes` is true; all else stays, byte for byte. None where none goes.

    Raises UserError as read_csv does.
    """
    records = list(_records(data, place))
    kept = [text for row, text in records if row is None or not goes(row)]
    if len(kept) == len(records):
        return None
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return bom + "".join(kept).encode()


def _records(data: bytes, place: str) -> Iterator[tuple[dict[str, str] | None, str]]:
    """(row, the text that it was read from) of all that is in a file; None: the header and empty lines."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None
    header, _, _ = text.lstrip().partition("\n")
    delimiter = ";" if header.count(";") > header.count(",") else ","
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    read = 0
    try:
        for cells in reader:
            written, read = "".join(lines[read : reader.line_num]), reader.line_num
            cells = [unguard_cell(cell.strip()) for cell in cells]
            if not any(cells):
                yield None, written
            elif not columns:
                columns = cells
                if len(set(columns)) < len(columns):
                    raise UserError(f"{place}, line {read}: a column is named twice: keep one of them")
                yield None, written
            elif len(cells) > len(columns):
                raise UserError(
                    f"{place}, line {read}: {len(cells)} cells under {len(columns)} columns: "
                    "put names that hold a comma in quotes"
                )
            else:
                yield dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True)), written
    except csv.Error as error:
        raise UserError(f"{place}, line {reader.line_num}: not a CSV file ({error})") from None
