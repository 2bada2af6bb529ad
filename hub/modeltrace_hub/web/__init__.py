"""Render the web pages. They work without JavaScript; the scripts in static/ update them live."""
