"""`export_onnx` as a user sees it who has not installed its extra packages: Python finds neither of two."""

import importlib
import importlib.util as util

found = util.find_spec
util.find_spec = lambda name, package=None: None if name in ("onnxruntime", "skl2onnx") else found(name, package)
importlib.import_module("support.entry_point").run_command(importlib.import_module("export_onnx").export_onnx)
