"""Systems as graphs for other runtimes, which give the same answer; held against PyTorch before they are kept."""
