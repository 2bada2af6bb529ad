"""What is kept about predictions once they are answered."""
