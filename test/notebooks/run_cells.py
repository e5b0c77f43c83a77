"""Runs cells in one kernel, the later ones also where an earlier one failed.

usage: run_cells.py FOLDER INTERRUPT_MODE

INTERRUPT_MODE is "signal" or "message", as in a kernel's description. Reads from standard input a JSON list of cells:
{"code": ..., "interrupt": text}. A cell with "interrupt" is interrupted when its output has that text in it. Writes a JSON
list of {"status": ..., "text": ...}, where text is all that the cell printed or showed.
"""

import json
import sys
import time

from jupyter_client.manager import KernelManager

PATIENCE = 60

manager = KernelManager(kernel_name="tslab")
manager.kernel_spec.interrupt_mode = sys.argv[2]
manager.start_kernel(cwd=sys.argv[1])
client = manager.client()


def run(cell):
    request = client.execute(cell["code"])
    trigger = cell.get("interrupt")
    text = ""
    deadline = time.time() + PATIENCE
    while True:
        message = client.get_iopub_msg(timeout=max(0, deadline - time.time()))
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            break
        text += content.get("text") or content.get("data", {}).get("text/html") or ""
        if trigger and trigger in text:
            trigger = None
            manager.interrupt_kernel()
    while True:
        reply = client.get_shell_msg(timeout=PATIENCE)
        if reply["parent_header"].get("msg_id") == request:
            break
    status = reply["content"]["status"]
    if status == "error":
        # What is sent in the moment after a failure is refused, as cells that waited behind the failed one.
        time.sleep(1)
    return {"status": status, "text": text}


try:
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    print(json.dumps([run(cell) for cell in json.load(sys.stdin)]))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
