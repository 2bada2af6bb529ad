"""Tables in files: rows are read one by one and converted to the values of features, and results are written."""
