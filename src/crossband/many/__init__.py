"""Very many pairs, cut into parts that a cluster's workers do, each once and each written whole.

- `parts`: how a list is cut, and what an output folder says of that;
- `jobs`: what is done with a part: its labels counted, or predicted;
- `cluster`, `working`: who does it: Ray Data on a cluster of machines that share the folder.
"""
