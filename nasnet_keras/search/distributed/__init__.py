"""Children elsewhere than in this process: on Ray; or in processes of this machine, and others, with a chief."""
