"""Speed, as ratios measured in one run. Each bench prints a table, or JSON with --json."""
