"""Makes tests/import: models of XGBoost 3.2.0 and LightGBM 4.7.0 with their own raw margins, and the Shapley values of
some rows as shap 0.51.0 has them.

    python3 models/import/make.py

NAME.csv has rows and margins; NAME.shap.csv has rows, each feature's value under `shap.FEATURE`, and `expected`.
shap.TreeExplainer hands a model of these libraries on to the library's own TreeSHAP, in 32 bits with XGBoost.
kernel.json has trees drawn at random, rows, and what shap's own TreeSHAP makes of them in 64 bits, without a library.
"""
import gzip
import json
import pathlib

import lightgbm
import numpy
import shap
import xgboost

OUT = pathlib.Path(__file__).parents[2] / "tests" / "import"
NAMES = ["amount_major", "merchant.mcc_number", "hour_utc", "card.count_1h", "distance_from_home_km", "is_foreign"]
CATEGORICAL = [1]
# Rows of a model whose Shapley values are written.
EXPLAINED = 52


def draw(rows, missing, seed):
    """Rows in 32 bits with labels that depend on amount, category, count and what is missing."""
    rng = numpy.random.default_rng(seed)
    x = numpy.column_stack([
        rng.lognormal(3, 1.2, rows).round(2),
        rng.choice([742, 763, 780, 1520, 1711, 1731, 1740, 1750, 1761, 1771], rows),
        rng.integers(0, 24, rows),
        rng.poisson(1.0, rows),
        rng.exponential(80, rows),
        rng.integers(0, 2, rows),
    ]).astype(numpy.float32)
    risk = x[:, 0] / 60 + 2 * numpy.isin(x[:, 1], [780, 1731, 1761]) + x[:, 3] + x[:, 5] - 4
    y = rng.random(rows) < 1 / (1 + numpy.exp(-risk))
    if missing:
        for column, share in ((0, 0.05), (1, 0.1), (4, 0.4), (5, 0.2)):
            x[rng.random(rows) < share, column] = numpy.nan
    return x, y


def zipped(name, text):
    with gzip.GzipFile(OUT / f"{name}.gz", "wb", mtime=0) as file:
        file.write(text.encode())


def cell(value):
    """A float32 is exact as the shortest text that gives it back."""
    return "" if numpy.isnan(value) else repr(float(value))


def table(name, columns, rows):
    lines = [",".join(columns)] + [",".join(map(cell, row)) for row in rows]
    zipped(name, "\n".join(lines) + "\n")


def write(name, x, margins):
    table(f"{name}.csv", NAMES + ["margin"], [[*row, margin] for row, margin in zip(x, margins)])


def explain(name, model, x, wrap=lambda x: x):
    """The first rows, one with nothing in it, and one of zeros."""
    x = numpy.vstack([x[:EXPLAINED - 2], numpy.full(len(NAMES), numpy.nan), numpy.zeros(len(NAMES))]).astype(numpy.float32)
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    values = explainer.shap_values(wrap(x))
    columns = NAMES + [f"shap.{feature}" for feature in NAMES] + ["expected"]
    table(f"{name}.shap.csv", columns, [[*row, *v, explainer.expected_value] for row, v in zip(x, values)])


def tree(rng, depth):
    """A random tree as the engine writes one; features come again on a path, and no child is without cover."""
    made = {name: [] for name in ("left", "feature", "threshold", "missing_left", "value", "cover")}
    def node(cover):
        for name, number in zip(made, (0, 0, 0.0, 0, float(rng.normal()), cover)):
            made[name].append(number)
    node(5000)
    open_nodes = [(0, 0)]
    while open_nodes:
        at, level = open_nodes.pop()
        cover = made["cover"][at]
        if level == depth or cover < 2 or rng.random() < 0.15:
            continue
        made["left"][at] = len(made["left"])
        made["feature"][at] = int(rng.integers(len(NAMES)))
        made["threshold"][at] = float(numpy.float32(rng.normal()))
        made["missing_left"][at] = int(rng.integers(2))
        to_left = int(rng.integers(1, cover))
        for child in (to_left, cover - to_left):
            open_nodes.append((len(made["left"]), level + 1))
            node(child)
    return made


def kernel(seed):
    rng = numpy.random.default_rng(seed)
    trees = [tree(rng, depth) for depth in (1, 2, 3, 5, 7, 9, 9, 12)]
    x = rng.normal(size=(EXPLAINED, len(NAMES))).astype(numpy.float32)
    x[rng.random(x.shape) < 0.2] = numpy.nan
    def theirs(ours):
        left = numpy.array(ours["left"])
        inner = left > 0
        right = numpy.where(inner, left + 1, -1)
        left = numpy.where(inner, left, -1)
        return {
            "children_left": left, "children_right": right,
            "children_default": numpy.where(numpy.array(ours["missing_left"]) == 1, left, right),
            "features": numpy.array(ours["feature"]), "thresholds": numpy.array(ours["threshold"]),
            "values": numpy.array(ours["value"]).reshape(-1, 1), "node_sample_weight": numpy.array(ours["cover"], float),
        }
    explainer = shap.TreeExplainer({"trees": [theirs(ours) for ours in trees]}, feature_perturbation="tree_path_dependent")
    values = explainer.shap_values(x.astype(numpy.float64))
    rows = [[None if numpy.isnan(v) else float(v) for v in row] for row in x]
    expected = float(numpy.ravel(explainer.expected_value)[0])
    made = {"trees": trees, "rows": rows, "values": values.tolist(), "expected": expected}
    zipped("kernel.json", json.dumps(made))


def pack(path):
    """XGBoost lists every category up to the highest that does not go left, which gzip makes small again."""
    with gzip.GzipFile(f"{path}.gz", "wb", mtime=0) as file:
        file.write(path.read_bytes())
    path.unlink()


def xgb(name, seed, **params):
    kinds = ["c" if i in CATEGORICAL else "float" for i in range(len(NAMES))]
    matrix = lambda x, y=None: xgboost.DMatrix(x, y, feature_names=NAMES, feature_types=kinds, enable_categorical=True)
    params = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 1, **params}
    model = xgboost.train(params, matrix(*draw(4000, True, seed)), 30)
    model.save_model(OUT / f"{name}.json")
    pack(OUT / f"{name}.json")
    x, _ = draw(1200, True, seed + 1)
    write(name, x, model.predict(matrix(x), output_margin=True))
    explain(name, model, x, matrix)


def lgb(name, seed, missing=True, **params):
    params = {"objective": "binary", "num_leaves": 12, "min_data_per_group": 20, "num_threads": 1, "seed": 1,
              "deterministic": True, "verbose": -1, **params}
    x, y = draw(4000, missing, seed)
    data = lightgbm.Dataset(x, y, feature_name=NAMES, categorical_feature=CATEGORICAL)
    model = lightgbm.train(params, data, 30)
    model.save_model(OUT / f"{name}.txt")
    pack(OUT / f"{name}.txt")
    x, _ = draw(1200, True, seed + 1)
    write(name, x, model.predict(x, raw_score=True))
    explain(name, model, x)


OUT.mkdir(exist_ok=True)
xgb("xgb", 1)
xgb("xgb_base", 3, base_score=0.07)
xgb("xgb_raw", 5, objective="binary:logitraw", base_score=0.3, max_cat_to_onehot=1)
lgb("lgb", 7)
lgb("lgb_zero", 9, zero_as_missing=True)
lgb("lgb_none", 11, missing=False)
lgb("lgb_sigmoid", 13, sigmoid=0.7, use_missing=False)
kernel(15)
