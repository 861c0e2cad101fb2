"""EMD: detection and localisation of facial expression manipulation (the models and the data plane)."""
