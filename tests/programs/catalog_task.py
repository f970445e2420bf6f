"""What the process of a Databricks task is: a Spark session, and an entry point run in it on a table of the catalog.

`python catalog_task.py FOLDER EXPERIMENT_ID`; FOLDER/churn.csv becomes the table.
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

collection = Path(__file__).resolve().parent.parent.parent
folder, experiment = sys.argv[1:]
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
spark = builder.config("spark.sql.warehouse.dir", f"{folder}/warehouse").getOrCreate()
table = spark.read.csv(f"{folder}/churn.csv", header=True, inferSchema=True)
table.write.saveAsTable("spark_catalog.default.churn")
sys.path.insert(0, str(collection / "on_databricks" / "mlflow_databricks_jobs"))
from run_entry_point import run_task  # noqa: E402

train = str(collection / "classification" / "train.py")
run_task(experiment, train, "gaussian_nb", "--data=spark_catalog.default.churn")
