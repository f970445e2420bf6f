"""Runs one trial of a network that is given up as soon as it can be, from the folder classification/."""

from __future__ import annotations

import importlib
import json
import os
import sys

import optuna

sys.path[0] = os.getcwd()
objective = importlib.import_module("objective")
split = importlib.import_module("features").load_split("data/churn.csv", "churn", "", "", "", "", 0.9, 0)

optuna.logging.set_verbosity(optuna.logging.WARNING)
search = objective.Search("ann", "roc_auc", 2, 1, 0, "", "local", 1, 0)
study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1.0))
study.optimize(objective.Objective(split, search), n_trials=1)
print(json.dumps({"state": study.trials[0].state.name, "steps": list(study.trials[0].intermediate_values)}))
