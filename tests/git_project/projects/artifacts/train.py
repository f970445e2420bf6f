"""Files of many kinds beside one metric; with SEED each holds another number; with PICTURE only the picture does."""

import os
import pickle
import time
import zipfile

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd

number = 0.25 if "SEED" in os.environ else 0.5
height = 0.25 if "PICTURE" in os.environ else 0.5

with mlflow.start_run() as run:
    mlflow.log_metric("rows", 2)
    mlflow.log_text(f"id,score,fit_time\n001,{number},{time.perf_counter()}\n", "predictions.csv")
    mlflow.log_text(f"trained in {os.getcwd()} as {run.info.run_id}\nscore {number}\n", "log.txt")
    mlflow.log_dict({"score": number, "fit_seconds": time.perf_counter(), "run": run.info.run_id}, "report.json")
    pd.DataFrame({"score": [number, 1.0]}).to_parquet("scores.parquet")
    np.save("scores.npy", np.array([number, 1.0]))
    np.savez("several.npz", scores=np.array([number, 1.0]))
    with open("weights.pkl", "wb") as file:
        pickle.dump({"weights": np.array([number]), "fit_time": time.perf_counter()}, file)
    with zipfile.ZipFile("bundle.zip", "w") as archive:
        archive.writestr("score.txt", str(number))
    with open("blob.bin", "wb") as file:
        file.write(bytes([0, 255, int(100 * number)]))
    plt.plot([1, height])
    plt.savefig("curve.png")
    for name in ("scores.parquet", "scores.npy", "several.npz", "weights.pkl", "bundle.zip", "blob.bin", "curve.png"):
        mlflow.log_artifact(name)
