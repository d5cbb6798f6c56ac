"""What can be told of a child without training it: cheap scores that say a little about its later accuracy.

`parameters`      the number of trained weights.
`gradient_norm`   minus the norm of the gradient at the initial weights (Abdelfattah et al. 2021, arXiv 2101.08134,
                  who count it the other way round, for long trainings; in a short one steep children learn least).
`naswot`          how differently the ReLUs see the images of a batch: the log-determinant of the matrix of agreements
                  between their binary codes (Mellor et al. 2021, arXiv 2006.04647).
"""

import numpy as np

from nasnet_keras.checks import check_one_of


def parameters(child, images, labels):
    """The number of trained weights."""
    return float(sum(weight.size for weight in child.program.weights if weight.trainable))


def gradient_norm(child, images, labels):
    """Minus the norm of the gradient of the mean cross-entropy."""
    _, gradients = child.loss_and_gradient(images, labels)
    return -float(np.sqrt(sum(np.sum(np.square(gradient, dtype=np.float64)) for gradient in gradients)))


def naswot(child, images, labels):
    """log |det K|, where K[i, j] counts the ReLUs on which the different images i and j agree."""
    # Equal images would be equal rows, and the determinant 0 whatever the network.
    images = np.stack(list({image.tobytes(): image for image in images}.values()))
    agreements = np.zeros((len(images), len(images)))
    for values in child.activations(images):
        code = (values.reshape(len(values), -1) > 0).astype(np.float32)
        agreements += code @ code.T + (1 - code) @ (1 - code).T
    return float(np.linalg.slogdet(agreements)[1])


SCORES = {"parameters": parameters, "gradient_norm": gradient_norm, "naswot": naswot}


def score(name, child, images, labels):
    """A cheap score of an untrained child; more is better.

    Args:
        name: a name from `SCORES`.
        child: a `child.BaseChild`.
        images: a batch, as for `train_step`.
        labels: its labels.

    Raises:
        ValueError: an unknown name.
    """
    check_one_of("score", name, SCORES)
    return SCORES[name](child, images, labels)
