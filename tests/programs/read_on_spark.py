"""Reads tables on Spark as the example in the working directory does, all with one Spark.

Its input is a JSON list: [[path, {argument of `decide`: value}], ...]. Its last line is another, of what was decided
and the values of the rows, as text, or of the one line that refuses the table.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import pandas as pd

sys.path[0] = os.getcwd()  # as for the scripts of the example

from mlflow.types import ColSpec, DataType, Schema  # noqa: E402

from support.inputs import model_inputs  # noqa: E402
from support.kinds import Kind, to_metadata  # noqa: E402
from support.on_spark import decide_on_spark, read_on_spark, select, send_modules, spark_session  # noqa: E402

TYPES = {"number": DataType.double, "boolean": DataType.boolean}


def values(frame: Any, kinds: dict[str, Kind]) -> list[list[str]]:
    """What a model gets in the workers."""
    schema = Schema([ColSpec(TYPES.get(kind.kind, DataType.string), name) for name, kind in kinds.items()])

    def read(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            X = model_inputs(batch, schema, kinds)
            yield pd.DataFrame({f"c{i}": X[name].map(str) for i, name in enumerate(kinds)})

    columns = ", ".join(f"c{i} string" for i in range(len(kinds)))
    return [list(row) for row in select(frame, list(kinds)).mapInPandas(read, columns).collect()]


def main() -> None:
    spark, found = spark_session(), list[Any]()
    send_modules(spark)
    for path, given in json.load(sys.stdin):
        try:
            frame = read_on_spark(spark, path)
            kinds, _ = decide_on_spark(frame, path, **given)
            found.append([to_metadata(kinds), values(frame, kinds)])
        except click.BadParameter as error:
            found.append(error.format_message())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
