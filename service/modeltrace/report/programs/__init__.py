"""Programs for the environments of the libraries: each imports its library and pandas, nothing of Modeltrace."""
