"""The programs that `bench.instructions` runs under callgrind, and where they mark what is counted."""
