"""Archives: telemetry in one file, which another hub can open."""
