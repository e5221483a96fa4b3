"""Systems as graphs for other runtimes, held against PyTorch before they are kept."""
