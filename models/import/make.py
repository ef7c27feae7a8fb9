"""Makes tests/import: models of XGBoost 3.2.0 and LightGBM 4.7.0 with their own raw margins.

    python3 models/import/make.py
"""
import gzip
import pathlib

import lightgbm
import numpy
import xgboost

OUT = pathlib.Path(__file__).parents[2] / "tests" / "import"
NAMES = ["amount_major", "merchant.mcc_number", "hour_utc", "card.count_1h", "distance_from_home_km", "is_foreign"]
CATEGORICAL = [1]


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


def write(name, x, margins):
    """Margins in full precision; a float32 is exact as the shortest text that gives it back."""
    cell = lambda v: "" if numpy.isnan(v) else repr(float(v))
    lines = [",".join(NAMES + ["margin"])]
    lines += [",".join([cell(v) for v in row] + [repr(float(m))]) for row, m in zip(x, margins)]
    with gzip.GzipFile(OUT / f"{name}.csv.gz", "wb", mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())


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


OUT.mkdir(exist_ok=True)
xgb("xgb", 1)
xgb("xgb_base", 3, base_score=0.07)
xgb("xgb_raw", 5, objective="binary:logitraw", base_score=0.3, max_cat_to_onehot=1)
lgb("lgb", 7)
lgb("lgb_zero", 9, zero_as_missing=True)
lgb("lgb_none", 11, missing=False)
lgb("lgb_sigmoid", 13, sigmoid=0.7, use_missing=False)
