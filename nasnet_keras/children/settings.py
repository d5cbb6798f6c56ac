"""Genotype and data in, reward out: how the children of a search are built, trained and judged.

The settings are a value that needs no framework. Keras is imported where a child is made, so that settings can be
checked before it is loaded.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from nasnet_keras.checks import check_integer, check_one_of, take_integers
from nasnet_keras.children.scores import SCORES
from nasnet_keras.program.architecture import LEAST_FILTERS, STEMS, Architecture
from nasnet_keras.training import recipes

EVALUATIONS = ("independent", "shared")
BACKENDS = {"tensorflow": 2, "jax": 1}  # where children train at once; counted up whenever their last bits change
AT_ONCE = 500  # validation images, at most, see `judged_at_once`


@dataclass(frozen=True)
class ChildSettings:
    """How a child is built and trained, the same for every child of a search; and the means to do it.

    Args:
        repeats: Normal cells a stack, or a tuple with one number for each stack.
        filters: F of the first stack.
        epochs: epochs that a child trains for.
        recipe: a name from `recipes.RECIPES`.
        batch_size: images a step, None for the recipe's.
        stem: `"cifar"` or `"imagenet"`.
        evaluation: `"independent"`, each child trains from its own weights; or `"shared"`, from those that all children
            have in common, see `shared_weights.SharedEvaluation`.
        shared_steps: steps that a child with shared weights trains for, instead of `epochs`.
        screen: None, or a name from `scores.SCORES`: children with a low score are not trained, see `screening.check`.
        screen_share: share of random cells that a child has to beat.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import ChildSettings
        >>> ChildSettings(repeats=1, filters=8, epochs=3).stem
        'cifar'
    """

    repeats: int | tuple[int, ...] = 1
    filters: int = 8
    epochs: int = 1
    recipe: str = "micro"
    batch_size: int | None = None
    stem: str = "cifar"
    evaluation: str = "independent"
    shared_steps: int = 10
    screen: str | None = None
    screen_share: float = 0.3

    def __post_init__(self):
        take_integers(self, "repeats", "filters", "epochs", "shared_steps", "batch_size")
        stacks = self.repeats if isinstance(self.repeats, tuple) else (self.repeats,)
        numbers = {
            "filters": self.filters,
            "epochs": self.epochs,
            "shared_steps": self.shared_steps,
            "batch_size": 1 if self.batch_size is None else self.batch_size,
        }
        for name, value in (*numbers.items(), *(("repeats", count) for count in stacks)):
            check_integer(name, value, least=1)
        check_one_of("recipe", self.recipe, recipes.RECIPES)
        check_one_of("stem", self.stem, STEMS)
        check_one_of("evaluation", self.evaluation, EVALUATIONS)
        check_one_of("screen", self.screen, SCORES, optional=True)
        if not 0 <= self.screen_share <= 1:
            raise ValueError(f"`screen_share` must be a share from 0 to 1. Received: {self.screen_share!r}")
        if (self.evaluation == "shared" or self.screen) and not self.training_recipe().is_plain:
            raise ValueError(
                "`evaluation='shared'` and `screen` need children of the recipes with plain gradient descent. "
                f"Received: `recipe` {self.recipe!r}"
            )

    def check_use(self):
        """Raise `ValueError` where a setting would do nothing beside the others.

        Not when it is made: an earlier version let a search begin with such a setting, and the search may go on.
        """
        if self.evaluation == "shared" and self.epochs != ChildSettings.epochs:
            rule = "left out where `evaluation` is shared: `shared_steps` says how long children train"
            raise ValueError(f"`epochs` must be {rule}. Received: {self.epochs}")
        needs = {
            "shared_steps": ("`evaluation` shared", self.evaluation == "shared"),
            "screen_share": ("`screen`", self.screen),
        }
        for name, (needed, is_there) in needs.items():
            value = getattr(self, name)
            if value != getattr(ChildSettings, name) and not is_there:
                raise ValueError(f"`{name}` needs {needed}, and does nothing without. Received: {value!r}")

    def architecture(self, genotype, data):
        """The `Architecture` of a genotype's child for images of this data."""
        return Architecture(
            genotype,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
            classifier_activation="sigmoid" if data.several else "softmax",
            class_names=data.class_names,
            grey_range=data.grey_range,
        )

    def training_recipe(self):
        """The `recipes.Recipe` with this batch size."""
        return recipes.recipe(self.recipe, batch_size=self.batch_size)

    def is_interpreted(self):
        """Whether these children train as a `child.BaseChild`: at once, and with the same result every time.

        It knows plain gradient descent only; what a recipe wants beyond that needs the ordinary network.
        """
        import keras

        return self.training_recipe().is_plain and keras.backend.backend() in BACKENDS

    def build(self, genotype, data, seed):
        """The untrained network of a genotype for images of this data, its weights drawn from `seed`."""
        from nasnet_keras.models.network import NASNet
        from nasnet_keras.models.seeds import drawn_from

        with drawn_from(seed):
            return NASNet.of(self.architecture(genotype, data), dtype="float32")

    def sizes(self, genotype, data):
        """`parameters` and `multiply_adds` of a child, without making it."""
        return sizes_of(self.architecture(genotype, data).program(), data)

    def at_cost(self, genotype, data, multiply_adds):
        """These settings with as many filters as bring a genotype's network nearest to a number of multiply-adds."""

        def cost(filters):
            return replace(self, filters=filters).sizes(genotype, data)["multiply_adds"]

        least = most = LEAST_FILTERS[self.stem]
        while cost(most) < multiply_adds:
            most *= 2
        above = least + bisect_left(range(least, most), multiply_adds, key=cost)
        near = min(max(least, above - 1), above, key=lambda count: abs(cost(count) - multiply_adds))
        return replace(self, filters=near)

    def evaluate(self, genotype, data, seed, on_epoch=None, among=None):
        """Train a child and judge it.

        Args:
            genotype: a `Genotype`.
            data: a `Data`; `train` is learnt from and `validation` gives the reward.
            seed: seed of the weights and of the order of the images.
            on_epoch: called after every epoch with its number, from 1, and the accuracy on the validation images (of
                several labels an image their mean average precision, as for the reward);
                true ends the training here.
            among: with `screen`, a tuple of the genotypes that the child is compared with.

        Returns:
            `{"reward": float, "parameters": int, "multiply_adds": int}`.

        Raises:
            FloatingPointError: the loss or the reward is not finite.
            screening.ScreenedOut: the child is not worth training.
            ValueError: `screen` without `among`.
        """
        from nasnet_keras.children.screening import check

        if not self.is_interpreted():
            return self._compiled(genotype, data, seed, on_epoch)
        if self.screen:
            check(self, genotype, data, seed, among)
        watch = on_epoch and (lambda child, epoch: on_epoch(epoch, accuracy(child, data.validation)))
        child = self.train_interpreted(genotype, data, seed, self.epochs, watch=watch)
        return {"reward": reward(accuracy(child, data.validation)), **sizes_of(child.program, data)}

    def steps(self, data, epochs):
        """Steps of a training."""
        return epochs * max(1, len(data.train) // self.training_recipe().batch_size)

    def batches(self, data, seed):
        """The training images as batches; each depends on nothing but the seed, the epoch and its number."""
        from nasnet_keras.training.fitting import training_batches

        return training_batches(data, self.training_recipe(), seed)

    def start(self, genotype, data, seed, steps):
        """An untrained `child.BaseChild`.

        Args:
            genotype: a `Genotype`.
            data: a `Data`.
            seed: seed of the initial weights.
            steps: length of the training, at the end of which the rate is 0; None for a constant rate.

        Raises:
            ValueError: on another backend than TensorFlow and JAX.
        """
        import keras

        from nasnet_keras.children.optimizer import Optimizer

        backend = keras.backend.backend()
        if backend == "tensorflow":
            from nasnet_keras.children.tensorflow_child import Child
        elif backend == "jax":
            from nasnet_keras.children.jax_child import Child
        else:
            raise ValueError(f"`evaluation='shared'` and `screen` need Keras on TensorFlow or JAX. Received: {backend}")
        recipe = self.training_recipe()
        optimizer = Optimizer(
            recipe.learning_rate, steps, recipe.momentum, nesterov=recipe.nesterov, clip_norm=recipe.clip_norm
        )
        return Child(self.architecture(genotype, data), seed=seed, optimizer=optimizer)

    def train_interpreted(self, genotype, data, seed, epochs, callback=None, watch=None):
        """Train a `child.BaseChild`; `callback` is a Keras callback whose hooks are called.

        `watch(child, epoch)` is called after every epoch, counted from 1; true ends the training.

        Returns:
            The trained child.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        import keras

        from nasnet_keras.data.batches import readable
        from nasnet_keras.training.fitting import check_loss

        callback = callback or keras.callbacks.Callback()
        batches = self.batches(data, seed)
        child = self.start(genotype, data, seed, len(batches) * epochs)
        callback.set_params({"steps": len(batches), "epochs": epochs})
        callback.on_train_begin()
        for epoch in range(epochs):
            batches.epoch = epoch
            callback.on_epoch_begin(epoch)
            for index in range(len(batches)):
                loss = child.train_step(*readable(batches[index]))
                callback.on_train_batch_end(index)
            check_loss(float(loss), epoch)
            callback.on_epoch_end(epoch)
            if watch and watch(child, epoch + 1):
                break
        return child

    def _compiled(self, genotype, data, seed, on_epoch):
        """The same by the ordinary network, for recipes with more than plain gradient descent."""
        from nasnet_keras.children.graphs import released_graphs

        with released_graphs():
            return self._evaluate_network(genotype, data, seed, on_epoch)

    def _evaluate_network(self, genotype, data, seed, on_epoch):
        import keras

        from nasnet_keras.children.threads import use_one_thread
        from nasnet_keras.models.counting import multiply_adds
        from nasnet_keras.training.figures import judged
        from nasnet_keras.training.fitting import evaluate, fit

        if keras.backend.backend() == "tensorflow":
            use_one_thread()
        model = self.build(genotype, data, seed)

        def watch(epoch, logs):
            if on_epoch(epoch + 1, judged(evaluate(model, data.validation))[1]):
                model.stop_training = True

        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=watch)] if on_epoch else []
        recipe = self.training_recipe()
        fit(model, data, recipe, epochs=self.epochs, seed=seed, validate=False, callbacks=callbacks)
        figures = {"reward": reward(judged(evaluate(model, data.validation))[1])}
        return {**figures, "parameters": model.count_params(), "multiply_adds": multiply_adds(model)}


def judged_at_once(split):
    """How many of a split's images a child judges together: 500 up to 90×90 pixels, then fewer.

    The stem's output of 500 images of 224 pixels would alone take 2.4 GB.
    """
    from nasnet_keras.training.fitting import images_at_a_time

    return images_at_a_time(split.images.shape[1:], AT_ONCE)


def accuracy(child, split, at_once=None, **options):
    """Share of a split's images that a trained `child.BaseChild` classifies right; None where there are none.

    Of several labels an image it is their mean average precision, for which all answers are kept.

    Args:
        child: the child; `options` are further arguments of its `logits`.
        split: a `Split`; files are read batch by batch.
        at_once: how many images are judged together; None: `judged_at_once`.

    Raises:
        OSError: none of them can be read, or none of the last ones: a share of the others would be another figure.
    """
    from nasnet_keras.data.batches import Batches, readable

    if not len(split):
        return None
    batches = Batches(split, at_once or judged_at_once(split))
    batches.needed = True
    found = [(child.logits(images, **options), labels) for images, labels in map(readable, batches) if len(labels)]
    return child.accuracy_of(*map(np.concatenate, zip(*found, strict=True))) if found else None


def reward(accuracy):
    """The reward of a child: its accuracy on the held-out validation images (section 3.2 of the paper).

    Args:
        accuracy: the validation accuracy after training; of several labels an image their mean average precision.

    Raises:
        FloatingPointError: a figure that is not finite.
        ValueError: None, as no validation image has a label.
    """
    if accuracy is None:
        raise ValueError("`validation` must have images with labels. Received: none")
    if not math.isfinite(accuracy):
        raise FloatingPointError(f"the validation accuracy is {accuracy}")
    return float(accuracy)


def sizes_of(program, data):
    """`parameters` and `multiply_adds` of a child's `Program`."""
    return {
        "parameters": sum(weight.size for weight in program.weights),
        "multiply_adds": program.multiply_adds(data.image_shape[:2]),
    }


def numerics():
    """What the last digits of a reward depend on beside settings and seed, such as `"tensorflow/2"`."""
    import keras

    backend = keras.backend.backend()
    return f"{backend}/{BACKENDS.get(backend, 1)}"


def child_seed(seed, trial_id):
    """The seed of a trial's child, from the search's seed and the trial's id."""
    text = f"{seed}/{trial_id}".encode()
    return int(np.random.SeedSequence(list(text)).generate_state(1)[0] >> 1)
