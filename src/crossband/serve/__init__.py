"""A page in the browser: images in, labels and pictures out, within limits."""
