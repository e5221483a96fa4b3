"""Training losses that several systems use: pure functions on tensors, each with its equation."""
