"""Runs cells in one kernel, the later ones also where an earlier one failed.

usage: run_cells.py FOLDER INTERRUPT_MODE

INTERRUPT_MODE is "signal" or "message", as in a kernel's description. Reads from standard input a JSON list of cells:
{"code": ..., "interrupt": text}. A cell with "interrupt" is interrupted when its output has that text in it. Writes a JSON
list of {"status": ..., "text": ...}, where text is all that the cell printed or showed.

A cell {"inspect": code} is not run: text is the documentation of what stands at the end of the code.
A cell {"together": [code, ...]} sends all at once: text tells in order what the kernel said of its state and what was printed.
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


def inspect(code):
    request = client.inspect(code, len(code))
    reply = client.get_shell_msg(timeout=PATIENCE)
    assert reply["parent_header"].get("msg_id") == request
    content = reply["content"]
    return {"status": content["status"], "text": content["data"].get("text/plain", "")}


def together(codes):
    waiting = {client.execute(code) for code in codes}
    asked = set(waiting)
    told = []
    while waiting:
        message = client.get_iopub_msg(timeout=PATIENCE)
        request = message["parent_header"].get("msg_id")
        content = message["content"]
        if request not in asked:
            continue
        state = content.get("execution_state")
        told.append(state or content["text"].strip())
        if state == "idle":
            waiting.discard(request)
    for _ in codes:
        client.get_shell_msg(timeout=PATIENCE)
    return {"status": "ok", "text": " ".join(told)}


def answer(cell):
    if "inspect" in cell:
        return inspect(cell["inspect"])
    return together(cell["together"]) if "together" in cell else run(cell)


try:
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    print(json.dumps([answer(cell) for cell in json.load(sys.stdin)]))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
