"""Labels and predictions to annotation tools, in the formats that these document, and back."""
