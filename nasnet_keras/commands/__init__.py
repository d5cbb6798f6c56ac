"""What the command line does, one file a command: its options, what is checked before a framework is loaded, its work.

Each file has `SUMMARY` and `EXAMPLE` for the help, `add_options(parser)`, `check(options)`, which refuses bad input and
gives what it has read as a dict, and `run(options, **checked)`, which prints the result. At its top a file imports no
framework: what `run` needs is imported by `run`, since TensorFlow takes seconds to load.
"""
