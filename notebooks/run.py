"""Run the notebooks top to bottom, each in a fresh kernel.

    python notebooks/run.py            runs each .py in full and writes it, with its outputs, as .ipynb
    python notebooks/run.py --short    runs all in about a minute, writes nothing, and checks that each .ipynb
                                       holds what its .py says: what continuous integration does
    python notebooks/run.py 03         only those whose name begins so

It needs `pip install -e ".[notebooks]"`.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HERE = Path(__file__).parent


def main():
    """Run what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 03 (default: all)")
    parser.add_argument("--short", action="store_true", help="few steps; write nothing, compare .ipynb with .py")
    options = parser.parse_args()
    sources = sorted(HERE.glob("0*.py"))
    if options.names:
        sources = [source for source in sources if source.name.startswith(tuple(options.names))]
    with ThreadPoolExecutor(2 if options.short else 1) as pool:  # a kernel of its own for each; mostly they trace
        done = list(pool.map(lambda source: run(source, options), sources))
    failed = [source.stem for source, is_good in zip(sources, done, strict=True) if not is_good]
    for name in failed:
        print(f"{name} failed", file=sys.stderr)
    return 1 if failed or not sources else 0


def run(source, options):
    """Run one notebook; returns whether everything is as it should be."""
    start, target = time.time(), source.with_suffix(".ipynb")
    notebook = jupytext.read(source, fmt="py:percent")
    if options.short and not same_cells(notebook, target):
        print(f"{target.name} does not hold what {source.name} says: run it without --short", file=sys.stderr)
        return False
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "NASNET_KERAS_SHORT": "1" if options.short else ""}
    # What libraries write on the bare stderr is no output of a notebook.
    arguments = ["--IPKernelApp.capture_fd_output=False"]
    client = NotebookClient(notebook, kernel_name="python3", timeout=1800, extra_arguments=arguments)
    with tempfile.TemporaryFile("w+") as greetings:
        try:
            client.execute(cwd=str(HERE), env={**os.environ, **environment}, stderr=greetings)
        except (CellExecutionError, DeadKernelError) as error:
            greetings.seek(0)
            print(greetings.read()[-2000:], error, sep="\n", file=sys.stderr)
            return False
    if not options.short:
        write(notebook, target)
    print(f"{source.stem}: {time.time() - start:.0f} s")
    return True


def same_cells(notebook, target):
    """Whether an .ipynb has the cells of a notebook, and outputs."""
    if not target.exists():
        return False
    stored = nbformat.read(target, as_version=4)
    cells = [[(cell.cell_type, cell.source) for cell in book.cells] for book in (notebook, stored)]
    return cells[0] == cells[1] and any(cell.get("outputs") for cell in stored.cells)


def write(notebook, target):
    """Write an .ipynb that differs from the last run only where its outputs do."""
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, target)


if __name__ == "__main__":
    sys.exit(main())
