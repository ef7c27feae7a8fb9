"""Times one row through LightGBM models, by Saker, LightGBM's fast single-row call and ONNX Runtime, in one run.

    cargo bench --locked --no-run --bench model && cargo build --locked --release
    pip install lightgbm==4.7.0 onnxruntime onnxmltools onnx
    python3 models/import/speed.py

The same exported model for all, 2,048 rows in turn, on one thread; each figure is the median of five turns, in which
they alternate, of the least of many short rounds. Saker's has margin and score, LightGBM's the raw margin, called from C
where there is a C compiler; ONNX Runtime is called from Python, whose own share is in its figure.
"""
import ctypes
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import lightgbm
import numpy

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "release"
SHAPES = [("100 trees, 64 leaves, depth 6", 100, 64, 6), ("500 trees, 256 leaves, depth 8", 500, 256, 8)]
TURNS = 5
ROWS = 2048


def names():
    """The columns of a row, in the engine's order, as the shipped model lists them."""
    text = (ROOT / "models" / "default.json").read_text()
    listed = re.search(r'"features": \[(.*?)\]', text, re.S).group(1)
    return re.findall(r'"([^"]+)"', listed)


def draw(rows, columns, seed):
    """Amounts, counts, times and yes or no in turn, a tenth missing; labels depend on sums, products and noise."""
    rng = numpy.random.default_rng(seed)
    kinds = [
        lambda: rng.lognormal(4, 1.3, rows).round(2), lambda: rng.poisson(3, rows),
        lambda: rng.uniform(0, 2_592_000, rows).round(), lambda: rng.integers(0, 2, rows),
    ]
    x = numpy.column_stack([kinds[column % 4]() for column in range(columns)]).astype(numpy.float32)
    score = (numpy.log(x[:, 0::4] + 1) - 4) @ rng.normal(size=x[:, 0::4].shape[1])
    score += (x[:, 1::4] - 3) @ rng.normal(size=x[:, 1::4].shape[1]) * (x[:, 2] > 1_000_000)
    y = rng.random(rows) < 1 / (1 + numpy.exp(-score))
    x[rng.random(x.shape) < 0.1] = numpy.nan
    return x, y


def bench_binary():
    built = sorted((TARGET / "deps").glob("model-*"), key=lambda path: path.stat().st_mtime)
    built = [path for path in built if not path.suffix]
    if not built or not (TARGET / "saker").exists():
        sys.exit("build first: cargo bench --locked --no-run --bench model && cargo build --locked --release")
    return built[-1]


def figure(words, **env):
    printed = subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([0-9.]+) us a row", printed).group(1))


def lightgbm_caller(folder, model, rows, columns):
    """Calls from C; without a compiler from ctypes, whose own time is measured on an empty call and taken off."""
    library = pathlib.Path(lightgbm.__file__).parent / "lib" / "lib_lightgbm.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        binary = folder / "single_row"
        subprocess.run([compiler, "-O2", HERE / "single_row.c", "-ldl", "-o", binary], check=True)
        return "C", lambda: figure([binary, library, model, rows, str(columns)])
    lib = ctypes.CDLL(str(library))
    booster, fast, trees = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
    cells = numpy.fromfile(rows, numpy.float32).reshape(-1, columns)
    if lib.LGBM_BoosterCreateFromModelfile(str(model).encode(), ctypes.byref(trees), ctypes.byref(booster)):
        sys.exit("LightGBM cannot read its model")
    if lib.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster, 1, 0, -1, 0, columns, b"num_threads=1", ctypes.byref(fast)):
        sys.exit("LightGBM has no fast call for this model")
    length, margin = ctypes.c_int64(), ctypes.c_double()
    pointers = [ctypes.c_void_p(row.ctypes.data) for row in cells]
    ends = ctypes.byref(length), ctypes.byref(margin)
    # A call that does nothing with as many arguments, which C lets a callee ignore.
    return "ctypes, less an empty call", lambda: (
        least(lambda row: lib.LGBM_BoosterPredictForMatSingleRowFast(fast, row, *ends), pointers)
        - least(lambda row: lib.LGBM_GetLastError(fast, row, *ends), pointers))


def least(call, rows):
    """Microseconds of one call: the least of many short rounds, so that one of them has the core for itself."""
    def round_us(some):
        began = time.perf_counter()
        for row in some:
            call(row)
        return (time.perf_counter() - began) * 1e6 / len(some)
    return min(round_us(rows[at:at + 64]) for _ in range(4) for at in range(0, len(rows), 64))


def onnx_caller(booster, cells):
    try:
        import onnxruntime
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType
    except ImportError as missing:
        return None, f"not installed: {missing}"
    try:
        shape = [("input", FloatTensorType([None, cells.shape[1]]))]
        converted = convert_lightgbm(booster, initial_types=shape, zipmap=False)
    except Exception as why:
        return None, f"not converted: {str(why)[:80]}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(converted.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [{"input": row.reshape(1, -1)} for row in cells]
    outputs = [session.get_outputs()[-1].name]
    theirs = numpy.array([session.run(outputs, row)[0][0, -1] for row in rows[:200]])
    away = numpy.abs(theirs - booster.predict(cells[:200])).max()
    return lambda: least(lambda row: session.run(outputs, row), rows), (
        f"probabilities within {away:.0e} of LightGBM's")


def main():
    bench, columns = bench_binary(), names()
    x, y = draw(40_000, len(columns), 1)
    print("| model | leaves in all | Saker, us | LightGBM fast, us | Saker to LightGBM | ONNX Runtime, us | Saker to ONNX |")
    print("|---|---|---|---|---|---|---|")
    notes = []
    for name, trees, leaves, depth in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            model, own, rows = folder / "model.txt", folder / "model.json", folder / "rows.f32"
            params = {"objective": "binary", "num_leaves": leaves, "max_depth": depth, "learning_rate": 0.05,
                      "min_data_in_leaf": 5, "min_sum_hessian_in_leaf": 0, "feature_fraction": 0.7,
                      "num_threads": 1, "seed": 1, "verbose": -1}
            booster = lightgbm.train(params, lightgbm.Dataset(x, y, feature_name=columns), trees)
            booster.save_model(model)
            cells, _ = draw(ROWS, len(columns), 2)
            cells.tofile(rows)
            golden = folder / "golden.csv"
            cell = lambda v: "" if numpy.isnan(v) else repr(float(v))
            margins = booster.predict(cells[:500], raw_score=True)
            lines = [",".join(columns + ["margin"])]
            lines += [",".join(map(cell, [*row, margin])) for row, margin in zip(cells, margins)]
            golden.write_text("\n".join(lines) + "\n")
            # Refused where a margin differs by more than 1e-6.
            subprocess.run([TARGET / "saker", "model", "import", model, "--golden", golden, "--out", own], check=True,
                           capture_output=True)
            how, theirs = lightgbm_caller(folder, model, rows, len(columns))
            onnx, note = onnx_caller(booster, cells)
            ours = lambda: figure([bench, "--bench"], SAKER_BENCH_MODEL=str(own), SAKER_BENCH_ROWS=str(rows))
            turns = [(ours(), theirs(), onnx() if onnx else float("nan")) for _ in range(TURNS)]
            us, lgb, ort = (statistics.median(turn[at] for turn in turns) for at in range(3))
            ratio = statistics.median(turn[0] / turn[1] for turn in turns)
            total = sum(tree["num_leaves"] for tree in booster.dump_model()["tree_info"])
            print(f"| {name} | {total} | {us:.3f} | {lgb:.2f} | {ratio:.3f} | {ort:.1f} | {us / ort:.3f} |", flush=True)
            notes.append(f"{name}: LightGBM called from {how}; ONNX Runtime {note}")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
