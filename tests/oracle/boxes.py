"""The agreement of a detector's boxes with those of the float model: the mean average precision over the IoU thresholds
0.50 to 0.95, as COCO has it, where the float model's boxes with a score of 0.3 or more are the truth."""
import numpy as np

MEASURE = "boxes mAP50-95"
OBJECT, CANDIDATE, SAME = 0.3, 0.05, 0.7
THRESHOLDS = np.arange(0.5, 0.96, 0.05)


def overlaps(a, b):
    """The intersection over union of each box of `a` with each of `b`, all as two corners."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    area = lambda c: (c[:, 2:] - c[:, :2]).prod(-1)
    return both / (area(a)[:, None] + area(b)[None] - both + 1e-9)


def selected(boxes, scores, classes):
    """Non-maximum suppression among boxes of one class."""
    order = np.argsort(-scores, kind="stable")[:1000]
    near = overlaps(boxes[order], boxes[order]) > SAME
    kept = []
    for i in range(len(order)):
        if not any(near[i, k] and classes[order[i]] == classes[order[k]] for k in kept):
            kept.append(i)
    return order[kept]


def detections(output, least):
    """The boxes of one picture as corners, with scores and classes: of a raw head with four numbers and scores of classes
    for each place, [1, 4 + classes, places], or of rows of corners, score and class, [1, boxes, 6]."""
    if output.shape[2] == 6:
        rows = output[0][output[0, :, 4] >= least]
        return rows[:, :4], rows[:, 4], rows[:, 5].round()
    places = output[0].T
    places = places[places[:, 4:].max(1) >= least]
    centre, size, scores = places[:, :2], places[:, 2:4], places[:, 4:]
    boxes, best, classes = np.hstack([centre - size / 2, centre + size / 2]), scores.max(1), scores.argmax(1)
    kept = selected(boxes, best, classes)
    return boxes[kept], best[kept], classes[kept]


def hits(truth, found):
    """For each box found, by score: the score, and at which thresholds it is the first to match a true box."""
    (boxes, _, classes), (own, scores, labels) = truth, found
    near = overlaps(own, boxes) * (labels[:, None] == classes[None])
    order, right = np.argsort(-scores, kind="stable"), np.zeros((len(own), len(THRESHOLDS)), bool)
    for level, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(boxes), bool)
        for i in order:
            if free.any() and (near[i] * free).max() >= threshold:
                free[(near[i] * free).argmax()], right[i, level] = False, True
    return list(zip(scores, right))


def average_precision(right, expected):
    """The precision averaged over 101 levels of recall, that of a level being the highest at this recall or above."""
    count = np.cumsum(right)
    precision, recall = count / np.arange(1, len(right) + 1), count / expected
    return np.mean([precision[recall >= level].max(initial=0) for level in np.linspace(0, 1, 101)])


def agreement(truth, found):
    """The agreement of all pictures in percent."""
    expected = [detections(t, OBJECT) for t in truth]
    ranked = [hit for t, f in zip(expected, found) for hit in hits(t, detections(f, CANDIDATE))]
    ranked.sort(key=lambda hit: -hit[0])
    right = np.array([hit[1] for hit in ranked]).reshape(-1, len(THRESHOLDS))
    return 100 * np.mean([average_precision(level, sum(len(t[0]) for t in expected)) for level in right.T])
