# Copied by `make vendor` from support/text_file.py of the collection: edit that, or this in your own copy.
"""Read a file of delimited text (CSV) as people have them: cells as text, exactly as they stand there."""

from __future__ import annotations

import codecs
import csv
import io
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
from charset_normalizer import from_bytes

from support.evidence import MISSING
from support.quotes import has_odd_quotes, look_at_quotes
from support.texts import short
from support.written import shape_of

HEAD = 500_000  # characters to understand a file by, at least one record
RECORDS = 200
BLOCK = 8 << 20  # bytes that are parsed at a time; a row must fit into it, else it grows
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"]
ENCODINGS += ["koi8_r", "cp1256"]
STRAY = "cp1252"  # Western European Windows
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
BOMS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

csv.field_size_limit(2**31 - 1)


class NotATableError(ValueError):
    """A file cannot be read; the message follows its name in a sentence."""


def refuse_twice(names: list[str]) -> None:
    """Raise NotATableError for a name that several columns have."""
    for name, times in Counter(names).items():
        if times > 1:
            raise NotATableError(f"has {times} columns called {name!r}: give each its own name.")


class TextFile:
    """A file of delimited text: where its rows begin, what its columns are called.

    names: of the columns. row_names: those of them that name the rows. separator: of the cells.
    notes: what was guessed or left out, in sentences.
    whole: whether the file is all there, not its first lines only.

    Raises NotATableError for a file that is none.
    """

    def __init__(self, path: Path, folder: Path, *, whole: bool = True) -> None:
        self.notes: list[str] = []
        self.row_names: list[str] = []
        self.path, self.quotes = as_utf8(path, folder, self.notes)
        self.files = [self.path]
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            head = file.read(HEAD)
            while len(head) % HEAD == 0 and head.count("\n") < 3 and (more := file.read(HEAD)):
                head += more
            if len(head) % HEAD == 0:
                head = head[: head.rfind("\n") + 1] or head
        if not head.strip():
            raise NotATableError("is empty: it needs a header and rows.")
        marks = len(head) - len(head.lstrip("\ufeff"))  # some programs write two
        head = head[marks:]
        _refuse_other_formats(head)
        self.separator = find_separator(head)
        if self.separator not in COMMON and not head.lower().startswith("sep="):
            self.notes.append(f"A {NAMES.get(self.separator, repr(self.separator))} separates the cells (a guess).")
        blank = rf'(?:^|{re.escape(self.separator)}) +"'
        self.spaced = '"' in head and self.separator != " " and bool(re.search(blank, head, re.MULTILINE))
        start, self.names = self._find_header(head)
        rows = [record for record, end in _records(head, self.separator) if end > start]
        self._types = {name: _type_of([row[at] for row in rows if len(row) > at]) for at, name in enumerate(self.names)}
        if len(self.names) == 1 and re.search(r"\n\s*\n\s*\S", head[start:]):
            self.notes.append("Blank lines between the rows are left out.")
        bom = 3 if self.path.open("rb").read(3) == codecs.BOM_UTF8 else 0
        self.start = bom + 3 * marks + len(head[:start].encode())
        if whole and self.quotes and has_odd_quotes(self.path, self.separator):
            wrong, notes = look_at_quotes(self.path, self.start, self.separator, rows, spaced=self.spaced)
            if wrong:
                raise NotATableError(wrong)
            self.notes += notes
        if whole and (empty := _empty_at_end(self.path, self.separator)):
            self.notes.append(f"Rows at the end that are empty: {empty}. Delete them.")

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows as text. Raises NotATableError for a row of another length, with its number."""
        if self.spaced or self.separator == " ":
            yield from self._read_slowly(columns)
            return
        block, done = BLOCK, 0
        while True:
            passed = 0
            try:
                for batch in self._reader(columns, block):
                    passed += len(batch)
                    if passed > done:
                        yield pa.Table.from_batches([batch.slice(max(0, len(batch) - (passed - done)))])
                        done = passed
                return
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or block > 1 << 30:
                    raise self._explained(error) from None
                block *= 16  # a row is longer than a block

    def _reader(self, columns: list[str] | None, block: int, threads: bool = True) -> Any:
        if self.start >= self.path.stat().st_size:
            return []
        file = pa.OSFile(str(self.path))
        file.seek(self.start)
        return pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=self.names, block_size=block, use_threads=threads),
            parse_options=pa.csv.ParseOptions(delimiter=self.separator, newlines_in_values=self.quotes),
            convert_options=pa.csv.ConvertOptions(
                column_types=self._types,
                include_columns=self.names if columns is None else columns,
                check_utf8=False,  # `as_utf8` has looked
                strings_can_be_null=False,
            ),
        )

    def _read_slowly(self, columns: list[str] | None) -> Iterator[pa.Table]:
        """What arrow's parser does not know: blanks before a quote, and blanks as separators."""
        with open(self.path, encoding="utf-8", newline="") as file:
            file.seek(self.start)
            reader = csv.reader(file, delimiter=self.separator, skipinitialspace=True)
            row = 0
            while rows := [record for record, _ in zip(reader, range(50_000), strict=False) if record]:
                for record in rows:
                    row += 1
                    if self.separator == " " and len(record) == len(self.names) + 1 and not record[-1]:
                        record.pop()  # a blank after the last cell
                    if len(record) != len(self.names):
                        raise NotATableError(self._ragged(row, len(record)))
                cells = dict(zip(self.names, map(list, zip(*rows, strict=True)), strict=True))
                yield pa.table({name: pa.array(cells[name], pa.string()) for name in columns or self.names})

    def _explained(self, error: pa.ArrowInvalid) -> NotATableError:
        """Why arrow could not parse: read again without threads, which counts the rows."""
        try:
            for _ in self._reader(None, BLOCK, threads=False):
                pass
        except pa.ArrowInvalid as again:
            error = again
        found = re.search(r"Row #(\d+): Expected \d+ columns, got (\d+)", str(error))
        if found:
            return NotATableError(self._ragged(int(found[1]), int(found[2])))
        return NotATableError(f"is not a table: {str(error).strip().splitlines()[0]}")

    def _ragged(self, row: int, values: int) -> str:
        return (
            f"has {values} values in row {row}, and {len(self.names)} columns: put values that hold a "
            f"{NAMES.get(self.separator, self.separator)} in double quotes, complete the row, or delete it if it is a "
            "source or a total."
        )

    def _find_header(self, head: str) -> tuple[int, list[str]]:
        """Where the rows begin, and the names of the columns."""
        records = list(_records(head, self.separator))
        width = Counter(len(record) for record, _ in records[1:] or records).most_common(1)[0][0]
        self._refuse_other_separators(records, width)
        names: list[str] = []
        start = 0
        for number, (record, end) in enumerate(records):
            following = [other for other, _ in records[number + 1 :]]
            why = _skipped(record, width, following)
            if not why:
                names, start = record, end
                break
            self.notes.append(f"The line {_short(record, self.separator)!r} above the header {why}: left out.")
        if not names:
            raise NotATableError("is empty: it needs a header and rows.")
        self._refuse_headless(names, following)
        aligned = self.separator == " " and _is_aligned(head[start:])
        shifted = not aligned or head[:start].splitlines()[-1].startswith(" ")
        names = self._complete(names, width, following, head[start:] if shifted else "")
        refuse_twice(names)
        return start, names

    def _refuse_other_separators(self, records: list[tuple[list[str], int]], width: int) -> None:
        """Refuse what seems to be one column, or every second column empty, and is another form of file."""
        rows = [record for record, _ in records]
        twice = all(row[0].strip() and all(row[::2]) and not any(row[1::2]) for row in rows)
        if width > 2 and width % 2 and self.separator not in COMMON and twice:
            two = 2 * self.separator
            raise NotATableError(f"has cells that {two!r} separates: put one tab in its place.")
        if width == 1 and len(rows) > 1:
            lines = "\n".join(row[0] for row in rows)
            if any(_evenness(lines, each)[0] == 1 and f"{each} " not in lines for each in COMMON):
                raise NotATableError(f"has quotes around each line ({_short(rows[0], '')!r}): delete them.")

    def _complete(self, names: list[str], width: int, rows: list[list[str]], below: str) -> list[str]:
        """Names for a header that is one name short, or has empty ones. below: rows that may begin with names."""
        if rows and len(names) == width + 1 and not names[-1]:
            names = names[:-1]
        if rows and len(names) == width - 1:
            if all(not row[-1] for row in rows if len(row) == width):
                names = [*names, ""]  # each row ends in a separator
            elif _have_names(below, self.separator, width):
                names = ["", *names]
                self.notes.append(
                    f"The header is one name short: the first column is taken for names of the rows, and "
                    f"{names[1]!r} is the second."
                )
        if rows and len(names) != width and not below:
            raise NotATableError(
                "is aligned by spaces, and has spaces in its cells: save it as CSV (pandas.read_fwf reads it)."
            )
        if rows and len(names) != width:
            raise NotATableError(
                f"has {len(names)} names in its header and {width} values in its rows: complete the header, or put "
                f"values that hold a {NAMES.get(self.separator, self.separator)} in double quotes."
            )
        completed = []
        for number, name in enumerate(names):
            if not name:
                name = f"Unnamed: {number}"  # as pandas calls it
                if number == 0:
                    self.row_names.append(name)
                else:
                    self.notes.append(f"Column {number + 1} has no name: it is called {name!r}.")
            completed.append(name)
        return completed

    def _refuse_headless(self, names: list[str], rows: list[list[str]]) -> None:
        """Refuse a file whose first record looks like data: numbers that are no names, or texts that come again."""
        numbers = [name for name in names if name and shape_of(name).ways]
        counted = [int(name) for name in numbers if re.fullmatch(r"[0-9]{1,9}", name)]
        in_order = len(counted) == len(numbers) and all(b - a == 1 for a, b in pairwise(counted))
        likely = in_order and (not counted or counted[0] in (0, 1) or 1900 <= counted[0] <= 2100)
        again = [
            name
            for column, name in enumerate(names)
            if name not in MISSING
            and not shape_of(name).ways
            and any(len(row) > column and row[column].strip() == name and row != names for row in rows)
        ]
        if again and len(again) <= len(names) / 5 and not numbers:
            self.notes.append(
                f"The first line is taken for the header, though {again[0]!r} comes again below (a guess)."
            )
        elif (numbers and not likely) or again:
            what = "numbers" if numbers and not likely else f"the value {again[0]!r}, which comes again below"
            raise NotATableError(
                f"seems to have no header: the line {_short(names, self.separator)!r} holds {what}. Put a line of "
                "column names in its place or above it."
            )


def _refuse_other_formats(head: str) -> None:
    """Refuse text that is no delimited text, though it can be read as such."""
    start = head.lstrip("\ufeff \t\r\n").lower()
    if re.match(r"<(?:!doctype|!--|\?xml|html|head|body|meta|style|script|div|table)\b", start):
        raise NotATableError("is a web page or XML: give the address or the file of the table itself.")
    if "@relation" in start and re.search(r"^@relation\b.*^@data\s*$", start, re.MULTILINE | re.DOTALL):
        raise NotATableError("is an ARFF file: save it as CSV (scipy.io.arff.loadarff reads it).")
    if re.match(r"(?:[^\n]*\n){1,2}[ |+:=-]*-[ :=-]*[|+][ |+:=-]*\r?\n|\+[-=+]+\+\r?\n", start):
        raise NotATableError("is a table drawn with lines, as psql, MySQL and Markdown do: export it as CSV.")
    if re.match(r"(?:--[^\n]*\n|\s)*(?:insert into|create table|drop table|copy [^\n]* from stdin)\b", start):
        raise NotATableError("is a script of SQL: load it into a database, and export the table as CSV.")
    if start.startswith("version https://git-lfs"):
        raise NotATableError("is a pointer of Git LFS in place of the table: git lfs pull gets it.")
    if re.match(r"(?:[^\s,;]+(?: [0-9]+:[^\s,;]+)+ *\r?\n){2}", start):
        raise NotATableError("is a file of LIBSVM: save it as CSV (sklearn.datasets.load_svmlight_file reads it).")
    if re.search(r'(?:^|[,;\t|\n])"[^"\n]*[^"\\\n]\\"(?![",;\t|\r\n])', start):
        raise NotATableError(r'has quotes within quotes written as \": write them doubled, as "" (pandas: escapechar).')


def _type_of(cells: list[str]) -> pa.DataType:
    """Text; in a column with few different values each of these is held once."""
    return pa.dictionary(pa.int32(), pa.string()) if 2 * len(set(cells)) <= len(cells) else pa.string()


COMMON, RARE = ",;\t|", "~^:\x01\x1f"
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space"}


def find_separator(head: str) -> str:
    """The separator of a text file: the one that divides most records into the same number of cells."""
    if told := re.match(r"sep=([\t!-~\x01\x1f])[ \t]*\r?\n", head, re.IGNORECASE):
        return told[1]
    best = max(COMMON, key=lambda separator: _evenness(head, separator))
    if _evenness(head, best)[0] >= 0.5:
        return best
    for rare in RARE:
        share, width = _evenness(head, rare)
        if share == 1 and (width > 2 or rare != ":"):  # a time, a ratio or `name: value` is one cell
            return rare
    widths = [len(record) for record, _ in _records(head, " ")]  # R's write.table, by default
    if len(widths) > 1 and set(widths[1:]) <= {widths[0], widths[0] + 1} and widths[1] > 1:
        return " "
    return best if _evenness(head, best)[1] > 1 else ","


def _evenness(head: str, separator: str) -> tuple[float, int]:
    """Which share of the records have the most frequent number of cells, and this number; 0 for one cell."""
    widths = Counter(len(record) for record, _ in _records(head, separator))
    width, times = widths.most_common(1)[0] if widths else (1, 0)
    return (times / widths.total(), width) if width > 1 else (0, 1)


def _records(head: str, separator: str) -> Iterator[tuple[list[str], int]]:
    """The first records of a text that are not blank, each with where it ends."""
    lines = io.StringIO(head, newline="")
    ends, line = [0], ""

    def counted() -> Iterator[str]:
        nonlocal line
        for line in lines:
            ends.append(ends[-1] + len(line))
            yield line

    reader = csv.reader(counted(), delimiter=separator, skipinitialspace=True)
    try:
        found = 0
        for record in reader:
            if any(cell.strip() for cell in record):
                blank = separator == " " and line.rstrip("\r\n").endswith(" ")  # one after the last cell
                yield record[:-1] if blank and not record[-1] else record, ends[reader.line_num]
                found += 1
            if found == RECORDS:
                return
    except csv.Error as error:
        raise NotATableError(f"is not a table: {error}.") from None


def _empty_at_end(path: Path, separator: str) -> int:
    """How many of the last lines hold nothing but separators, as Excel leaves them."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        lines = file.read().rstrip(b"\r\n").splitlines()
    mark = separator.encode()
    return sum(1 for _ in takewhile(lambda line: mark in line and not line.strip(mark + b" "), reversed(lines)))


def _is_aligned(lines: str) -> bool:
    """Whether several spaces stand between cells, as in a table of fixed widths."""
    return bool(re.search(r"\S {2,}\S", lines))


def _have_names(below: str, separator: str, width: int) -> bool:
    """Whether rows begin with names, as R writes them: all different; if numbers, in quotes or ascending wholes.

    If one column alone has a blank before each value, it is the rest of a value such as `Paris, France`.
    """
    lines = csv.reader(io.StringIO(below, newline=""), delimiter=separator, skipinitialspace=separator == " ")
    rows = [row for row in lines if len(row) == width]
    names = [row[0] for row in rows]
    if not rows:
        return False
    blank = [all(row[at].startswith(" ") for row in rows) for at in range(1, width)]
    if len(set(names)) < len(names) or (any(blank) and not all(blank)):
        return False
    if all(line.startswith('"') for line in below.splitlines()) or not all(
        shape_of(name.strip()).ways for name in names
    ):
        return True
    return all(name.strip().isdecimal() for name in names) and names == sorted(names, key=int)


def _skipped(record: list[str], width: int, following: list[list[str]]) -> str:
    """Why a record is none, nor the header; empty where it may be the header."""
    if re.fullmatch(r"sep=.?", record[0].strip(), re.IGNORECASE):
        return "names the separator"
    rows = bool(following) and any(shape_of(cell.strip()).ways for cell in following[0] if cell.strip())
    comment = re.match(r"\s*(#+|//|%|--)(\s?)", record[0])
    if comment and following and (len(record) != width or comment[2]) and not rows:
        return "is a comment"
    filled = sum(map(bool, record))
    if following and width > 1 and filled == 1 and (width > 2 or not rows):
        return "is a title"
    if following and 2 * filled <= width and filled < sum(map(bool, following[0])) and not rows:
        return "has fewer names than there are columns"
    names = (row for row in following[:20] if len(row) == width and all(row))
    if 2 * len(record) <= width and any(not any(shape_of(cell.strip()).ways for cell in row) for row in names):
        return "has fewer cells than there are columns"
    return ""


def _short(record: list[str], separator: str) -> str:
    line = separator.join(record)
    return line if len(line) <= 40 else f"{line[:39]}…"


def as_utf8(path: Path, folder: Path, notes: list[str]) -> tuple[Path, bool]:
    """A text file in UTF-8: itself, or a copy in `folder` where it is in another encoding, which is said.

    Returns its path and whether it holds quotes. Raises NotATableError for a file that is no text.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    encoding = next((name for mark, name in BOMS.items() if start.startswith(mark)), "")
    if encoding in ("", "utf-8-sig"):
        strange, line, quotes = _not_utf8(path)
        if not strange:
            return path, quotes
        encoding = "utf-8" if encoding else _encoding_of(strange)
        it, name = ("that is", STRAY) if encoding == "utf-8" else ("it is", encoding)
        wrong = next(each for each in strange if not _is_utf8(each))
        [example, *_] = re.findall(r"\w*[^\x00-\x7f]\w*", wrong.decode(name, errors="replace"))
        notes.append(
            f"The file is not UTF-8 (line {line}): {it} read as {name} ({short(example)}). If this is wrong, save the "
            "file as UTF-8."
        )
    try:
        with (
            open(path, encoding=encoding, errors="stray" if encoding == "utf-8" else "strict", newline="") as file,
            open(folder / "utf8", "w", encoding="utf-8", newline="") as new,
        ):
            shutil.copyfileobj(file, new)
    except UnicodeError:
        raise NotATableError(f"is not a table: neither UTF-8 text nor {encoding}.") from None
    return folder / "utf8", True


def _not_utf8(path: Path) -> tuple[list[bytes], int, bool]:
    """The lines that are not ASCII, if the file is no UTF-8; which is the first bad one; whether there are quotes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    quotes = False
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                if b"\0" in chunk:
                    raise NotATableError(
                        "is not a table: it holds NUL bytes (UTF-16 without a mark, or no text at all)."
                    )
                quotes = quotes or b'"' in chunk
                if not chunk.isascii() or decoder.getstate()[0]:
                    decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        with open(path, "rb") as file:
            strange = [(number, line) for number, line in enumerate(file, start=1) if not line.isascii()]
        return [line for _, line in strange], next(number for number, line in strange if not _is_utf8(line)), quotes
    return [], 0, quotes


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _encoding_of(strange: list[bytes]) -> str:
    """The encoding of lines that are not all UTF-8: UTF-8 where most are, else Western European unless it is clear."""
    if 2 * sum(map(_is_utf8, strange)) > len(strange):
        return "utf-8"
    sample = b"".join(strange[:500])
    best = from_bytes(sample, cp_isolation=ENCODINGS, threshold=0.5).best()
    if best is None or sum(byte > 127 for byte in sample) < 8 or len({byte for byte in sample if byte > 127}) == 1:
        return STRAY
    # The Western and the Central European code pages differ in few letters.
    if best.encoding == "cp1250" and not re.search("[ąęłńśźżčďěňřšťůžőű]", str(best), re.IGNORECASE):
        return STRAY
    return best.encoding


def _stray(error: UnicodeError) -> tuple[str, int]:
    """Read single bytes of another encoding among UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode(STRAY, errors="replace"), error.end


codecs.register_error("stray", _stray)
