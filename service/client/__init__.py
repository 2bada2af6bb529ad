"""What calls the service: traffic and doctor. It sees it only through HTTP."""
