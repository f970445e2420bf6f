"""Tunes with the arguments given, from the folder classification/, and says whether TensorFlow was loaded."""

from __future__ import annotations

import importlib
import os
import sys

sys.path[0] = os.getcwd()
importlib.import_module("tune").tune.main(sys.argv[1:], standalone_mode=False)
print("TensorFlow is loaded:", "tensorflow" in sys.modules)
