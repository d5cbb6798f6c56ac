"""What stands around an exported model: its files, other runtimes, and the parts of the server."""
