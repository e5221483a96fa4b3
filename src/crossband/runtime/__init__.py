"""What computes: PyTorch, or an exported graph on ONNX Runtime or OpenVINO, which need no PyTorch."""
