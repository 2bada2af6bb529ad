"""What the HTTP servers of service and hub have in common: uvicorn with limits for heads, times and connections."""
