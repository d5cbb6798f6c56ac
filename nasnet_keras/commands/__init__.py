"""The commands of the command line: what each reads, checks and does."""
