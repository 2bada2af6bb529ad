"""The HTTP server of service and hub: uvicorn with limits for headers, times and connections."""
