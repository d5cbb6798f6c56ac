"""One search in several processes: the chief, its workers, and how they are started."""
