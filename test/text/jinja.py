"""Writes the templates of jinja.json anew with transformers: what each writes, or the kind of error. Run: python test/text/jinja.py"""
import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

FILE = pathlib.Path(__file__).with_name("jinja.json")
fixture = json.loads(FILE.read_text(encoding="utf-8"))


def write(template):
    try:
        names = {key: value for key, value in fixture["names"].items() if key not in ("messages", "tools")}
        messages, tools = fixture["names"]["messages"], fixture["names"]["tools"]
        return {"template": template, "text": render_jinja_template([messages], tools=tools, chat_template=template, **names)[0][0]}
    except Exception as error:
        return {"template": template, "error": type(error).__name__}


fixture["cases"] = [write(case["template"]) for case in fixture["cases"]]
lines = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in fixture["cases"])
FILE.write_text('{\n  "names": %s,\n  "cases": [\n%s\n  ]\n}\n' % (json.dumps(fixture["names"], ensure_ascii=False), lines), encoding="utf-8")
