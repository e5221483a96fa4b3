"""The version, in a file of its own so that the build and the command line can read it for nothing."""

__version__ = "0.1.0"
