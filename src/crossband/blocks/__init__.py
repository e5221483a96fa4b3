"""Layers that more than one system uses, or that deserve a test of their own."""
