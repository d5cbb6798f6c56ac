"""One search in several processes: roles, the chief, the workers, and the processes of this machine."""
