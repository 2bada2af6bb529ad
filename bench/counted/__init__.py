"""The programs that `bench.instructions` runs under callgrind."""
