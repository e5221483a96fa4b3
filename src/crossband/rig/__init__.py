"""Two cameras and the geometry between them: arrays in, geometry out."""
