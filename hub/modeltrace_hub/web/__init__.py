"""The pages: rendered here, whole without JavaScript; static/ makes them live."""
