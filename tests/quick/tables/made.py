"""Tables as people have them, each a few lines: what must be learnt from them, or in which words they are refused."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any

import openpyxl
import pandas as pd


@dataclass(frozen=True)
class Made:
    """A table and what it must lead to.

    content: of the file. name: of the file.
    kinds: of its columns, in order; for numbers that are not plainly written with how: "number . , $".
    refused: words of the one line that refuses it. said: words of the notes; a note that is not here must not be there.
    first: the values of the first row.
    given: the arguments of `decide`.
    """

    content: bytes
    kinds: dict[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    first: tuple[Any, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    name: str = "table.csv"


Cell = Callable[[int], object]
random_numbers = random.Random(0)
SALARIES = random_numbers.sample(range(30_000, 80_000), 300)
ACCOUNTS = random_numbers.sample(range(10**7, 10**8), 300)
SHORT_ACCOUNTS = random_numbers.sample(range(10**5, 10**6), 300)
SHUFFLED = random_numbers.sample(range(1, 301), 300)
GAPS = random_numbers.sample(range(1_000, 1_400), 300)


def answer(row: int) -> str:
    return "yes" if row % 3 else "no"


def text(header: str, rows: int, *cells: Cell, separator: str = ",") -> str:
    """A CSV file of so many rows; cells give the value of each column for a row, quoted where they must be."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    for row in range(rows):
        writer.writerow([cell(row) for cell in cells])
    return f"{header}\n{file.getvalue()}"


def column(
    cell: Cell, kind: str, *said: str, rows: int = 60, name: str = "x", separator: str = ",", **more: Any
) -> Made:
    """A table of a column and a target."""
    content = text(f"{name}{separator}left", rows, cell, answer, separator=separator).encode()
    kinds = {name: kind, "left": "category"}
    return Made(content, kinds, said=said, **more)


def refused(content: str | bytes, *words: str, **more: Any) -> Made:
    return Made(content.encode() if isinstance(content, str) else content, refused=words, **more)


def number_with(value: str, row: int) -> Made:
    """A column of numbers with one value that is none."""
    made = column(lambda i: value if i == row else 7 * i, "")
    return refused(made.content, f"{value!r}", "column 'x'", f"row {row + 1}", "missing_values", "kinds=x:category")


PLAIN = text("age,spend,left", 30, lambda i: 20 + i % 7, lambda i: 100 + 37 * (i % 20), answer)
PLAIN_KINDS = {"age": "number", "spend": "number", "left": "category"}


def plain(content: str | bytes, *said: str, name: str = "table.csv") -> Made:
    """A file that holds the plain table in another form."""
    first = (20.0, 100.0, "no")
    return Made(content.encode() if isinstance(content, str) else content, PLAIN_KINDS, (), said, first, name=name)


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, inside in files.items():
            file.writestr(f"{name}.csv", inside)
    return content.getvalue()


def binary(frame: pd.DataFrame, form: str) -> bytes:
    content = io.BytesIO()
    if form == "xlsx":
        frame.to_excel(content, index=False)
    else:
        getattr(frame, f"to_{form}")(content)
    return content.getvalue()


def zipped_bytes(name: str, inside: bytes, *beside: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, inside)
        for other in beside:
            file.writestr(other, "")
    return content.getvalue()


def workbook(change: Callable[[Any], object]) -> bytes:
    """The plain table in Excel, changed."""
    book = openpyxl.Workbook()
    for row in csv.reader(io.StringIO(PLAIN)):
        book.active.append([int(cell) if cell.isdigit() else cell for cell in row])
    change(book.active)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def tarred(inside: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        info = tarfile.TarInfo("table.csv")
        info.size = len(inside)
        file.addfile(info, io.BytesIO(inside.encode()))
    return content.getvalue()


FRAME = pd.read_csv(io.StringIO(PLAIN))
LONG_NUMBERS = [None if i == 3 else 12345678901234567 + i // 9 for i in range(30)]
LONG_FRACTIONS = [Decimal(f"12345678901234567890.{i}") for i in range(10, 40)]
LONG_DECIMALS = pd.Series([Decimal(12345678901234567 + i // 9) for i in range(30)])
# By `zip -P`.
ENCRYPTED = base64.b64decode(
    "UEsDBAoACQAAAG9GfF0ov1BLGQAAAA0AAAAJABwAdGFibGUuY3N2VVQJAAMSlgprEpYKa3V4CwABBAAAAAAEAAAAAL6RDZtE6iTe"
    "w0qo4KqMyZjS2xBOBbPLuolQSwcIKL9QSxkAAAANAAAAUEsBAh4DCgAJAAAAb0Z8XSi/UEsZAAAADQAAAAkAGAAAAAAAAQAAAKSB"
    "AAAAAHRhYmxlLmNzdlVUBQADEpYKa3V4CwABBAAAAAAEAAAAAFBLBQYAAAAAAQABAE8AAABsAAAAAAA="
)
RECORDS = FRAME.to_dict(orient="records")
LISTS = pd.Series([["a", "b"]] * 30)
SPACED = [(f"New {'YDO'[i % 3]}", i % 7, answer(i)) for i in range(30)]
WIDE = [{"age": 20 + i % 7, "left": answer(i)} for i in range(30)]

NUMBERS = {
    "plain numbers": column(lambda i: i * 3.5, "number"),
    "numbers with a point in a few rows": column(lambda i: f"{i}.5" if i == 50 else i * 2, "number"),
    "numbers below one without a zero": column(lambda i: f".{i:02d}", "number"),
    "numbers with an exponent": column(lambda i: f"{i}.5e-3", "number", first=(0.0005, "no")),
    "signed numbers": column(lambda i: f"{'+' if i % 2 else '-'}{i * 5}.0", "number"),
    "a decimal comma after 50 rows": column(
        lambda i: "12,5" if i == 50 else 4 * i, "number ,", "column 'x' holds numbers: '12,5' is 12.5", separator=";"
    ),
    "a decimal comma and thousands": column(
        lambda i: f"1.{i:03d},56", "number , .", "'1.000,56' is 1000.56", separator=";", first=(1000.56, "no")
    ),
    "dollars with thousands": column(
        lambda i: f"${i + 2},594.00", "number . , $", "'$2,594.00' is 2594", first=(2594.0, "no")
    ),
    "euros behind the number": column(lambda i: f"{i},50 €", "number , €", "'0,50 €' is 0.5", separator=";"),
    "a currency as a word": column(lambda i: f"CHF 1'{i:03d}.50", "number . ' CHF", "is 1000.5"),
    "per cent": column(lambda i: f"{i}%", "number %", "'0%' is 0", first=(0.0, "no")),
    "thousands with a narrow space": column(lambda i: f"1\u202f{i:03d},5", "number , _", "is 1000.5", separator=";"),
    "Indian thousands": column(lambda i: f"1,{i:02d},000", "number . ,", "'1,00,000' is 100000"),
    "negative in brackets": column(lambda i: f"({i})" if i % 2 else i * 3, "number", "'(1)' is -1"),
    "a minus behind, as SAP writes it": column(
        lambda i: f"{i}.50-" if i % 2 else f"{i}.25", "number", "'1.50-' is -1.5", first=(0.25, "no")
    ),
    "a minus behind, with thousands": column(
        lambda i: f"1.{i:03d},50-" if i % 2 else f"{i},25", "number , .", "is 0.25", separator=";", first=(0.25, "no")
    ),
    "codes that look like powers of ten": column(
        lambda i: ["1E3", "2E5", "7E1"][i % 3], "number", "'1E3' is 1000 (a guess: kinds=x:category reads codes)"
    ),
    "one code among numbers": column(lambda i: "1E3" if i == 50 else i * 3 % 11, "number", "'1E3' is 1000 (a guess"),
    "the minus sign of typesetters": column(lambda i: f"\u2212{i}" if i % 2 else i * 3, "number", "'\u22121' is -1"),
    "the dash of typesetters": column(lambda i: f"\u2013{i}" if i % 2 else i * 3, "number", "'\u20131' is -1"),
    "thousands with the space of a figure": column(
        lambda i: f"{i + 10}\u2007{i:03d},5", "number , _", "'10\\u2007000,5' is 10000.5", separator=";"
    ),
    "three digits after a comma, a guess": column(
        lambda i: f"{i + 1},234",
        "number . ,",
        "'1,234' is 1234 (a guess: kinds=x:decimal_comma reads it the other way)",
    ),
    "three digits after a comma, told": column(
        lambda i: f"{i + 1},234",
        "number ,",
        "'1,234' is 1.234",
        given={"kinds": "x:decimal_comma"},
        first=(1.234, "no"),
    ),
    "three digits after a comma among semicolons": column(
        lambda i: f"{i + 1},234", "number ,", "is 1.234 (a guess: kinds=x:decimal_point", separator=";"
    ),
    "three digits after a point among decimal commas": Made(
        text("x;y;left", 60, lambda i: f"{i + 1}.234", lambda i: f"{i},5", answer, separator=";").encode(),
        {"x": "number , .", "y": "number ,", "left": "category"},
        said=("'1.234' is 1234 (a guess: kinds=x:decimal_point", "'0,5' is 0.5"),
        first=(1234.0, 0.5, "no"),
    ),
    "several columns with a decimal comma": Made(
        text(
            "a;b;c;left", 60, lambda i: f"{i},5", lambda i: f"-{i},25", lambda i: f"{i + 1},234", answer, separator=";"
        ).encode(),
        {"a": "number ,", "b": "number ,", "c": "number ,", "left": "category"},
        said=(
            "2 columns hold numbers like '0,5', which is 0.5: 'a', 'b'.",
            "Column 'c' holds numbers: '1,234' is 1.234 (a",
        ),
        first=(0.5, -0.25, 1.234, "no"),
    ),
    "three digits after a point": column(lambda i: f"{i % 7 + 1}.234", "number", first=(1.234, "no")),
    "a question mark among numbers": number_with("?", 7),
    "a question mark that is missing": column(
        lambda i: "?" if i == 7 else i * 7, "number", given={"missing_values": "?"}
    ),
    "a dash among numbers": number_with("-", 7),
    "a row of units below the header": refused(
        column(lambda i: i * 7 - 7 if i else "km/h", "").content, "'km/h'", "row 1", "delete that row if it holds units"
    ),
    "totals below the rows": refused(
        column(lambda i: "Total:" if i == 59 else i * 7, "").content, "'Total:'", "row 60", "if it holds totals"
    ),
    "a word among numbers": number_with("unknown", 30),
    "infinity among numbers": number_with("inf", 30),
    "a number that stands for missing": column(
        lambda i: -99 if i == 7 else i * 7, "number", given={"missing_values": "-99"}
    ),
    "empty cells and NA among numbers": column(lambda i: ["", "NA", i * 7, i * 9][i % 4], "number"),
    "points and commas": refused(
        column(lambda i: "12,5" if i == 50 else f"{i}.5", "", separator=";").content, "'12,5'", "row 51", "another way"
    ),
    "two currencies": refused(column(lambda i: "€5" if i == 50 else f"${i}", "").content, "'€5'", "row 51"),
    "one without the per cent": refused(column(lambda i: "0.5" if i == 50 else f"{i}%", "").content, "'0.5'", "row 51"),
    "text where the user says numbers": refused(
        column(lambda i: "a" if i == 50 else i, "").content, "kinds", "'a', row 51", given={"kinds": "x:number"}
    ),
}

TEXTS = {
    "codes with leading zeros": column(lambda i: f"{i // 6:03d}", "category", "holds codes ('000', row 1)"),
    "codes, sorted, that end in letters": column(
        lambda i: f"{i // 3:03d}" if i < 54 else "K01", "category", "holds codes ('000', row 1)"
    ),
    "codes without zeros that end in letters": column(
        lambda i: 101 + i // 9 if i < 50 else f"K0{i % 5}", "category", "numbers and texts ('K00', row 51)"
    ),
    "the number of children, 3+": column(
        lambda i: "3+" if i % 4 == 3 else i % 4, "category", "numbers and texts ('3+', row 4)"
    ),
    "postal codes that the user names": column(
        lambda i: 10_115 + i % 9, "category", given={"kinds": "x:category"}, first=("10115", "no")
    ),
    "whole numbers above 2**53": column(lambda i: 12345678901234567 + i // 9, "category", "codes ('12345678901234567'"),
    "one whole number that a float rounds": column(
        lambda i: 2**53 + 1 if i == 50 else i % 7, "category", "codes ('9007199254740993', row 51)"
    ),
    "true and false": column(lambda i: ["TRUE", "false", "True", "FALSE"][i % 4], "boolean", first=(True, "no")),
    "true, false and missing": column(lambda i: ["true", "false", ""][i % 3], "boolean"),
    "None is a category": column(lambda i: ["None", "Some", "NA"][i % 3], "category"),
    "spellings in several cases": Made(
        text("x,left", 60, lambda i: i % 9 * 7, lambda i: ["Yes", "yes", "YES ", "no"][i % 4]).encode(),
        {"x": "number", "left": "category"},
        said=("'Yes', 'yes', 'YES', which differ in case only: kinds=left:caseless", "holds 'YES '"),
    ),
    "spellings that are one": Made(
        text("x,left", 60, lambda i: i % 9 * 7, lambda i: ["no", "yes", "Yes", "yes"][i % 4]).encode(),
        {"x": "number", "left": "category"},
        given={"kinds": "left:caseless"},
    ),
    "blanks behind each comma": Made(
        ("n, s, left\n" + "".join(f"{i % 7}, State-{i % 3}, {answer(i)}\n" for i in range(60))).encode(),
        {"n": "number", "s": "category", "left": "category"},
    ),
    "numbers with a unit": column(
        lambda i: f"{20 + i % 7}.5 °C", "category", "with a unit ('20.5 °C'): delete ' °C' to learn from numbers"
    ),
    "accents in two forms": column(
        lambda i: ["Cafe\u0301", "Caf\u00e9", "Bar"][i % 3], "category", r"'Cafe\u0301' and 'Caf\xe9', which look alike"
    ),
    "a character that nobody sees": column(
        lambda i: ["Paris", "Paris\u200b", "Nice"][i % 3], "category", r"'Paris' and 'Paris\u200b', which look alike"
    ),
    "names with characters that nobody sees": Made(
        text("\ufeff\ufeffage,sp\u200bend,left", 60, lambda i: i % 7 * 1.5, lambda i: f"T{i % 5}", answer).encode(),
        {"age": "number", "sp\u200bend": "category", "left": "category"},
    ),
    "times of a form": column(lambda i: f"2024/03/{1 + i % 28} 3:00:00 PM GMT+1", "date", "holds dates"),
    "48 articles in 48 rows": column(lambda i: f"article {i}", "identifier", "no two the same", rows=48),
    "free text": column(lambda i: f"He said {i // 1.5}, and left", "text", "free text"),
    "a few customers": column(lambda i: f"c{i}", "category", rows=12),
    "a constant": column(lambda i: 5, "constant", "is constant ('5'): left out"),
    "nothing": column(lambda i: "", "empty", "is empty: left out"),
    "dates": column(lambda i: f"2024-01-{1 + i % 28:02d}", "date", "holds dates: left out"),
    "dates with slashes": column(lambda i: f"{1 + i % 28}/02/2024", "date", "holds dates"),
    "dates with points": column(lambda i: f"{1 + i % 28}.2.24", "date", "holds dates"),
    "dates with names": column(lambda i: f"{1 + i % 28} Mar 2024", "date", "holds dates"),
    "months": column(lambda i: f"Mar-{2000 + i % 20}", "date", "holds dates"),
    "dates as numbers": column(lambda i: f"202401{1 + i % 28:02d}", "date", "holds dates"),
    "times": column(lambda i: f"2024-01-{1 + i % 28:02d}T10:00:00.5Z", "date", "holds dates"),
    "dates but one": column(lambda i: "unknown" if i == 7 else f"2024-01-{1 + i % 28:02d}", "date", "holds dates"),
    "dates in French": column(lambda i: f"{1 + i % 28} février 2024", "date", "holds dates"),
    "dates in German": column(lambda i: f"{1 + i % 28}. März 2024", "date", "holds dates"),
    "dates of e-mails": column(lambda i: f"Tue, {1 + i % 28:02d} Mar 2024 10:00:00 GMT", "date", "holds dates"),
    "dates of SAS": column(lambda i: f"{1 + i % 28:02d}MAR2024:10:00:00", "date", "holds dates"),
    "times with a named zone": column(
        lambda i: f"2024-03-{1 + i % 28:02d} 10:00:00 Europe/Paris", "date", "holds dates"
    ),
    "quarters": column(lambda i: f"2024Q{1 + i % 4}", "date", "holds dates"),
    "marks of a school": column(lambda i: ["1", "1-", "2", "2-"][i % 4], "category", "numbers and texts ('1-', row 2)"),
    "words that begin like months": column(lambda i: f"{['market', 'sets', 'Maria'][i % 3]} 2024", "category"),
    "fractions are no dates": column(lambda i: f"{i % 4}/7", "category"),
}

IDENTIFIERS = {
    "300 salaries, all different": column(lambda i: SALARIES[i], "number", rows=300),
    "row numbers": column(lambda i: i, "identifier", "counts the rows from 0", rows=60),
    "row numbers, shuffled": column(lambda i: SHUFFLED[i], "identifier", "counts the rows from 1", rows=300),
    "row numbers with gaps": column(lambda i: GAPS[i], "identifier", "no two the same", rows=300),
    "account numbers": column(lambda i: ACCOUNTS[i], "identifier", "numbers of 8 digits", rows=300),
    "account numbers, short, by their name": column(
        lambda i: SHORT_ACCOUNTS[i], "identifier", "and its name", rows=300, name="accountNumber"
    ),
    "short numbers without such a name": column(lambda i: SHORT_ACCOUNTS[i], "number", rows=300),
    "an identifier that the user wants": column(
        lambda i: SHUFFLED[i], "number", rows=300, given={"kinds": "x:number"}, first=(float(SHUFFLED[0]), "no")
    ),
    "account numbers, long": column(lambda i: 12345678901234567 + 7 * i, "identifier", "no two the same"),
}

HEADERS = {
    "a bank's lines of two cells above the header": Made(
        (
            "Account;DE12 5001\nPeriod;01.01.2024 - 31.03.2024\n\n"
            + text(
                "day;amount;balance;purpose;left",
                60,
                lambda i: f"{1 + i % 28:02d}.01.2024",
                lambda i: f"-{i},{i % 10}5",
                lambda i: f"1.{i:03d},00 EUR",
                lambda i: f"rent {i % 4}",
                answer,
                separator=";",
            )
        ).encode(),
        {"day": "date", "amount": "number ,", "balance": "number , . EUR", "purpose": "category", "left": "category"},
        said=(
            "'Account;DE12 5001' above the header has fewer cells",
            "'Period;",
            "'day' holds dates",
            "'-0,05' is -0.05",
            "'1.000,00 EUR' is 1000",
        ),
    ),
    "a header that comes again among texts": refused(
        2 * text("town,left", 30, lambda i: f"town {i % 4}", answer), "'town, left'", "the header comes again"
    ),
    "a header one name short, as R writes it": Made(
        ("spend\tage\tleft\n" + "".join(f"{i}\t{i % 9 * 7}\t{i % 7}\t{answer(i)}\n" for i in range(1, 30))).encode(),
        {"Unnamed: 0": "identifier", "spend": "number", "age": "number", "left": "category"},
        said=("one name short", "'Unnamed: 0' holds the names of the rows: left out"),
        first=("1", 7.0, 1.0, "yes"),
    ),
    "a header one name short, and row numbers in no order": Made(
        ('"spend" "left"\n' + "".join(f'"{97 * i % 101}" {i % 9 * 7} "{answer(i)}"\n' for i in range(1, 30))).encode(),
        {"Unnamed: 0": "identifier", "spend": "number", "left": "category"},
        said=("A space separates the cells (a guess)", "one name short", "holds the names of the rows"),
    ),
    "a comma in places": refused(
        "customer,place,left\n" + "".join(f"c{i},Paris, {'FU'[i % 2]},{answer(i)}\n" for i in range(30)),
        "3 names in its header and 4 values in its rows",
        "put values that hold a comma in double quotes",
    ),
    "a comma in positions": refused(
        "lat,geo,left\n" + "".join(f"{48 + i * 0.013:.3f},({i},2),{answer(i)}\n" for i in range(30)),
        "3 names in its header and 4 values in its rows",
    ),
    "a decimal comma that is the separator too": refused(
        "price,left\n" + "".join(f"{97 * i % 101},{i % 9},{answer(i)}\n" for i in range(30)),
        "2 names in its header and 3 values in its rows",
    ),
    "a comma in the first column": refused(
        "place,spend,left\n" + "".join(f"Paris,{i % 4},{i % 9 * 7},{answer(i)}\n" for i in range(30)),
        "3 names in its header and 4 values in its rows",
    ),
    "R's write.table, with blanks": Made(
        ('"spend" "left"\n' + "".join(f'"{i}" {i % 9 * 7} "{answer(i)} or so"\n' for i in range(1, 30))).encode(),
        {"Unnamed: 0": "identifier", "spend": "number", "left": "category"},
        said=("A space separates the cells (a guess)", "one name short", "holds the names of the rows"),
        first=("1", 7.0, "yes or so"),
    ),
    "an index without a name": Made(
        FRAME.to_csv().encode(), {"Unnamed: 0": "identifier", **PLAIN_KINDS}, said=("holds the names of the rows",)
    ),
    "each row ends in a comma": Made(
        PLAIN.replace("\n", ",\n").replace("left,\n", "left\n", 1).encode(),
        {**PLAIN_KINDS, "Unnamed: 3": "empty"},
        said=("Column 4 has no name", "'Unnamed: 3' is empty"),
    ),
    "Excel's sep=": plain("sep=;\n" + PLAIN.replace(",", ";"), "'sep=;' above the header names the separator"),
    "a title": plain("Sales of 2024\n\n" + PLAIN, "'Sales of 2024' above the header is a title"),
    "a title with empty cells": plain("Sales of 2024,,\n" + PLAIN, "is a title"),
    "a comment": plain("# by me, from CRM, today\n" + PLAIN, "is a comment"),
    "a header that begins with #": Made(
        ("#" + PLAIN).encode(), {"#age": "number", "spend": "number", "left": "category"}
    ),
    "no header": refused(PLAIN.partition("\n")[2], "seems to have no header"),
    "no header, texts": refused(
        text("yes,red", 30, answer, lambda i: "red" if i % 2 else "blue"), "no header", "'yes'"
    ),
    "years as names": Made(
        text("land,2019,2020", 30, lambda i: "abc"[i % 3], lambda i: i * 7, lambda i: i * 9).encode(),
        {"land": "category", "2019": "number", "2020": "number"},
    ),
    "numbers as names": Made(
        text("0,1,2", 30, lambda i: i % 9 * 7, lambda i: i % 9, answer).encode(),
        {"0": "number", "1": "number", "2": "category"},
    ),
    "two columns of one name": refused("a,b,a\n1,2,3\n", "2 columns called 'a'"),
    "names with commas and blanks": Made(
        text('"age, years",spend ', 30, lambda i: i % 9 * 7, lambda i: i % 7).encode(),
        {"age, years": "number", "spend ": "number"},
    ),
    "more names than values": refused("a,b,c\n1,2\n3,4\n", "3 names", "2 values"),
    "a row that is short": refused("a,b\n1,2\n3\n4,5\n", "1 values in row 2", "2 columns"),
    "a row that is long": refused("a,b\n1,2\n3,4,5\n4,5\n", "3 values in row 2", "in double quotes"),
    "a header only": refused("a,b\n", "a header but no rows"),
    "an empty file": refused("", "is empty"),
    "a report with lines above the header": Made(
        text(
            "Report,,,\nMade,2024-01-01,,\nage,spend,left,days",
            30,
            lambda i: i % 7,
            lambda i: i % 9 * 7,
            answer,
            lambda i: i % 5,
        ).encode(),
        {**PLAIN_KINDS, "days": "number"},
        said=("'Report,,,' above the header is a title", "'Made,2024-01-01,,' above the header has fewer names"),
        first=(0.0, 0.0, "no", 0.0),
    ),
    "a comment of two slashes": plain("// by me, from CRM, today\n" + PLAIN, "is a comment"),
    "a report in three columns": refused(
        "Report,,\nMade,by me,\n" + PLAIN, "'age' in column 'Made'", "delete what stands above"
    ),
    "a header that comes again": refused(PLAIN + PLAIN, "'age' in column 'age', row 31", "the header comes again"),
}

FILES = {
    "tabs": plain(PLAIN.replace(",", "\t")),
    "bars": plain(PLAIN.replace(",", "|")),
    "CRLF": plain(PLAIN.replace("\n", "\r\n")),
    "a byte order mark": plain(PLAIN.encode("utf-8-sig")),
    "UTF-16": plain(PLAIN.encode("utf-16")),
    "UTF-16 without a mark": refused(PLAIN.encode("utf-16-le"), "NUL bytes"),
    "latin-1": Made(
        text("âge;parti", 30, lambda i: i % 9 * 7, lambda i: "été" if i % 2 else "hôtel", separator=";").encode(
            "latin-1"
        ),
        {"âge": "number", "parti": "category"},
        said=("not UTF-8 (line 1): it is read as cp1252",),
        first=(0.0, "hôtel"),
    ),
    "Cyrillic": Made(
        text("имя;город", 30, lambda i: i % 9 * 7, lambda i: "Москва" if i % 2 else "Казань", separator=";").encode(
            "cp1251"
        ),
        {"имя": "number", "город": "category"},
        said=("read as cp1251",),
        first=(0.0, "Казань"),
    ),
    "a stray byte": Made(
        text("name,n", 30, lambda i: "café" if i % 2 else "thé", lambda i: i % 9 * 7).encode() + b"\xe9t\xe9,7\n",
        {"name": "category", "n": "number"},
        said=("not UTF-8 (line 32)",),
        first=("thé", 0.0),
    ),
    "a NUL byte": refused(b"a,b\n1,2\n3,\x004\n", "NUL bytes"),
    "gzip": plain(gzip.compress(PLAIN.encode()), name="table.csv.gz"),
    "bzip2": plain(bz2.compress(PLAIN.encode()), name="table.csv.bz2"),
    "xz": plain(lzma.compress(PLAIN.encode()), name="table.csv.xz"),
    "zip": plain(zipped(a=PLAIN), name="table.zip"),
    "zip of two": refused(zipped(a=PLAIN, b=PLAIN), "holds 2 files (a.csv, b.csv)", name="table.zip"),
    "Excel": plain(binary(FRAME, "xlsx"), name="table.xlsx"),
    "a quote, a comma and a line's end in a cell": Made(
        text("n,t", 30, lambda i: i % 9 * 7, lambda i: 'say "a, b"\nor' if i % 2 else "no").encode(),
        {"n": "number", "t": "category"},
    ),
    "blanks before a quote": Made(
        ("n, t\n" + "".join(f'{i % 9 * 7}, "a, b{i % 3}"\n' for i in range(30))).encode(),
        {"n": "number", "t": "category"},
        first=(0.0, "a, b0"),
    ),
    "a cell of 200,000 characters": Made(
        text("n,t", 30, lambda i: i % 9 * 7, lambda i: "long" * 50_000 if i == 7 else "short").encode(),
        {"n": "number", "t": "category"},
    ),
    "a quote that is never closed": refused(PLAIN.replace("\n21,", '\n"21,', 1), "line 3", "never closed"),
    "a quote in the last column that is never closed": refused(
        column(lambda i: i % 7, "").content.replace(b"yes", b'"yes', 1), "line 3", "never closed"
    ),
    "two quotes that are never closed": refused(
        text("n,size", 30, lambda i: i % 7, lambda i: f"{i} in").replace("9 in", '"9 in'),
        "line 11 ",
        "line 21,",
        "swallows",
    ),
    "a quote for the same as above": refused(
        PLAIN.replace("\n22,", '\n",', 2), "line 4 ", "line 11,", "swallows the rows between"
    ),
    "letters of several lines": Made(
        (
            "n,letter,left\n" + "".join(f'{i % 7},"Dear Sir,\nthanks, bye {i // 2}",{answer(i)}\n' for i in range(30))
        ).encode(),
        {"n": "number", "letter": "category", "left": "category"},
        first=(0.0, "Dear Sir,\nthanks, bye 0", "no"),
    ),
    "text behind a quote": Made(
        ("n,s,left\n" + "".join(f'{i % 7},"Smith" Inc,{answer(i)}\n' for i in range(30))).encode(),
        {"n": "number", "s": "constant", "left": "category"},
        said=("Line 2 holds '\"Smith\" Inc', text behind a quote", "'s' is constant ('Smith Inc')"),
    ),
    "inches, which are no quotes": column(lambda i: f'{i % 7}" pipe', "category"),
    "a web page": refused("<!DOCTYPE html>\n<html><body>\nnot found</body></html>\n", "is a web page"),
    "a .gz in a .zip": plain(zipped_bytes("table.csv.gz", gzip.compress(PLAIN.encode())), name="table.zip"),
    "a .zip in a .zip": plain(zipped_bytes("table.zip", zipped(table=PLAIN)), name="table.zip"),
    "a .zip with a password": refused(ENCRYPTED, "cannot be unpacked", "password", name="table.zip"),
    "an archive of tar": refused(tarred(PLAIN), "is a tar archive: unpack it", name="table.tar.gz"),
    "another archive": refused(b"7z\xbc\xaf\x27\x1c" + bytes(90), "unpack it"),
    "Excel with a password": refused(
        b"\xd0\xcf\x11\xe0" + bytes(99) + "EncryptedPackage".encode("utf-16-le"), "with a password", name="table.xlsx"
    ),
    "Stata": refused(binary(FRAME, "stata"), "is a Stata file", "pandas.read_stata"),
    "Feather": refused(binary(FRAME, "feather"), "is a Feather file", "pandas.read_feather"),
    "a PDF": refused("%PDF-1.4\nage,left\n", "is a PDF"),
    "ARFF": refused("@relation r\n@attribute a numeric\n@data\n1,2\n3,4\n", "is an ARFF file"),
    "gzip cut short": refused(gzip.compress(PLAIN.encode())[:-20], "cannot be unpacked", name="table.csv.gz"),
    "a picture": refused(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "NUL bytes"),
}

TYPED = {
    "a byte of another encoding behind a mark of UTF-8": Made(
        b"\xef\xbb\xbf"
        + text("town,left", 30, lambda i: f"town {i % 4}", answer).encode().replace(b"town 3", b"t\xf4wn 3", 1),
        {"town": "category", "left": "category"},
        said=("not UTF-8 (line 5): that is read as cp1252",),
    ),
    "a table as psql draws it": refused(
        " age | left \n-----+------\n" + 9 * "  20 | yes\n", "drawn with lines", "export it as CSV", name="table.txt"
    ),
    "a table in Markdown": refused("| age | left |\n|---|---|\n" + 9 * "| 20 | yes |\n", "drawn with lines"),
    "a script of SQL": refused("-- dump\n" + 9 * "INSERT INTO t VALUES (1, 'yes');\n", "a script of SQL"),
    "Parquet, numbers of half precision": Made(
        binary(FRAME.assign(spend=FRAME["spend"].astype("float16")), "parquet"), PLAIN_KINDS, name="table.parquet"
    ),
    "Parquet": plain(binary(FRAME, "parquet"), name="table.parquet"),
    "Parquet, an index": Made(
        binary(FRAME.assign(customer=[f"{i:05d}" for i in range(30)]).set_index("customer"), "parquet"),
        {**PLAIN_KINDS, "customer": "identifier"},
        said=("'customer' holds the names of the rows: left out",),
        name="table.parquet",
    ),
    "Parquet, names that are numbers": Made(
        binary(FRAME.set_axis([0, 1, 2], axis=1), "parquet"),
        {"0": "number", "1": "number", "2": "category"},
        name="table.parquet",
    ),
    "Parquet, decimals": Made(
        binary(FRAME.assign(spend=FRAME["spend"].map(lambda v: Decimal(v) / 4)), "parquet"),
        PLAIN_KINDS,
        first=(20.0, 25.0, "no"),
        name="table.parquet",
    ),
    "Parquet, dates": Made(
        binary(FRAME.assign(age=[date(2024, 1, 1 + i) for i in range(30)]), "parquet"),
        {**PLAIN_KINDS, "age": "date"},
        said=("'age' holds dates",),
        name="table.parquet",
    ),
    "Parquet, categories of numbers": Made(
        binary(FRAME.assign(age=FRAME["age"].astype("category")), "parquet"),
        {**PLAIN_KINDS, "age": "category"},
        first=("20", 100.0, "no"),
        name="table.parquet",
    ),
    "Parquet, numbers and missing ones": Made(
        binary(FRAME.assign(age=FRAME["age"].where(FRAME["age"] > 21)), "parquet"), PLAIN_KINDS, name="table.parquet"
    ),
    "Parquet, true and false": Made(
        binary(FRAME.assign(age=FRAME["age"] > 21), "parquet"), {**PLAIN_KINDS, "age": "boolean"}, name="table.parquet"
    ),
    "Parquet, lists": refused(
        binary(FRAME.assign(age=LISTS), "parquet"), "column 'age', row 1, is a list", "drop=age",
        name="table.parquet",
    ),
    "Parquet, bytes": refused(
        binary(FRAME.assign(age=[b"\x89PNG"] * 30), "parquet"), "column 'age', row 1, is bytes", "drop=age",
        name="table.parquet",
    ),
    "Parquet, lists left out": Made(
        binary(FRAME.assign(age=LISTS), "parquet"),
        {"spend": "number", "left": "category"},
        given={"drop": ["age"]},
        name="table.parquet",
    ),
    "JSON of pandas": plain(FRAME.to_json(), name="table.json"),
    "JSON of pandas, records": plain(FRAME.to_json(orient="records"), name="table.json"),
    "JSON of pandas, split": plain(FRAME.to_json(orient="split"), name="table.json"),
    "JSON of pandas, names of the rows": plain(
        FRAME.set_axis([f"r{i}" for i in range(30)]).to_json(), "rows have names ('r0', ...)", name="table.json"
    ),
    "JSON of MLflow, split": plain(json.dumps({"dataframe_split": FRAME.to_dict(orient="split")}), name="table.json"),
    "JSON of MLflow, records": plain(json.dumps({"dataframe_records": RECORDS}), name="table.json"),
    "JSON of MLflow, inputs": plain(json.dumps({"inputs": FRAME.to_dict(orient="list")}), name="table.json"),
    "JSON under data": plain(json.dumps({"data": FRAME.to_dict(orient="records")}), name="table.json"),
    "JSON over several lines": plain(FRAME.to_json(orient="records", indent=2), name="table.json"),
    "JSON Lines": plain(FRAME.to_json(orient="records", lines=True), name="table.jsonl"),
    "JSON Lines, a column that comes late": Made(
        "\n".join(json.dumps({**row, "new": i % 5} if i > 9 else row) for i, row in enumerate(WIDE)).encode(),
        {"age": "number", "left": "category", "new": "number"},
        name="table.jsonl",
    ),
    "JSON Lines, long numbers and null": Made(
        "\n".join(json.dumps({**row, "id": LONG_NUMBERS[i]}) for i, row in enumerate(WIDE)).encode(),
        {"age": "number", "left": "category", "id": "category"},
        said=("codes ('12345678901234567'",),
        first=(20.0, "no", "12345678901234567"),
        name="table.jsonl",
    ),
    "JSON Lines, lists": refused(
        '{"a":1,"b":[1,2]}\n{"a":2,"b":[3]}\n', "column 'b', row 1, is a list", name="table.jsonl"
    ),
    "JSON Lines, malformed": refused('{"a":1}\n{"a":2\n', "malformed JSON at line 2", name="table.jsonl"),
    "JSON Lines, a name twice": refused('{"a":1,"a":2}\n{"a":3}\n', "holds 'a' twice", name="table.jsonl"),
    "JSON of pandas, split, a short row": refused(
        json.dumps({"columns": ["a", "b"], "data": [[1, 2], [3]]}), "1 values in row 2, and 2 columns",
        name="table.json",
    ),
    "Excel, an empty first sheet": refused(
        binary(FRAME.iloc[:0, :0], "xlsx"), "first visible sheet", name="table.xlsx"
    ),
    "Parquet, whole numbers above 2**53 as decimals": Made(
        binary(FRAME.assign(age=LONG_DECIMALS), "parquet"),
        {**PLAIN_KINDS, "age": "category"},
        said=("codes ('12345678901234567'",),
        first=("12345678901234567", 100.0, "no"),
        name="table.parquet",
    ),
    "JSON of pandas, index": plain(FRAME.to_json(orient="index"), name="table.json"),
    "JSON of pandas, table": plain(FRAME.set_index("age").to_json(orient="table"), name="table.json"),
    "JSON in UTF-16": plain(FRAME.to_json(orient="records").encode("utf-16"), name="table.json"),
    "JSON in latin-1": Made(
        str([{"n": i % 7, "town": ["Nîmes", "Orléans"][i % 2]} for i in range(30)]).replace("'", '"').encode("latin-1"),
        {"n": "number", "town": "category"},
        said=("not UTF-8 (line 1): it is read as cp1252",),
        first=(0.0, "Nîmes"),
        name="table.json",
    ),
    "JSON of an answer of a server": plain(
        json.dumps({"count": 30, "results": RECORDS}), "under 'results'; beside them stands 'count'", name="table.json"
    ),
    "JSON, rows two objects deep": plain(json.dumps({"answer": {"items": RECORDS}}), name="table.json"),
    "Excel, an error in a cell": refused(
        binary(FRAME.assign(spend=["#DIV/0!", *range(29)]), "xlsx"), "'#DIV/0!' in column 'spend', row 1",
        name="table.xlsx",
    ),
    "JSON, a matrix": refused("[[1,2],[3,4]]", "objects", name="table.json"),
}  # fmt: skip

HOSTILE = {
    "a name that is a value too": Made(
        text("n,x,y,z,yes", 30, *[lambda i: i % 7] * 4, answer).encode(),
        {**dict.fromkeys("nxyz", "number"), "yes": "category"},
        said=("taken for the header, though 'yes' comes again below (a guess)",),
    ),
    "tildes": plain(PLAIN.replace(",", "~"), "A '~' separates the cells (a guess)"),
    "carets": plain(PLAIN.replace(",", "^"), "A '^' separates the cells (a guess)"),
    "Hive's own separator": plain(PLAIN.replace(",", "\x01"), "separates the cells (a guess)"),
    "a separator that the file tells": plain("sep=!\n" + PLAIN.replace(",", "!"), "names the separator"),
    "two colons": refused(PLAIN.replace(",", "::"), "has cells that '::' separates: put one tab in its place"),
    "spaces that align": plain(
        "".join("".join(f"{cell:>8}" for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()),
        "A space separates the cells (a guess)",
    ),
    "spaces that align, and in cells": refused(
        "".join(f"{name:<12}{n:<8}{left}\n" for name, n, left in [("town", "n", "left"), *SPACED]),
        "is aligned by spaces, and has spaces in its cells",
        "pandas.read_fwf",
    ),
    "quotes around each line": refused(
        "".join(f'"{line}"\n' for line in PLAIN.splitlines()), "has quotes around each line ('age,spend,left')"
    ),
    "quotes after a backslash": refused(
        "n,said,left\n" + 30 * '7,"he said \\"no, sir\\"",yes\n', "quotes within quotes", "write them doubled"
    ),
    "numbers in single quotes": refused(
        column(lambda i: f"'{i * 7}'", "").content, "\"'0'\" in column 'x', row 1", "with quotes", "write 0"
    ),
    "texts in single quotes": column(lambda i: f"'{'ab'[i % 2]}'", "category", "holds texts in quotes (\"'a'\")"),
    "codes as Excel keeps them": column(lambda i: f'="{i % 7:03d}"', "category", "holds texts in quotes"),
    "a number with a character that nobody sees": refused(
        column(lambda i: "\ufeff7" if i == 30 else i % 9 * 7, "").content, "row 31", "hidden characters", "write 7"
    ),
    "numbers in the digits of another script": refused(
        column(lambda i: "٣" if i % 2 else "٤", "").content, "'٤' in column 'x', row 1", "write 4, or give"
    ),
    "a question mark among texts": column(
        lambda i: "a?b"[i % 3], "category", "holds '?', a category of its own (missing_values='?'"
    ),
    "three digits after a point among semicolons": column(
        lambda i: f"1.{i:03d}" if i % 2 else 999, "number", "is 1.001 (a guess: kinds=x:decimal_comma", separator=";"
    ),
    "yen and yuan": column(lambda i: f"￥{i},{i:03d}" if i else "￥7", "number . , ￥", "'￥7' is 7"),
    "rows at the end that are empty": Made(
        (text("n,town", 30, lambda i: i % 7, answer) + ",\n,\n").encode(),
        {"n": "number", "town": "category"},
        said=("Rows at the end that are empty: 2",),
    ),
    "one column with blank lines": Made(
        ("age\n" + "".join(f"{i % 7 if i % 3 else ''}\n" for i in range(30))).encode(),
        {"age": "number"},
        said=("Blank lines between the rows are left out",),
    ),
    "many columns of one kind": Made(
        text(",".join(f"c{i}" for i in range(9)) + ",left", 30, *[lambda i: 5] * 9, answer).encode(),
        {**{f"c{i}": "constant" for i in range(9)}, "left": "category"},
        said=("Column 'c0' is constant ('5'): left out. Likewise, each with values of its own: 'c1', 'c2',",),
    ),
    "R's write.table with an empty last cell": Made(
        b'"a" "b" "c"\n1 2 "x"\n3 4 ""\n5 6 "z"\n',
        {"a": "number", "b": "number", "c": "category"},
        said=("A space separates the cells",),
        first=(1, 2, "x"),
    ),
    "a header one name short, and two blanks in a text": Made(
        b"a,b\nr1,x  y,2\nr2,z,3\n",
        {"Unnamed: 0": "identifier", "a": "category", "b": "number"},
        said=("The header is one name short", "names of the rows: left out"),
    ),
    "a column between that is empty": Made(
        b"a,,b\n1,,2\n3,,4\n",
        {"a": "number", "Unnamed: 1": "empty", "b": "number"},
        said=("Column 2 has no name", "'Unnamed: 1' is empty"),
    ),
    "the same, with tabs": Made(
        b"a\t\tb\n1\t\t2\n3\t\t4\n",
        {"a": "number", "Unnamed: 1": "empty", "b": "number"},
        said=("Column 2 has no name", "'Unnamed: 1' is empty"),
    ),
    "one column whose values hold a comma": Made(
        b'"city, state"\n"Paris, TX"\n"Austin, TX"\n', {"city, state": "category"}, first=("Paris, TX",)
    ),
    "one column of times": Made(
        b"hh:mm\n12:30\n12:40\n", {"hh:mm": "date"}, said=('kinds={"hh:mm": "category"} keeps it',)
    ),
    "quotes within quotes at the start of a line": Made(
        b'a,b\n"he said \\"hi\\" to",1\n', refused=("has quotes within quotes",)
    ),
    "columns of several levels in JSON": Made(
        b'{"columns":[["a","b"],["a","c"]],"index":[0],"data":[[1,2]]}',
        name="table.json",
        refused=("has columns of several levels",),
    ),
    "times of day": column(lambda i: f"{i % 24}:30 PM", "date", "holds times: left out"),
    "dates of a basic form": column(lambda i: f"202401{1 + i % 28:02d}T101500Z", "date", "holds dates"),
    "dates of MySQL that are none": column(
        lambda i: f"2024-01-{1 + i % 28:02d}" if i % 5 else "0000-00-00", "date", "holds dates"
    ),
    "dates in Russian": column(lambda i: f"{1 + i % 28} января 2024", "date", "holds dates"),
    "months before years": column(lambda i: f"{1 + i % 12:02d}/2024", "date", "holds dates"),
    "a euro sign in latin-9": Made(
        text("p;left", 30, lambda i: f"{i},50 €", answer, separator=";").encode("iso8859-15"),
        {"p": "number , ¤", "left": "category"},
        said=("read as cp1252 ('¤'). If this is wrong, save the file as UTF-8", "'0,50 ¤' is 0.5"),
    ),
    "Cyrillic of Unix": Made(
        text("n,город", 30, lambda i: i % 9, lambda i: "Москва" if i % 2 else "Казань").encode("koi8-r"),
        {"n": "number", "город": "category"},
        said=("read as koi8_r ('город')",),
    ),
    "a table of a web page": refused("<table><tr><td>age</td></tr>\n</table>\n", "is a web page"),
    "a pointer of Git LFS": refused("version https://git-lfs.github.com/spec/v1\nsize 1\n", "git lfs pull"),
    "LIBSVM": refused("".join(f"{i % 2} 1:{i} 2:{i * 3}\n" for i in range(30)), "is a file of LIBSVM"),
    "OpenDocument": refused(zipped_bytes("content.xml", b"<x/>"), "is an OpenDocument", name="table.ods"),
    "a zip of a Mac": plain(zipped_bytes("table.csv", PLAIN.encode(), "__MACOSX/._a", ".DS_Store"), name="table.zip"),
    "Parquet, decimals that a float cannot tell apart": Made(
        binary(FRAME.assign(age=pd.Series(LONG_FRACTIONS)), "parquet"),
        PLAIN_KINDS,
        name="table.parquet",
    ),
    "Parquet, durations": Made(
        binary(FRAME.assign(age=pd.to_timedelta(FRAME["age"], unit="h")), "parquet"),
        {**PLAIN_KINDS, "age": "date"},
        said=("'age' holds times",),
        name="table.parquet",
    ),
    "JSON of pandas, index with names": plain(
        FRAME.set_axis([f"r{i}" for i in range(30)]).to_json(orient="index"),
        "rows have names ('r0', ...): left out.",
        name="table.json",
    ),
    "JSON of pandas, index with names, numbers only": Made(
        FRAME[["age", "spend"]].set_axis([f"r{i}" for i in range(30)]).to_json(orient="index").encode(),
        {"age": "number", "spend": "number"},
        said=("rows have names ('r0', ...): left out (a guess).",),
        name="table.json",
    ),
    "JSON of pandas, split, a name twice": refused(
        json.dumps({"columns": ["a", "a"], "data": [[1, 2], [3, 4]]}), "2 columns called 'a'", name="table.json"
    ),
    "Excel, formulas without values": refused(
        workbook(lambda sheet: sheet.__setitem__("B5", "=A5*2")),
        "a formula in cell B5, and no value",
        name="table.xlsx",
    ),
    "Excel, merged cells": Made(
        workbook(lambda sheet: sheet.merge_cells("A2:A31")),
        {**PLAIN_KINDS, "age": "constant"},
        said=("Merged cells (such as A2:A31) have their value in each row", "'age' is constant ('20')"),
        name="table.xlsx",
    ),
    "Excel, a hidden sheet before": plain(
        workbook(lambda sheet: sheet.parent.create_sheet("old", 0).__setattr__("sheet_state", "hidden")),
        "2 sheets: 'Sheet', the first that is visible",
        name="table.xlsx",
    ),
    "Excel, times": Made(
        workbook(lambda sheet: [sheet.cell(row, 1, time(row % 24, 30)) for row in range(2, 32)]),
        {**PLAIN_KINDS, "age": "date"},
        said=("'age' holds times",),
        name="table.xlsx",
    ),
}

TABLES = {**NUMBERS, **TEXTS, **IDENTIFIERS, **HEADERS, **FILES, **TYPED, **HOSTILE}
