"""Children elsewhere than in this process: in others of this machine, on Ray, and on machines that have a chief."""
