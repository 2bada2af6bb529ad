"""What the tests share: real processes and free ports."""
