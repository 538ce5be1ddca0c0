"""ONNX Runtime from PyPI's wheel: a library that the server opens, not a server."""

import pathlib

from ._processes import pip_install

NAME = "onnxruntime"


def install(cache: pathlib.Path):
    pip_install(cache / "onnxruntime", "onnxruntime==1.31.1")


def start(cache: pathlib.Path, folder: pathlib.Path):
    found = list((cache / "onnxruntime").glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
    if len(found) != 1:
        raise FileNotFoundError(f"the wheel of onnxruntime has {len(found)} libraries, not one")
    return {"WATERSHED_TEST_ONNXRUNTIME": str(found[0])}, lambda: None
