"""The HTTP server for exported models: its requests and answers, batches, limits and page."""
