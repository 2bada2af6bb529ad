"""Model versions: which one answers a request, how they are replaced, and shadow requests to a challenger."""
