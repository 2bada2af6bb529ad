"""How often the drift check raises false alarms, and how many predictions it needs to detect drift."""
