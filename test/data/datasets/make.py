"""Makes what the tests of datasets compare with: Parquet files, and which files `datasets` takes for which split.

Needs `pip install datasets`. Run it in this folder.
"""

import json
import os
import tempfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

datasets.disable_progress_bars()

# --- Parquet: rows as datasets gives them back -----------------------------------------------------------------------------

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {i} + {i}? ½ €", "tool_calls": None},
            {"role": "assistant", "content": str(2 * i), "tool_calls": [{"name": "add", "arguments": [i, i]}] if i % 3 == 0 else None},
        ],
        "id": i * 10**9,
        "score": None if i % 4 == 0 else i / 8,
        "tags": ["a", "b"][: i % 3],
        "flag": i % 2 == 0,
        "meta": {"source": "made", "depth": None if i % 5 == 0 else {"level": i}},
    }
    for i in range(60)
]
for compression in ["snappy", "zstd", "gzip", "none"]:
    name = f"rows-{compression}.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), name, compression=compression, row_group_size=25)
    assert pq.read_table(name).to_pylist() == ROWS
with open("rows.json", "w") as file:
    json.dump(ROWS, file, ensure_ascii=False)

texts = pa.table({
    "text": ["\ufeffA mark", "plain", "\ufeff"],
    "picture": pa.array([b"\x89PNG\xff", None, b""], pa.binary()),
    "image": pa.array([{"bytes": b"\x89PNG\xff", "path": "a.png"}] * 3, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
})
pq.write_table(texts, "texts.parquet", compression="none", store_schema=False)

# --- Splits: which files, in which order -----------------------------------------------------------------------------------

TREES = [
    ["train.jsonl", "test.jsonl"],
    ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test_sft-00000-of-00001.jsonl"],
    ["train/a.jsonl", "train/b.jsonl", "dev/a.jsonl", "eval/x/y.jsonl"],
    ["my_train_part1.jsonl", "my_train_part2.jsonl", "my-valid.jsonl"],
    ["rows.jsonl", "sub/more.jsonl", "README.md"],
    ["latest.jsonl", "contest.jsonl"],
    ["train.jsonl", "train_extra.jsonl", ".hidden/train.jsonl", "__pycache__/train.jsonl", "notes.txt"],
    ["a.json", "b.jsonl", "c.jsonl"],
    ["en/train.jsonl", "en/test.jsonl", "de/train.jsonl"],
    ["training-set.jsonl", "evaluation set.jsonl", "Train.jsonl"],
    ["data/rows.jsonl", "config.json", "dataset_infos.json"],
    ["test-data/one.jsonl", "val2/two.jsonl"],
    ["train.json", "train.csv"],
    ["data/en/train-00000-of-00001.jsonl", "data/en/test-00000-of-00001.jsonl"],
    ["__rows.jsonl", "b/__more.jsonl", "__c/d.jsonl"],
]
CARDS = [
    ("configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/a*\n  - split: held_out\n    path: [data/b.jsonl, data/c.jsonl]\n",
     ["data/a1.jsonl", "data/a2.jsonl", "data/b.jsonl", "data/c.jsonl"], [None, "default"]),
    ("configs:\n- config_name: en\n  data_files: en/*.jsonl\n- config_name: de\n  data_files: [de/x.jsonl, de/y.jsonl]\n  default: true\n",
     ["en/b.jsonl", "en/a.jsonl", "de/y.jsonl", "de/x.jsonl"], [None, "en", "de"]),
    ("license: mit\nconfigs:\n- config_name: all\n  data_dir: all\n- config_name: few\n  data_dir: few\n",
     ["all/train.jsonl", "all/test.jsonl", "few/train.jsonl"], ["all", "few"]),
    ("license: mit\n", ["train.jsonl"], [None]),
    ("configs:\n- config_name: one\n  data_files: '**/*[0-9].jsonl'\n", ["x/1.jsonl", "2.jsonl", "x/a.jsonl"], [None, "one"]),
    ("configs:\n- config_name: one\n  data_files:\n  - split: train\n    path: ['part (1)/*.jsonl', 'c++/*.jsonl']\n  - split: test\n    path: 'x[!a]*.jsonl'\n"
     "  - split: more\n    path: '[^a].jsonl'\n",
     ["part (1)/a.jsonl", "c++/b.jsonl", "xa.jsonl", "xb.jsonl", "a.jsonl", "b.jsonl"], [None]),
]


def splits(names, card, config):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for name in names:
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write("{}" if "info" in name else "text\n" + name + "\n" if name.endswith(".csv") else json.dumps({"text": name}) + "\n")
        if card is not None:
            with open(os.path.join(folder, "README.md"), "w") as file:
                file.write(f"---\n{card}---\n# Card\n")
        loaded = datasets.load_dataset(folder, config, cache_dir=cache)
        return {split: rows["text"][:] for split, rows in loaded.items()}


cases = [{"names": names, "splits": splits(names, None, None)} for names in TREES]
for card, names, configs in CARDS:
    for config in configs:
        case = {"names": names, "card": card, "splits": splits(names, card, config)}
        cases.append({**case, "config": config} if config else case)
with open("splits.json", "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
