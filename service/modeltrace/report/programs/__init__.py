"""Programs that run in the libraries' virtual environments: each imports its library and pandas, but not Modeltrace."""
