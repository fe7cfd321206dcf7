"""Writes tests/golden/metrics.json: metrics and bootstrap intervals by scikit-learn and numpy, for tests/train/test_metrics.c.

The bootstrap draws the same groups as src/train/bootstrap.c (Philox by index, tools/oracle/philox.py) and repeats the films of each drawn group,
so that scikit-learn sees a plain, unweighted resample.
"""
import json
import pathlib
import warnings

import numpy as np
from sklearn import metrics as sk

import philox

warnings.filterwarnings("ignore")
ECE_BINS = 15
NAMES = ["accuracy", "f1", "sensitivity", "specificity", "auroc", "auprc", "brier", "ece"]


def ece(y, p, bins=ECE_BINS):
    """Guo et al. 2017, for the probability of the positive class: sum over bins of share * |mean p - mean y|."""
    index = np.minimum(np.floor(p * bins).astype(int), bins - 1)
    return sum(np.mean(index == b) * abs(p[index == b].mean() - y[index == b].mean()) for b in range(bins) if np.any(index == b))


def binary(y, p, predicted):
    both = len(np.unique(y)) == 2
    any_positive = np.any(y == 1) or np.any(predicted)
    return [
        sk.accuracy_score(y, predicted) if len(y) else None,
        sk.f1_score(y, predicted) if any_positive else None,
        sk.recall_score(y, predicted) if np.any(y == 1) else None,
        sk.recall_score(y, predicted, pos_label=0) if np.any(y == 0) else None,
        sk.roc_auc_score(y, p) if both else None,
        sk.average_precision_score(y, p) if both else None,
        sk.brier_score_loss(y, p, pos_label=1) if len(y) else None,
        ece(y, p) if len(y) else None,
    ]


def draws_of(groups, draws, seed):
    """Indices of the drawn groups, one row a draw: cx_rng_below with its rejection."""
    skip = (2**32 - groups) % groups
    for b in range(draws):
        w = philox.words(seed, philox.fnv1a("bootstrap"), np.arange(b << 32, (b << 32) + groups // 2 + 64, dtype=np.uint64)).reshape(-1)
        yield (w[w >= skip] % np.uint32(groups))[:groups].astype(int)


def resamples(group, draws, seed):
    """Film indices of every draw."""
    _, dense = np.unique(group, return_inverse=True)
    films = [np.flatnonzero(dense == g) for g in range(dense.max() + 1)]
    for chosen in draws_of(len(films), draws, seed):
        yield np.concatenate([films[g] for g in chosen])


def intervals(values, table):
    """[value, lo, hi] each; undefined draws left out."""
    out = []
    for k, v in enumerate(values):
        defined = [row[k] for row in table if row[k] is not None]
        out.append([None] * 3 if v is None else [v, *np.percentile(defined, [2.5, 97.5])] if defined else [v, None, None])
    return out


def youden(y, p):
    """Midpoint below the threshold of roc_curve with the largest J; None where no threshold lies between two scores."""
    if len(np.unique(y)) < 2 or len(np.unique(p)) < 2:
        return 0.5
    fpr, tpr, t = sk.roc_curve(y, p, drop_intermediate=False)
    negatives, positives = int(np.sum(y == 0)), int(np.sum(y == 1))
    j = np.rint(tpr * positives) * negatives - np.rint(fpr * negatives) * positives
    i = 1 + int(np.argmax(j[1:-1]))
    return t[i + 1] + (t[i] - t[i + 1]) / 2


def binary_case(name, y, p, group, threshold, draws, seed):
    y, p, group = np.asarray(y), np.asarray(p, float), np.asarray(group)
    keep = y >= 0
    yk, pk, gk = y[keep], p[keep], group[keep]
    predicted = (pk >= threshold).astype(int)
    table = [binary(yk[i], pk[i], predicted[i]) for i in resamples(gk, draws, seed)] if draws and len(np.unique(gk)) > 1 else []
    tn, fp, fn, tp = sk.confusion_matrix(yk, predicted, labels=[0, 1]).ravel()
    return dict(name=name, y=y.tolist(), p=p.tolist(), group=group.tolist(), threshold=threshold, draws=draws, seed=seed, youden=youden(yk, pk),
                counts=[int(tn), int(fp), int(fn), int(tp)], expect=dict(zip(NAMES, intervals(binary(yk, pk, predicted), table))))


def multi(y, p):
    classes = p.shape[1]
    predicted = np.argmax(p, 1)
    every = len(np.unique(y)) == classes
    macro = np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in range(classes)]) if every else None
    rest = [binary((y == c).astype(int), p[:, c], (predicted == c).astype(int)) for c in range(classes)]
    return [sk.accuracy_score(y, predicted), sk.f1_score(y, predicted, average="macro"), macro] + sum(rest, [])


def multi_case(name, y, p, group, draws, seed):
    y, p, group = np.asarray(y), np.asarray(p), np.asarray(group)
    keep = y >= 0
    yk, pk, gk = y[keep], p[keep], group[keep]
    classes = p.shape[1]
    values = multi(yk, pk)
    if len(np.unique(yk)) == classes:
        assert abs(values[2] - sk.roc_auc_score(yk, pk, multi_class="ovr", average="macro")) < 1e-12
    table = [multi(yk[i], pk[i]) for i in resamples(gk, draws, seed)] if draws else []
    out = intervals(values, table)
    return dict(name=name, y=y.tolist(), p=p.tolist(), group=group.tolist(), draws=draws, seed=seed,
                confusion=sk.confusion_matrix(yk, np.argmax(pk, 1), labels=range(classes)).tolist(), accuracy=out[0], macro_f1=out[1], macro_auroc=out[2],
                per_class=[dict(zip(NAMES, out[3 + 8 * c:11 + 8 * c])) for c in range(classes)])


def clean(x):
    """NaN is written as null, numpy numbers as Python's."""
    if isinstance(x, dict):
        return {k: clean(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [clean(v) for v in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not np.isfinite(x) else x


def main():
    r = np.random.default_rng(20)

    def films(n, share, noise, decimals=None):
        y = (r.random(n) < share).astype(int)
        p = 1 / (1 + np.exp(-(1.5 * y - 0.75 + noise * r.standard_normal(n))))
        return y, p if decimals is None else np.round(p, decimals)

    def patients(n):
        return np.repeat(np.arange(n) * 7 - 50, r.integers(1, 6, n))[:n]

    cases = []
    y, p = films(300, 0.4, 1)
    cases.append(binary_case("random", y, p, patients(300), 0.5, 200, 1))
    cases.append(binary_case("own group each", y, p, np.arange(300), 0.37, 100, 2**40 + 3))
    y, p = films(200, 0.5, 1.5, 1)
    cases.append(binary_case("tied, threshold on a score", y, p, patients(200), 0.6, 200, 2))
    y, p = films(150, 0.3, 1, 0)
    cases.append(binary_case("two scores", y, p, patients(150), 1.0, 100, 3))
    cases.append(binary_case("constant", [0, 1, 1, 0, 1], [0.25] * 5, [1, 1, 2, 3, 4], 0.5, 100, 4))
    y, p = films(800, 0.006, 1)
    y[:4] = 1
    cases.append(binary_case("imbalanced", y, p, patients(800), 0.5, 200, 5))
    cases.append(binary_case("two films", [0, 1], [0.2, 0.9], [5, 9], 0.5, 50, 6))
    cases.append(binary_case("three films, inverted", [1, 0, 1], [0.1, 0.9, 0.1], [2, 1, 2], 0.5, 50, 7))
    cases.append(binary_case("one film", [1], [0.7], [0], 0.5, 50, 8))
    cases.append(binary_case("one group", [1, 0, 1], [0.7, 0.1, 0.3], [4, 4, 4], 0.5, 50, 9))
    cases.append(binary_case("negatives only", [0, 0, 0, 0], [0.7, 0.1, 0.3, 0.2], [1, 2, 3, 4], 0.5, 50, 10))
    cases.append(binary_case("positives only, none found", [1, 1, 1], [0.3, 0.1, 0.2], [1, 2, 3], 0.5, 50, 11))
    cases.append(binary_case("perfect", [0] * 20 + [1] * 20, np.linspace(0, 1, 40), np.arange(40) // 3, 0.5, 100, 12))
    y, p = films(250, 0.4, 1)
    y[r.random(250) < 0.3] = -1
    cases.append(binary_case("unlabelled left out", y, p, patients(250), 0.5, 150, 13))
    edges = np.concatenate([np.arange(16) / 15, [0, 1, 0.5, np.nextafter(0.2, 0), np.nextafter(0.2, 1), 1e-300, 1 - 2**-53]])
    cases.append(binary_case("edges of bins", np.arange(len(edges)) % 2, edges, np.arange(len(edges)), 0.2, 100, 14))
    y = r.integers(0, 2, 60)
    close = 0.5 + (r.integers(0, 4, 60) + y) * 2.0**-53
    cases.append(binary_case("neighbours of the last bit", y, close, np.arange(60) // 2, 0.5 + 2.0**-53, 100, 15))

    def softmax(n, classes, share, decimals=None):
        y = r.choice(classes, n, p=share)
        z = 1.2 * np.eye(classes)[y] + r.standard_normal((n, classes))
        q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        if decimals is not None:            # tied, and still summing to 1 exactly enough for scikit-learn
            q = np.round(q * decimals) / decimals
            q[:, -1] = 1 - q[:, :-1].sum(1)
            q = np.clip(q, 0, 1)
        return y, q

    several = []
    y, q = softmax(200, 3, [0.5, 0.3, 0.2])
    several.append(multi_case("three classes", y, q, patients(200), 100, 21))
    y, q = softmax(120, 4, [0.4, 0.3, 0.2, 0.1], 4)
    several.append(multi_case("tied", y, q, patients(120), 100, 22))
    y, q = softmax(100, 5, [0.6, 0.2, 0.1, 0.08, 0.02])
    y[:30] = -1
    several.append(multi_case("rare and unlabelled", y, q, np.arange(100) // 2, 100, 23))
    y, q = softmax(60, 4, [0.5, 0.5, 0, 0])
    several.append(multi_case("absent classes", y, q, np.arange(60), 50, 24))
    several.append(multi_case("no draws", y, q, np.arange(60), 0, 25))

    out = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "metrics.json"
    out.write_text(json.dumps(clean(dict(binary=cases, multi=several)), separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
