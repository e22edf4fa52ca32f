"""Models as programs of other runtimes: ONNX and StableHLO."""
