"""The user's own Python modules and requirements in a bundle: packing them, checking them, and importing them."""
