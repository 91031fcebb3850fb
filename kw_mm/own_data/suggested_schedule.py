"""How long to train on a set of a given size: rules of thumb, not measured.

COCO's 1x schedule shows 12 times 117,000 images. A smaller set needs more epochs, as a detector
that starts from ImageNet weights needs some thousands of steps to learn its boxes, however few
images there are; and at some point it only learns these few by heart.
"""

import math
from dataclasses import dataclass

LEAST_EPOCHS = 12  # COCO's 1x
MOST_EPOCHS = 100
LEAST_SHOWN = 20_000  # images, counted as often as they are shown
LONGEST_WARM_UP = 500  # iterations, as for COCO
EVALUATIONS = 10


@dataclass(frozen=True)
class Schedule:
    """A training schedule.

    Args:
        epochs: How often each image is shown.
        iterations: Of all epochs together.
        warm_up: Iterations of rising learning rate.
        steps: Epochs after which the learning rate falls to a tenth.
        interval: Epochs between evaluations and checkpoints.
    """

    epochs: int
    iterations: int
    warm_up: int
    steps: tuple[int, int]
    interval: int


def suggest_schedule(images: int, batch_size: int) -> Schedule:
    """The schedule for a set.

    Epochs are chosen so that 20,000 images are shown, with at least 12 epochs and at most 100. The
    learning rate falls at 2/3 and 11/12 of them, as in the 1x schedule; the warm-up takes a tenth
    of the run, at most the 500 iterations of 1x; there are 10 evaluations.

    Args:
        images: Number of training images.
        batch_size: Images in a step.
    """
    epochs = min(max(math.ceil(LEAST_SHOWN / images), LEAST_EPOCHS), MOST_EPOCHS)
    iterations = epochs * math.ceil(images / batch_size)
    return Schedule(
        epochs,
        iterations,
        warm_up=min(LONGEST_WARM_UP, max(1, iterations // 10)),
        steps=(epochs * 2 // 3, epochs * 11 // 12),
        interval=max(1, epochs // EVALUATIONS),
    )
