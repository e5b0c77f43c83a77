"""Executes one notebook with its own kernel, from first to last cell, and saves the executed copy.

usage: execute_notebook.py NOTEBOOK OUTPUT

The cells run in the notebook's folder. Progress goes to standard output. A failing cell is printed with its source and
error, the copy is saved as far as it came, and the exit code is 1.
"""

import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

# tslab reports these on standard error of whatever cell runs at that moment and goes on; a person would miss them.
LOST_ERRORS = re.compile(r"UnhandledPromiseRejection|UncaughtException")
ON_TERMINAL = sys.stdout.isatty()


class Client(NotebookClient):
    """Shows on a terminal what the running cell prints, on one line."""

    shown = 0.0

    def process_message(self, msg, cell, cell_index):
        if ON_TERMINAL and time.time() - self.shown > 0.2:
            content = msg["content"]
            text = content.get("text") or content.get("data", {}).get("text/plain") or ""
            lines = [line for line in re.split(r"[\r\n]", text) if line.strip()]
            if lines and not lines[-1].startswith("<"):
                self.shown = time.time()
                status(f"      {lines[-1].strip()}")
        return super().process_message(msg, cell, cell_index)


def status(text):
    sys.stdout.write(f"\r\x1b[2K{text[:100]}" if ON_TERMINAL else f"{text}\n")
    sys.stdout.flush()


def titles(cells):
    """The heading that each cell stands under, or the cell's first line."""
    heading = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+\s*(.+)$", cell.source, re.M)
            heading = found[-1] if found else heading
        yield heading or (cell.source.strip().split("\n")[0] if cell.source else "")


def tidy(outputs):
    """Joins neighbouring pieces of one stream and keeps what a terminal would show of lines that were overwritten."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
    return joined


def execute(notebook, folder):
    """Returns the error's text, or None."""
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    names = list(titles(notebook.cells))
    started = {}

    def on_start(cell, cell_index):
        started[cell_index] = time.time()
        if cell_index in code and ON_TERMINAL:
            status(f"   [{code.index(cell_index) + 1}/{len(code)}] {names[cell_index]} ...")

    def on_executed(cell, cell_index, execute_reply):
        took = time.time() - started.get(cell_index, time.time())
        status(f"   [{code.index(cell_index) + 1}/{len(code)}] {names[cell_index]} ({took:.1f} s)")
        if ON_TERMINAL:
            print()

    client = Client(
        notebook,
        timeout=None,
        startup_timeout=120,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=on_start,
        on_cell_executed=on_executed,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error)
    except DeadKernelError:
        return "The kernel ended in the middle of a cell (out of memory?)."
    finally:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = tidy(cell.outputs)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and LOST_ERRORS.search(output.text):
                return f"An error was thrown outside of the cell's own promise:\n{cell.source}\n------------------\n{output.text}"
    return None


def main(source, target):
    notebook = nbformat.read(source, as_version=4)
    error = execute(notebook, source.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    if error:
        print(f"\n{source}: {error}", file=sys.stderr)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
